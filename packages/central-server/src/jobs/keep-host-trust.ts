import { X509Certificate } from 'node:crypto'
import {
  channelBinding,
  digestOf,
  identityFromAltNames,
  isIssuedBy,
  type MessageOf,
  ProtocolError,
  revokedSerials,
  type Trust,
} from '@central-backup/protocol'
import { BackupError } from '../errors.ts'
import {
  type Authority,
  findAuthority,
  hostCertificatePath,
  readAuthority,
  readCertificate,
  readEndorsements,
  readIssued,
  readServerTrust,
  recordIssued,
  replaceHostCertificate,
} from '../pki/folder.ts'
import { hostTrustOf, writeHostTrust } from '../pki/host-trust.ts'
import { isRenewalDue } from '../pki/renewal.ts'
import { renewHostCertificate, updateTrust } from '../session/keep-trust.ts'
import type { AgentSession } from '../session/open-session.ts'

/** When it is told that a certificate cannot be renewed, before it expires. */
const warnedBeforeMs = 30 * 86_400_000

/** Of one host; a list of what is revoked has room for some 3,000 of all hosts. */
const goodCertificatesMax = 100

export interface KeptTrust {
  /** The host's new certificate, if it got one. */
  renewed: X509Certificate | null
  /** What was not done that should have been, as sentences for people. */
  warnings: string[]
}

/**
 * Brings a host up to date in a session, before its request: authorities and revocation lists that it lacks, and a new
 * certificate where less than a third of the life of its own is left, or another authority issues now. That takes the
 * authority's key; where it is kept elsewhere, the rest is done. What goes wrong here is no reason not to back the host
 * up, so only a session that has ended throws, a `ProtocolError`.
 */
export async function keepHostTrust(
  certs: string,
  session: AgentSession,
  host: string,
  now: () => number,
): Promise<KeptTrust> {
  const kept: KeptTrust = { renewed: null, warnings: [] }
  // A list has to reach the host also where nothing can be noted down here.
  await tellFault(kept, () => keepCopy(certs, host, session.certificate))
  await tellFault(kept, async () => {
    const trust = await readServerTrust(certs)
    const isDue = isToBeRenewed(session.certificate, trust, now())
    const found = isDue ? await findAuthority(certs) : null
    const authority = found !== null && (await hasUnused(kept, certs, host, now())) ? null : found
    const endorsements = await readEndorsements(certs)
    const hasNews = trust.lists.size > 0 || endorsements.length > 0
    if (isDue && found === null) warnOfEnd(kept, session.certificate, now())
    if (!hasNews && authority === null) return
    const { told, faults } = await updateTrust(session.channel, { trust, endorsements })
    kept.warnings.push(...faults.map((fault) => `the host did not take what it should trust: ${fault}`))
    const after = authority === null ? told : await renew(certs, session, host, authority, told, now(), kept)
    await writeHostTrust(certs, host, hostTrustOf(after, now()))
  })
  return kept
}

async function tellFault({ warnings }: KeptTrust, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof BackupError)) throw error
    warnings.push(`its certificate and what it trusts were not looked after: ${error.message}`)
  }
}

/**
 * Gives a host a new certificate in a session, due or not. Throws `CertificateError` where the authority's key is not here,
 * and a `ProtocolError` where the session ends, or the host does not take it (`target-failed`).
 */
export async function renewHost(
  certs: string,
  session: AgentSession,
  host: string,
  now: () => number,
): Promise<X509Certificate> {
  const authority = await readAuthority(certs)
  await keepCopy(certs, host, session.certificate)
  const source = { trust: await readServerTrust(certs), endorsements: await readEndorsements(certs) }
  const { told, faults } = await updateTrust(session.channel, source)
  const kept: KeptTrust = { renewed: null, warnings: faults }
  const after = await renew(certs, session, host, authority, told, now(), kept)
  await writeHostTrust(certs, host, hostTrustOf(after, now()))
  if (kept.renewed !== null) return kept.renewed
  throw new ProtocolError(
    'target-failed',
    kept.warnings.join('; ') || 'the host did not take its new certificate',
  )
}

/** What a host shows is its certificate, whatever was believed here. */
async function keepCopy(certs: string, host: string, certificate: X509Certificate): Promise<void> {
  const known = await readCertificate(hostCertificatePath(certs, host))
  if (known?.raw.equals(certificate.raw)) return
  await recordIssued(certs, certificate.toString())
  if (known !== null) await recordIssued(certs, known.toString())
  await replaceHostCertificate(certs, host, certificate.toString())
}

function isToBeRenewed(certificate: X509Certificate, { authorities }: Trust, nowMs: number): boolean {
  return isRenewalDue(certificate, nowMs) || !isIssuedBy(certificate, authorities[0]!)
}

/**
 * Whether a host was given very many certificates that are all good still: it does not use what it gets, and would have another
 * one with each session, until no revocation list could hold them. That is told.
 */
async function hasUnused(
  { warnings }: KeptTrust,
  certs: string,
  host: string,
  nowMs: number,
): Promise<boolean> {
  const issued = await readIssued(certs)
  const revoked = revokedSerials(await readServerTrust(certs))
  const good = issued.filter(
    ({ certificate }) =>
      isOfHost(certificate, host) &&
      certificate.validToDate.getTime() > nowMs &&
      !revoked.has(certificate.serialNumber),
  )
  if (good.length < goodCertificatesMax) return false
  warnings.push(
    `its certificate is not renewed: ${good.length} of it are good already, as if it took none of them. See its log, and whether it can ` +
      `write to its folder of certificates; then: backup-server certs renew ${host}`,
  )
  return true
}

function isOfHost({ subjectAltName }: X509Certificate, host: string): boolean {
  try {
    const { role, name } = identityFromAltNames(subjectAltName)
    return role === 'host' && name === host
  } catch {
    // That of an authority.
    return false
  }
}

function warnOfEnd({ warnings }: KeptTrust, certificate: X509Certificate, nowMs: number): void {
  const leftMs = certificate.validToDate.getTime() - nowMs
  if (leftMs > warnedBeforeMs) return
  const days = Math.floor(leftMs / 86_400_000)
  warnings.push(
    `its certificate expires in ${days} days, and ca.key is not here: put it back, and the next run renews it`,
  )
}

async function renew(
  certs: string,
  { channel, socket }: AgentSession,
  host: string,
  authority: Authority,
  told: MessageOf<'trusted'>,
  nowMs: number,
  kept: KeptTrust,
): Promise<MessageOf<'trusted'>> {
  // Only a renewal needs the library that signs, which takes longer to load than the rest of a session.
  const { requireAuthority } = await import('../pki/certificate.ts')
  const { issueHostCertificate } = await import('../pki/certificate-request.ts')
  await requireAuthority(authority, nowMs)
  const issuing = digestOf(new X509Certificate(authority.certificate))
  if (!told.authorities.some((one) => one.equals(issuing))) {
    kept.warnings.push('its certificate is not renewed: it does not trust the authority that issues now')
    return told
  }
  const binding = channelBinding(socket)
  const { certificate, told: after } = await renewHostCertificate(channel, async (request) => {
    const pem = await issueHostCertificate(authority, host, request, binding, nowMs)
    await recordIssued(certs, pem)
    return new X509Certificate(pem)
  })
  if (after.fault !== undefined) kept.warnings.push(`its certificate was not renewed: ${after.fault}`)
  if (certificate !== null) {
    kept.renewed = certificate
    await replaceHostCertificate(certs, host, certificate.toString())
  }
  return after
}
