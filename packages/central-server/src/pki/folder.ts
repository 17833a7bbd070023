import { createPrivateKey, X509Certificate } from 'node:crypto'
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  certificateForKey,
  formatKeyFile,
  isIssuedBy,
  readCertificates,
  readTrust,
  revokedSerials,
  type Trust,
} from '@central-backup/protocol'
import { AlreadyExistsError, CertificateError } from '../errors.ts'
import { readIfThere } from '../storage/if-there.ts'
import { makePrivateFolder, writeNewFile } from '../storage/new-file.ts'
import { replaceFile } from '../storage/replace-file.ts'
import type { KeyPair } from './certificate.ts'

/** Where certificates and keys are, below the folder `certs` of the settings. */
export interface CertificatePaths {
  /** The authority that issues, and after it, while the authority is changed, the one before it. */
  authorityCertificate: string
  /** Needed to add hosts and renew certificates, never for a run: may and should be kept elsewhere. */
  authorityKey: string
  /** Of the authority before, and of the one to come, while the authority is changed. */
  oldAuthorityKey: string
  newAuthorityKey: string
  /** By which each authority has signed for the one after it. */
  endorsements: string
  revocationLists: string
  serverCertificate: string
  serverKey: string
  /** Every certificate that was made here, each as SERIAL.crt. */
  issued: string
}

export function certificatePaths(certs: string): CertificatePaths {
  return {
    authorityCertificate: join(certs, 'ca.crt'),
    authorityKey: join(certs, 'ca.key'),
    oldAuthorityKey: join(certs, 'ca-old.key'),
    newAuthorityKey: join(certs, 'ca-new.key'),
    endorsements: join(certs, 'ca-endorsements.crt'),
    revocationLists: join(certs, 'ca.crl'),
    serverCertificate: join(certs, 'server.crt'),
    serverKey: join(certs, 'server.key'),
    issued: join(certs, 'issued'),
  }
}

/** The copy of a host's certificate that stays with the server, to know when it expires. Its key is not kept. */
export function hostCertificatePath(certs: string, host: string): string {
  return join(certs, 'hosts', `${host}.crt`)
}

/** Writes a key pair, the key first and only for this user. Never overwrites. */
export async function writeKeyPair(pair: KeyPair, certificateFile: string, keyFile: string): Promise<void> {
  await writeNewFile(keyFile, pair.key, 0o600)
  await writeNewFile(certificateFile, pair.certificate, 0o644)
}

/** Puts another key pair in the place of the server's: both at once, by the file of the key, which holds both from now on. */
export async function replaceServerKeyPair(certs: string, { certificate, key }: KeyPair): Promise<void> {
  const { serverCertificate, serverKey } = certificatePaths(certs)
  await replaceFile(serverKey, formatKeyFile(key, certificate), 0o600)
  await replaceFile(serverCertificate, certificate, 0o644)
}

/** Where it is taken down that a certificate (PEM) was made. */
export function issuedPath(certs: string, certificate: string): string {
  return join(certificatePaths(certs).issued, `${new X509Certificate(certificate).serialNumber}.crt`)
}

/** Takes down that a certificate was made, so that it can be revoked whatever becomes of it. */
export async function recordIssued(certs: string, certificate: string): Promise<void> {
  await makePrivateFolder(certificatePaths(certs).issued)
  try {
    await writeNewFile(issuedPath(certs, certificate), certificate, 0o644)
  } catch (error) {
    if (!(error instanceof AlreadyExistsError)) throw error
  }
}

/** All that was taken down by `recordIssued`; what there is no certificate is left out. */
export async function readIssued(certs: string): Promise<{ file: string; certificate: X509Certificate }[]> {
  const { issued } = certificatePaths(certs)
  const names = await readdir(issued).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const found: { file: string; certificate: X509Certificate }[] = []
  for (const name of names.filter((one) => one.endsWith('.crt')).sort()) {
    const file = join(issued, name)
    const certificate = await readCertificate(file)
    if (certificate !== null) found.push({ file, certificate })
  }
  return found
}

/** Keeps the certificate that a host has now, in the place of the one that it had. */
export async function replaceHostCertificate(
  certs: string,
  host: string,
  certificate: string,
): Promise<void> {
  await makePrivateFolder(join(certs, 'hosts'))
  await replaceFile(hostCertificatePath(certs, host), certificate, 0o644)
}

/** The first certificate in a file; `null` where there is none. */
export async function readCertificate(file: string): Promise<X509Certificate | null> {
  try {
    return new X509Certificate(await readFile(file, 'utf8'))
  } catch {
    return null
  }
}

/** An authority with its key. */
export interface Authority extends KeyPair {
  /** All authorities that are trusted now, PEM: what a new host is to trust. */
  trusted: string
}

/**
 * Reads the authority that issues, with its key. Throws `CertificateError` `authority-missing` where one is not there, and
 * `authority-invalid` where they do not belong together.
 */
export async function readAuthority(certs: string): Promise<Authority> {
  const paths = certificatePaths(certs)
  const trusted = await readRequired(paths.authorityCertificate, 'authority-missing')
  const [issuing] = await readAuthorityKeys(certs)
  if (issuing !== undefined) return { certificate: issuing.certificate, key: issuing.key, trusted }
  // There is none, or it is another's, which those who sign with it will say.
  const key = await readRequired(paths.authorityKey, 'authority-missing')
  return { certificate: trusted, key, trusted }
}

/** As `readAuthority`, but `null` where the key is kept elsewhere. */
export async function findAuthority(certs: string): Promise<Authority | null> {
  try {
    return await readAuthority(certs)
  } catch (error) {
    if (error instanceof CertificateError && error.code === 'authority-missing') return null
    throw error
  }
}

/** The authorities of ca.crt whose key is here, in that order: the one that issues is the first, if it is among them. */
export async function readAuthorityKeys(certs: string): Promise<KeyPair[]> {
  const paths = certificatePaths(certs)
  const text = await readRequired(paths.authorityCertificate, 'authority-missing')
  const pairs: KeyPair[] = []
  let trusted: X509Certificate[]
  try {
    trusted = readCertificates(text)
  } catch {
    return []
  }
  for (const [index, certificate] of trusted.entries()) {
    const key = await findKey(certificate, [paths.authorityKey, paths.oldAuthorityKey, paths.newAuthorityKey])
    if (key !== null) pairs.push({ certificate: certificate.toString(), key })
    else if (index === 0) return []
  }
  return pairs
}

async function findKey(certificate: X509Certificate, files: readonly string[]): Promise<string | null> {
  for (const file of files) {
    const key = await readIfThere(file)
    try {
      if (key !== null && certificate.checkPrivateKey(createPrivateKey(key))) return key
    } catch {
      // No key: another file may have it.
    }
  }
  return null
}

/** Whom this server trusts: its authorities, and their revocation lists. Throws `CertificateError` where one cannot be read. */
export async function readServerTrust(certs: string): Promise<Trust> {
  const paths = certificatePaths(certs)
  const certificates = await readRequired(paths.authorityCertificate, 'certificate-unusable')
  const lists = (await readIfThere(paths.revocationLists)) ?? ''
  let read: ReturnType<typeof readTrust>
  try {
    read = readTrust(certificates, lists)
  } catch (cause) {
    throw new CertificateError('certificate-unusable', `${paths.authorityCertificate} cannot be read`, {
      cause,
    })
  }
  if (read.trust.authorities.length === 0)
    throw new CertificateError('certificate-unusable', `${paths.authorityCertificate} holds no certificate`)
  // Without it, what was revoked would count again.
  if (read.strange.length > 0 || (lists !== '' && read.trust.lists.size === 0)) {
    const why = read.strange.join('; ') || 'there is none in it'
    throw new CertificateError('certificate-unusable', `${paths.revocationLists} cannot be used: ${why}`, {
      hint: 'Put the file back from a copy. Without it, what was revoked would be taken again.',
    })
  }
  return read.trust
}

/** The endorsements that were made here, oldest first. */
export async function readEndorsements(certs: string): Promise<X509Certificate[]> {
  return readCertificates((await readIfThere(certificatePaths(certs).endorsements)) ?? '')
}

/** What a run needs to dial, all PEM. The authority's key is not among it. */
export interface ServerCredentials {
  ca: string
  cert: string
  key: string
  revoked: ReadonlySet<string>
}

/** Throws `CertificateError`. */
export async function readServerCredentials(certs: string): Promise<ServerCredentials> {
  const paths = certificatePaths(certs)
  const ca = await readRequired(paths.authorityCertificate, 'certificate-unusable')
  const certificate = await readRequired(paths.serverCertificate, 'certificate-unusable')
  const key = await readRequired(paths.serverKey, 'certificate-unusable')
  const hasLists = await lstat(paths.revocationLists).then(
    () => true,
    () => false,
  )
  const revoked: ReadonlySet<string> = hasLists ? revokedSerials(await readServerTrust(certs)) : new Set()
  return { ca, cert: certificateForKey(key, certificate), key, revoked }
}

/** The certificate of the server that is in use; `null` where none can be read. */
export async function readServerCertificate(certs: string): Promise<X509Certificate | null> {
  const { serverCertificate, serverKey } = certificatePaths(certs)
  const certificate = await readIfThere(serverCertificate)
  if (certificate === null) return null
  const key = (await readIfThere(serverKey)) ?? ''
  try {
    return new X509Certificate(certificateForKey(key, certificate))
  } catch {
    return null
  }
}

/** Which of the authorities has issued a certificate; `undefined` for none of them. */
export function issuerOf(
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
): X509Certificate | undefined {
  return authorities.find((authority) => isIssuedBy(certificate, authority))
}

async function readRequired(
  file: string,
  code: 'authority-missing' | 'certificate-unusable',
): Promise<string> {
  const text = await readIfThere(file)
  if (text !== null) return text
  throw new CertificateError(code, `${file} is missing`, { hint: missingHint(code) })
}

function missingHint(code: 'authority-missing' | 'certificate-unusable'): string {
  return code === 'authority-missing'
    ? 'It is needed to make certificates. If it is kept elsewhere, put it here for as long as this takes.'
    : '`backup-server init` makes what is missing; `certs` in settings.ts says where it is looked for.'
}
