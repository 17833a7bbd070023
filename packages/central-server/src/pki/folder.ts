import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CertificateError } from '../errors.ts'
import { withStorageErrors } from '../storage/failure.ts'
import { makePrivateFolder, writeNewFile } from '../storage/new-file.ts'
import type { KeyPair } from './certificate.ts'

/** Where certificates and keys are, below the folder `certs` of the settings. */
export interface CertificatePaths {
  authorityCertificate: string
  /** Needed to add hosts and renew certificates, never for a run: may and should be kept elsewhere. */
  authorityKey: string
  serverCertificate: string
  serverKey: string
}

export function certificatePaths(certs: string): CertificatePaths {
  return {
    authorityCertificate: join(certs, 'ca.crt'),
    authorityKey: join(certs, 'ca.key'),
    serverCertificate: join(certs, 'server.crt'),
    serverKey: join(certs, 'server.key'),
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

/** Keeps a host's certificate. Never overwrites. */
export async function writeHostCertificate(certs: string, host: string, certificate: string): Promise<void> {
  await makePrivateFolder(join(certs, 'hosts'))
  await writeNewFile(hostCertificatePath(certs, host), certificate, 0o644)
}

/** Reads the authority with its key. Throws `CertificateError` `authority-missing` where one is not there. */
export async function readAuthority(certs: string): Promise<KeyPair> {
  const { authorityCertificate, authorityKey } = certificatePaths(certs)
  return {
    certificate: await readRequired(authorityCertificate, 'authority-missing'),
    key: await readRequired(authorityKey, 'authority-missing'),
  }
}

/** Reads what a run needs to dial, all PEM. The authority's key is not among it. */
export async function readServerCredentials(
  certs: string,
): Promise<{ ca: string; cert: string; key: string }> {
  const paths = certificatePaths(certs)
  return {
    ca: await readRequired(paths.authorityCertificate, 'certificate-unusable'),
    cert: await readRequired(paths.serverCertificate, 'certificate-unusable'),
    key: await readRequired(paths.serverKey, 'certificate-unusable'),
  }
}

async function readRequired(
  file: string,
  code: 'authority-missing' | 'certificate-unusable',
): Promise<string> {
  return withStorageErrors(`read ${file}`, async () => {
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new CertificateError(code, `${file} is missing`, { hint: missingHint(code), cause: error })
    }
  })
}

function missingHint(code: 'authority-missing' | 'certificate-unusable'): string {
  return code === 'authority-missing'
    ? 'It is needed to make certificates. If it is kept elsewhere, put it here for as long as this takes.'
    : '`backup-server init` makes what is missing; `certs` in settings.ts says where it is looked for.'
}
