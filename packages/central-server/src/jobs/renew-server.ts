import { X509Certificate } from 'node:crypto'
import { identityFromAltNames, isIssuedBy, readCertificates } from '@central-backup/protocol'
import { BackupError, CertificateError } from '../errors.ts'
import type { KeyPair } from '../pki/certificate.ts'
import {
  certificatePaths,
  readAuthority,
  readAuthorityKeys,
  readServerCertificate,
  recordIssued,
  replaceServerKeyPair,
} from '../pki/folder.ts'
import { isRenewalDue } from '../pki/renewal.ts'

/**
 * Gives the server a new key and certificate, under the name that it has, both in one step. While the authority is changed,
 * it is of the authority that the old one was of, which all hosts know. Throws `CertificateError`.
 */
export async function renewServerCertificate(certs: string, nowMs: number): Promise<X509Certificate> {
  const current = await readServerCertificate(certs)
  if (current === null) {
    const { serverCertificate } = certificatePaths(certs)
    throw new CertificateError('certificate-unusable', `${serverCertificate} is no certificate`, {
      hint: 'Move it and server.key away; `backup-server init` makes both anew.',
    })
  }
  return issueServerCertificate(certs, await findIssuer(certs, current), current, nowMs)
}

/** The same with an authority that the caller chose. */
export async function issueServerCertificate(
  certs: string,
  issuer: KeyPair,
  current: X509Certificate,
  nowMs: number,
): Promise<X509Certificate> {
  const { issueCertificate } = await import('../pki/certificate.ts')
  const { name } = identityFromAltNames(current.subjectAltName)
  const pair = await issueCertificate(issuer, { role: 'server', name }, nowMs)
  // Both before the new one is in use: whatever is good can be revoked.
  await recordIssued(certs, current.toString())
  await recordIssued(certs, pair.certificate)
  await replaceServerKeyPair(certs, pair)
  return (await readServerCertificate(certs))!
}

/**
 * Renews the server's certificate where that is due and the authority's key is here. Returns the new one, or what keeps it
 * from being made, or neither. Never throws.
 */
export async function renewServerIfDue(
  certs: string,
  nowMs: number,
): Promise<{ renewed?: X509Certificate; fault?: string }> {
  try {
    const current = await readServerCertificate(certs)
    if (current === null || !isRenewalDue(current, nowMs)) return {}
    if ((await readAuthorityKeys(certs)).length === 0) return {}
    return { renewed: await renewServerCertificate(certs, nowMs) }
  } catch (error) {
    if (!(error instanceof BackupError)) throw error
    return { fault: `the certificate of the server was not renewed: ${error.message}` }
  }
}

async function findIssuer(certs: string, current: X509Certificate): Promise<KeyPair> {
  const pairs = await readAuthorityKeys(certs)
  const issuer = pairs.find(({ certificate }) => isIssuedBy(current, new X509Certificate(certificate)))
  if (issuer !== undefined) return issuer
  const authority = await readAuthority(certs)
  // Of one authority, it is what the hosts know, whoever has issued the certificate that is there.
  if (readCertificates(authority.trusted).length === 1) return authority
  throw new CertificateError(
    'authority-missing',
    'The key of the authority that hosts still rely on is not here',
    { hint: 'Put ca-old.key back, or end the change first: backup-server certs change-ca --finish' },
  )
}
