import { createPrivateKey, X509Certificate } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'
import { syncFolder } from '@central-backup/archive'
import {
  digestOf,
  extendTrust,
  formatKeyFile,
  formatTrust,
  type Identity,
  identityFromAltNames,
  isIssuedBy,
  type MessageOf,
  type TrustOffer,
} from '@central-backup/protocol'
import type { AgentSettings } from '../settings.ts'
import { writeWhole } from '../whole-file.ts'
import { type HostCertificates, readHostCertificates } from './read.ts'

const serverAuthentication = '1.3.6.1.5.5.7.3.1'

/**
 * The certificates of an agent, in its files and in use. What a server sends is written only where an authority that is
 * trusted already has signed it. Changes come one after the other, whichever sessions ask for them.
 */
export class CertificateStore {
  #settings: AgentSettings
  #current: HostCertificates
  readonly #onChange: (certificates: HostCertificates) => void
  #queue: Promise<unknown> = Promise.resolve()

  /** Reads the files; throws as `readHostCertificates`. `onChange` is told what is to be used from then on. */
  constructor(settings: AgentSettings, onChange: (certificates: HostCertificates) => void) {
    this.#settings = settings
    this.#current = readHostCertificates(settings)
    this.#onChange = onChange
  }

  get current(): HostCertificates {
    return this.#current
  }

  /** Reads the files anew, with other settings. Throws as `readHostCertificates`, and then changes nothing. */
  reload(settings: AgentSettings): void {
    const current = readHostCertificates(settings)
    this.#onChange(current)
    this.#settings = settings
    this.#current = current
  }

  /** What the server is told. */
  describe(fault?: string): MessageOf<'trusted'> {
    const { trust, certificate } = this.#current
    const told: MessageOf<'trusted'> = {
      type: 'trusted',
      authorities: trust.authorities.map(digestOf),
      lists: [...trust.lists].map(([authority, { number }]) => ({
        authority: Buffer.from(authority, 'hex'),
        number,
      })),
      certificate: digestOf(certificate),
    }
    return fault === undefined ? told : { ...told, fault }
  }

  /** Takes what of the offer the authorities have signed. Returns what was refused, and what has changed, for the log. */
  updateTrust(offer: TrustOffer, nowMs: number): Promise<{ faults: string[]; changes: string[] }> {
    return this.#alone(async () => {
      const { trust: before, certificate } = this.#current
      const { trust, faults } = extendTrust(before, offer, certificate, nowMs)
      const changes = describeChanges(before, trust)
      if (changes.length > 0) {
        const { certificates, lists } = formatTrust(trust)
        const { ca, revoked } = this.#settings.tls
        try {
          // The lists first: an authority that they send away is not trusted from then on, whatever the other file has.
          if (lists !== formatTrust(before).lists) await this.#write(revoked, lists)
          if (certificates !== formatTrust(before).certificates) await this.#write(ca, certificates)
        } finally {
          // What could be written counts, also where the rest could not.
          this.reload(this.#settings)
        }
      }
      return { faults, changes }
    })
  }

  /** Throws where a new key and certificate could not be put in the place of the old ones. */
  requireWritable(): void {
    const { key, certificate } = this.#settings.tls
    for (const file of [key, certificate]) accessSync(dirname(file), constants.W_OK)
  }

  /**
   * Takes a certificate (DER) for a new key (PEM) of this host: both at once, as the file of the key has both from then
   * on. Returns why it is refused, or `null`.
   */
  takeCertificate(key: string, der: Buffer, nowMs: number): Promise<string | null> {
    return this.#alone(async () => {
      const fault = findCertificateFault(der, key, this.#settings.name, this.#current, nowMs)
      if (fault !== null) return fault
      const certificate = new X509Certificate(der).toString()
      const { tls } = this.#settings
      await this.#write(tls.key, formatKeyFile(key, certificate))
      try {
        if (tls.certificate !== tls.key) await this.#write(tls.certificate, certificate)
      } finally {
        this.reload(this.#settings)
      }
      return null
    })
  }

  async #write(path: string, content: string): Promise<void> {
    await writeWhole(path, content)
    await syncFolder(dirname(path))
  }

  /** After all that was begun before, however that ended. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work, work)
    this.#queue = turn.catch(() => {})
    return turn
  }
}

/** What keeps a certificate from being the one of this host and this key; `null` for nothing. */
export function findCertificateFault(
  der: Buffer,
  key: string,
  host: string,
  { trust, credentials }: Pick<HostCertificates, 'trust' | 'credentials'>,
  nowMs: number,
): string | null {
  let certificate: X509Certificate
  let identity: Identity
  try {
    certificate = new X509Certificate(der)
    identity = identityFromAltNames(certificate.subjectAltName)
  } catch {
    return 'it is no certificate, or names nobody of central-backup'
  }
  if (!certificate.checkPrivateKey(createPrivateKey(key)))
    return 'it is for another key than the one that was made'
  if (identity.role !== 'host' || identity.name !== host) return `it is for ${identity.role} ${identity.name}`
  if (certificate.ca || certificate.keyUsage?.join() !== serverAuthentication)
    return 'it is good for other things than to accept connections'
  if (!trust.authorities.some((authority) => isIssuedBy(certificate, authority)))
    return 'no authority that is trusted here has issued it'
  if (credentials.revoked?.has(certificate.serialNumber)) return 'it is revoked'
  if (certificate.validFromDate.getTime() > nowMs || certificate.validToDate.getTime() <= nowMs)
    return `it is not valid now: it is from ${certificate.validFrom} to ${certificate.validTo}, and the clock here says ${new Date(nowMs).toISOString()}`
  return null
}

function describeChanges(before: HostCertificates['trust'], after: HostCertificates['trust']): string[] {
  const has = (trust: HostCertificates['trust'], one: X509Certificate) =>
    trust.authorities.some(({ raw }) => raw.equals(one.raw))
  const added = after.authorities.filter((one) => !has(before, one))
  const gone = before.authorities.filter((one) => !has(after, one))
  const lists = [...after.lists].filter(([key, { number }]) => before.lists.get(key)?.number !== number)
  return [
    ...added.map(({ subject }) => `a new authority is trusted: ${subject}`),
    ...gone.map(({ subject }) => `an authority is trusted no more: ${subject}`),
    ...lists.map(([, { number, revoked }]) => `revocation list ${number}, of ${revoked.size} certificates`),
  ]
}
