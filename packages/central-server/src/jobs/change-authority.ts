import { createPrivateKey, X509Certificate } from 'node:crypto'
import { rename } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { syncFolder } from '@central-backup/archive'
import { authoritiesMax, isIssuedBy } from '@central-backup/protocol'
import { CertificateError, UsageError } from '../errors.ts'
import {
  certificatePaths,
  readAuthority,
  readEndorsements,
  readIssued,
  readServerCertificate,
  readServerTrust,
  recordIssued,
} from '../pki/folder.ts'
import { writeRevocationLists } from '../pki/revocation.ts'
import { withStorageErrors } from '../storage/failure.ts'
import { readIfThere } from '../storage/if-there.ts'
import { replaceFile } from '../storage/replace-file.ts'
import { type KnownCertificate, listCertificates } from './list-certificates.ts'
import { issueServerCertificate } from './renew-server.ts'

/**
 * Makes a new authority, for which the one that issues now signs, and which issues from then on. Both are trusted until
 * `finishAuthorityChange`; the server keeps its certificate, which all hosts know, with its full life before it. Where a
 * call was cut short, another one begins anew or goes on. Throws `CertificateError`, `UsageError`.
 */
export async function beginAuthorityChange(certs: string, nowMs: number): Promise<X509Certificate> {
  const paths = certificatePaths(certs)
  const { authorities } = await readServerTrust(certs)
  if (authorities.length > 1) {
    await putKeysInPlace(certs, authorities[0]!)
    throw new UsageError('The authority is being changed already', {
      hint: 'backup-server certs list shows how far each host is; backup-server certs change-ca --finish ends it.',
    })
  }
  const old = await readAuthority(certs)
  const { createAuthority, endorseAuthority } = await import('../pki/certificate.ts')
  const server = await readServerCertificate(certs)
  if (server !== null) await issueServerCertificate(certs, old, server, nowMs)
  // Not the name of the old one, by which programs look for the issuer; and a common name has 64 characters at most.
  const made = new Date(nowMs).toISOString().replace(/\..*/, 'Z')
  const name = `central-backup CA of ${hostname().slice(0, hostnameCharsMax)} ${made}`
  const next = await createAuthority(name, nowMs)
  const endorsement = new X509Certificate(await endorseAuthority(old, next.certificate, nowMs))
  const endorsements = [...(await readEndorsements(certs)), endorsement].slice(-authoritiesMax)
  await replaceFile(paths.newAuthorityKey, next.key, 0o600)
  await replaceFile(paths.endorsements, endorsements.join(''), 0o644)
  // From here on the new one issues. Its key is found wherever it is.
  await replaceFile(
    paths.authorityCertificate,
    [next.certificate, ...authorities.map(String)].join(''),
    0o644,
  )
  const certificate = new X509Certificate(next.certificate)
  await putKeysInPlace(certs, certificate)
  // What was revoked stays so for hosts that will know the new one only.
  if ((await readServerTrust(certs)).lists.size > 0)
    await writeRevocationLists(certs, { added: new Map() }, nowMs)
  return certificate
}

/** ca.key is that of the authority that issues, ca-old.key that of the one before; until then they are found all the same. */
async function putKeysInPlace(certs: string, issuing: X509Certificate): Promise<void> {
  const { authorityKey, oldAuthorityKey, newAuthorityKey } = certificatePaths(certs)
  if (!isKeyOf(issuing, await readIfThere(newAuthorityKey))) return
  const current = await readIfThere(authorityKey)
  await withStorageErrors(`put ${authorityKey} in its place`, async () => {
    if (current !== null && !isKeyOf(issuing, current)) await rename(authorityKey, oldAuthorityKey)
    await rename(newAuthorityKey, authorityKey)
    await syncFolder(dirname(authorityKey))
  })
}

function isKeyOf(certificate: X509Certificate, key: string | null): boolean {
  try {
    return key !== null && certificate.checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}

/** Of this machine's name, in that of an authority. */
const hostnameCharsMax = 20

export interface ChangeProgress {
  /** Hosts that have the new authority, and a certificate of it. */
  done: string[]
  /** The others, and what they lack. */
  open: { host: string; lacks: string }[]
}

/** How far each of the hosts is on the way to the authority that issues now. */
export async function authorityProgress(
  certs: string,
  hosts: readonly string[],
  nowMs: number,
): Promise<ChangeProgress> {
  const { certificates } = await listCertificates(certs, nowMs)
  const issuing = certificates.find(({ role, current }) => role === 'authority' && current)!
  const progress: ChangeProgress = { done: [], open: [] }
  for (const name of hosts) {
    const lacks = lackOf(
      certificates.find((one) => one.role === 'host' && one.current && one.name === name),
      issuing,
    )
    if (lacks === null) progress.done.push(name)
    else progress.open.push({ host: name, lacks })
  }
  return progress
}

function lackOf(host: KnownCertificate | undefined, issuing: KnownCertificate): string | null {
  if (host === undefined || host.host === null) return 'was not seen since'
  if (!host.host.trustsIssuing) return 'does not have the new authority'
  return isIssuedBy(host.certificate, issuing.certificate) ? null : 'has a certificate of the old authority'
}

/**
 * Ends the change: the server gets a certificate of the new authority, which revokes the old one, and only the new one is
 * trusted. Hosts leave the old one in their next session. Can be called again where it was cut short. Throws
 * `CertificateError` where the new one's key is not here, `UsageError` where there is no change under way.
 */
export async function finishAuthorityChange(certs: string, nowMs: number): Promise<void> {
  const paths = certificatePaths(certs)
  const [issuing, ...leaving] = (await readServerTrust(certs)).authorities
  if (leaving.length === 0) {
    throw new UsageError('The authority is not being changed', {
      hint: 'backup-server certs change-ca begins it.',
    })
  }
  await putKeysInPlace(certs, issuing!)
  const authority = await readAuthority(certs)
  const server = await readServerCertificate(certs)
  if (server === null)
    throw new CertificateError('certificate-unusable', `${paths.serverCertificate} is no certificate`)
  if (!isIssuedBy(server, issuing!)) await issueServerCertificate(certs, authority, server, nowMs)
  for (const one of leaving) await recordIssued(certs, one.toString())
  const added = new Map(leaving.map(({ serialNumber }) => [serialNumber, nowMs]))
  const removed = await findIssuedBy(certs, leaving)
  await writeRevocationLists(certs, { added, removed, of: [issuing!] }, nowMs)
  await replaceFile(paths.authorityCertificate, issuing!.toString(), 0o644)
}

/** Nothing that an authority has issued counts once it is gone, so its certificates need not be on a list. */
async function findIssuedBy(certs: string, authorities: readonly X509Certificate[]): Promise<Set<string>> {
  const issued = await readIssued(certs)
  const gone = issued.filter(({ certificate }) => authorities.some((one) => isIssuedBy(certificate, one)))
  return new Set(gone.map(({ certificate }) => certificate.serialNumber))
}
