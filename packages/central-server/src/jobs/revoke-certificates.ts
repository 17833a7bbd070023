import { UsageError } from '../errors.ts'
import { readAuthority } from '../pki/folder.ts'
import { type WrittenLists, writeRevocationLists } from '../pki/revocation.ts'
import { type CertificateList, type KnownCertificate, listCertificates } from './list-certificates.ts'

export interface RevokePlan {
  certs: string
  /** What is added to the list. */
  serials: string[]
  /** The certificates with these serial numbers that are known here. */
  certificates: KnownCertificate[]
}

/** The name of a host, all of whose certificates are meant; a serial number; or all of the server's but the one in use. */
export type RevokeRequest = { of: string } | { earlierOfServer: true }

/**
 * Finds what is to be revoked, and changes nothing. Throws `UsageError` where there is nothing, or where the server itself
 * needs it; `CertificateError` where the authority's key is not here.
 */
export async function planRevocation(
  certs: string,
  request: RevokeRequest,
  nowMs: number,
): Promise<RevokePlan> {
  const list = await listCertificates(certs, nowMs)
  const { serials, certificates } =
    'earlierOfServer' in request ? chooseEarlierOfServer(list) : choose(list, request.of)
  refuseNeeded(certificates)
  await readAuthority(certs)
  return { certs, serials, certificates }
}

/** Adds what the plan says to the revocation list. */
export async function applyRevocation(plan: RevokePlan, nowMs: number): Promise<WrittenLists> {
  const added = new Map(plan.serials.map((serial) => [serial, nowMs]))
  return writeRevocationLists(plan.certs, { added }, nowMs)
}

type Choice = Pick<RevokePlan, 'serials' | 'certificates'>

function chooseEarlierOfServer({ certificates }: CertificateList): Choice {
  const chosen = certificates.filter((one) => one.role === 'server' && !one.current && isLive(one))
  if (chosen.length > 0) return choiceOf(chosen)
  throw new UsageError('There is no certificate of the server but the one in use', {
    hint: 'Make a new one first: backup-server certs renew --server. Then the one that it replaces can be revoked.',
  })
}

function choose({ certificates, otherRevoked }: CertificateList, of: string): Choice {
  const ofHost = certificates.filter(({ role, name }) => role === 'host' && name === of)
  if (ofHost.length > 0) {
    const live = ofHost.filter(isLive)
    if (live.length > 0) return choiceOf(live)
    throw new UsageError(`All certificates of the host ${of} are revoked, or have expired`)
  }
  const serial = serialOf(of)
  const known = certificates.filter((one) => one.serial === serial)
  if (otherRevoked.some((one) => one.serial === serial) || known.some(({ state }) => state === 'revoked'))
    throw new UsageError(`${serial} is revoked already`)
  return { serials: [serial], certificates: known }
}

function choiceOf(certificates: KnownCertificate[]): Choice {
  return { serials: certificates.map(({ serial }) => serial), certificates }
}

function isLive({ state }: KnownCertificate): boolean {
  return state !== 'revoked' && state !== 'expired'
}

/** As certificates print it, with or without colons, in the form of the list. */
function serialOf(text: string): string {
  const digits = text.replaceAll(':', '').toUpperCase()
  if (/^[0-9A-F]{2,40}$/.test(digits) && digits.length % 2 === 0) return digits.replace(/^(00)+(?=.)/, '')
  throw new UsageError(`${JSON.stringify(text)} is neither a host with a certificate nor a serial number`, {
    hint: 'backup-server certs list shows both.',
  })
}

function refuseNeeded(certificates: readonly KnownCertificate[]): void {
  const needed = certificates.find(({ role, current }) => current && role !== 'host')
  if (needed?.role === 'server') {
    throw new UsageError("That is the server's own certificate, with which it reaches its hosts", {
      hint: 'Make a new one first: backup-server certs renew --server. Then this one can be revoked: certs revoke --server',
    })
  }
  if (certificates.some(({ role }) => role === 'authority')) {
    throw new UsageError('That is the certificate of an authority', {
      hint: 'For another authority: backup-server certs change-ca, which revokes this one when all hosts have the new one.',
    })
  }
}
