import { dirname } from 'node:path'
import type { Host } from '../config/hosts.ts'
import { readAuthority, recordIssued, replaceHostCertificate } from '../pki/folder.ts'
import { makePrivateFolder, writeNewFile } from '../storage/new-file.ts'
import { formatBundle } from './bundle.ts'

/**
 * Gives a host that cannot be reached with the certificate that it has, as it has expired or is revoked, a new key and
 * certificate in a bundle to be carried there. Its password stays. Throws `CertificateError`, `AlreadyExistsError`.
 */
export async function bundleCertificate(
  certs: string,
  host: Pick<Host, 'name' | 'port' | 'password'>,
  bundle: string,
  nowMs: number,
): Promise<void> {
  const authority = await readAuthority(certs)
  const { issueCertificate } = await import('../pki/certificate.ts')
  const { name, port } = host
  const { certificate, key } = await issueCertificate(authority, { role: 'host', name }, nowMs)
  const password = host.password.reveal()
  const text = formatBundle({ name, port, certificate, key, authority: authority.trusted, password })
  await makePrivateFolder(dirname(bundle))
  await recordIssued(certs, certificate)
  await writeNewFile(bundle, text, 0o600)
  await replaceHostCertificate(certs, name, certificate)
}
