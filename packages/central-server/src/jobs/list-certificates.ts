import type { X509Certificate } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Identity, identityFromAltNames, listOf, type Trust } from '@central-backup/protocol'
import {
  certificatePaths,
  hostCertificatePath,
  issuerOf,
  readCertificate,
  readIssued,
  readServerCertificate,
  readServerTrust,
} from '../pki/folder.ts'
import { type HostProgress, progressOf, readHostTrust } from '../pki/host-trust.ts'
import { isRenewalDue } from '../pki/renewal.ts'

const dayMs = 86_400_000

/**
 * How a certificate stands. `due`: good, and to be renewed. `replaced`: still taken, but its owner has a newer one.
 * `leaving`: an authority that is trusted only until the change to the next one is done. `untrusted`: of no authority that
 * is trusted now.
 */
export type CertificateState =
  | 'good'
  | 'due'
  | 'replaced'
  | 'leaving'
  | 'revoked'
  | 'expired'
  | 'not-yet-valid'
  | 'untrusted'

export interface KnownCertificate {
  role: 'authority' | Identity['role']
  name: string
  /** Hexadecimal, as revocation lists have it. */
  serial: string
  notBeforeMs: number
  notAfterMs: number
  /** Whole days until it expires; negative afterwards. */
  daysLeft: number
  state: CertificateState
  /** Whether it is in use, as far as is known here. */
  current: boolean
  /** The name of the authority that has issued it; `null` where that is not trusted. */
  issuer: string | null
  file: string
  /** Of a host's current one: what the host was last seen to trust; `null` where it was not asked yet. */
  host: HostProgress | null
  certificate: X509Certificate
}

export interface CertificateList {
  certificates: KnownCertificate[]
  /** What is revoked without a certificate of it being here. */
  otherRevoked: { serial: string; sinceMs: number }[]
  /** Number of the newest revocation list; `null` for none. */
  listNumber: number | null
  /** Whether the change to another authority is under way. */
  changing: boolean
}

interface Context {
  trust: Trust
  revoked: ReadonlyMap<string, number>
  nowMs: number
}

/**
 * All certificates that are known here: those of the authorities, of the server and of each host that are in use, and
 * earlier ones that would still be taken. Throws `CertificateError` where the authorities cannot be read.
 */
export async function listCertificates(certs: string, nowMs: number): Promise<CertificateList> {
  const trust = await readServerTrust(certs)
  const revoked = new Map([...trust.lists.values()].flatMap((list) => [...list.revoked]))
  const context = { trust, revoked, nowMs }
  const paths = certificatePaths(certs)
  const certificates = trust.authorities.map((authority, index) =>
    describeAuthority(authority, index, paths.authorityCertificate, context),
  )
  const server = await readServerCertificate(certs)
  if (server !== null) certificates.push(describe(server, paths.serverCertificate, true, context))
  certificates.push(...(await describeHosts(certs, context)))
  const known = new Set(certificates.map(({ serial }) => serial))
  for (const { certificate, file } of await readIssued(certs)) {
    if (known.has(certificate.serialNumber) || certificate.validToDate.getTime() <= nowMs) continue
    known.add(certificate.serialNumber)
    const one = describe(certificate, file, false, context)
    // What nobody takes any more, and nobody uses.
    if (one.state !== 'untrusted') certificates.push(one)
  }
  return {
    certificates,
    otherRevoked: [...revoked]
      .filter(([serial]) => !known.has(serial))
      .map(([serial, sinceMs]) => ({ serial, sinceMs })),
    listNumber: listOf(trust, trust.authorities[0]!)?.number ?? null,
    changing: trust.authorities.length > 1,
  }
}

async function describeHosts(certs: string, context: Context): Promise<KnownCertificate[]> {
  const names = await readdir(join(certs, 'hosts')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const found: KnownCertificate[] = []
  for (const name of names.filter((one) => one.endsWith('.crt')).sort()) {
    const host = name.slice(0, -'.crt'.length)
    const file = hostCertificatePath(certs, host)
    const certificate = await readCertificate(file)
    if (certificate === null) continue
    const seen = await readHostTrust(certs, host)
    const progress = seen === null ? null : progressOf(seen, context.trust)
    found.push({ ...describe(certificate, file, true, context), host: progress })
  }
  return found
}

function describeAuthority(
  certificate: X509Certificate,
  index: number,
  file: string,
  context: Context,
): KnownCertificate {
  const facts = describe(certificate, file, index === 0, context)
  const state = index > 0 && facts.state !== 'expired' ? 'leaving' : facts.state
  // A certificate that signs itself and no authority that is to be renewed: it is changed, which takes a person.
  return { ...facts, role: 'authority', name: commonName(certificate.subject), state }
}

function describe(
  certificate: X509Certificate,
  file: string,
  current: boolean,
  context: Context,
): KnownCertificate {
  const notAfterMs = certificate.validToDate.getTime()
  const issuer = issuerOf(certificate, context.trust.authorities)
  const identity = identityOf(certificate)
  return {
    role: identity?.role ?? 'authority',
    name: identity?.name ?? commonName(certificate.subject),
    serial: certificate.serialNumber,
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs,
    daysLeft: Math.floor((notAfterMs - context.nowMs) / dayMs),
    state: stateOf(certificate, issuer !== undefined, current, context),
    current,
    issuer: issuer === undefined ? null : commonName(issuer.subject),
    file,
    host: null,
    certificate,
  }
}

function stateOf(
  certificate: X509Certificate,
  trusted: boolean,
  current: boolean,
  { revoked, nowMs }: Context,
): CertificateState {
  if (revoked.has(certificate.serialNumber)) return 'revoked'
  if (certificate.validToDate.getTime() <= nowMs) return 'expired'
  if (!trusted) return 'untrusted'
  if (!current) return 'replaced'
  if (certificate.validFromDate.getTime() > nowMs) return 'not-yet-valid'
  return isRenewalDue(certificate, nowMs) ? 'due' : 'good'
}

function identityOf(certificate: X509Certificate): Identity | null {
  try {
    return identityFromAltNames(certificate.subjectAltName)
  } catch {
    return null
  }
}

/** The common name of a distinguished name as Node prints it. */
function commonName(name: string): string {
  return /^CN=(.*)$/m.exec(name)?.[1] ?? name
}
