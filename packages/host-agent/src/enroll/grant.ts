import { X509Certificate } from 'node:crypto'
import { identityFromAltNames, type MessageOf, ProtocolError } from '@central-backup/protocol'
import { publicKeyOf } from '../host-key.ts'
import type { HostSetup } from '../init.ts'

/** Extended key usage of who accepts TLS connections. */
const serverAuth = '1.3.6.1.5.5.7.3.1'

/**
 * What the server gave this host, once it is sure that the host could work with it: the
 * certificate is of its key (PEM), of the name that goes with it, of one of the authorities, and all of them are valid at
 * `nowMs`. Throws a `ProtocolError` that says what is wrong.
 */
export function readGrant(grant: MessageOf<'enrolment-grant'>, key: string, nowMs: number): HostSetup {
  const { name, password } = grant
  const certificate = readCertificate('the certificate for this host', grant.certificate)
  const authorities = grant.authorities.map((der) => readCertificate('the certificate of the authority', der))
  if (!isOfKey(certificate, key)) {
    throw new ProtocolError('certificate-untrusted', 'the certificate for this host is of another key')
  }
  const identity = identityFromAltNames(certificate.subjectAltName)
  if (identity.role !== 'host' || identity.name !== name || !certificate.keyUsage?.includes(serverAuth)) {
    const found = `${identity.role} ${identity.name}`
    throw new ProtocolError(
      'wrong-role',
      `the certificate is that of the ${found}, not one for the host ${name}`,
    )
  }
  if (!authorities.some((authority) => isIssuedBy(certificate, authority))) {
    throw new ProtocolError(
      'certificate-untrusted',
      'the certificate for this host was not issued by the authority',
    )
  }
  for (const one of [certificate, ...authorities]) requireValidity(one, nowMs)
  return {
    name,
    key,
    certificate: certificate.toString(),
    authority: authorities.map(String).join(''),
    password,
  }
}

function readCertificate(what: string, der: Buffer): X509Certificate {
  try {
    return new X509Certificate(der)
  } catch (cause) {
    throw new ProtocolError('certificate-untrusted', `${what} cannot be read`, { cause })
  }
}

// A certificate may have a key of a kind that Node cannot load, and says so only when it is asked for it.

function isOfKey(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(publicKeyOf(key))
  } catch {
    return false
  }
}

function isIssuedBy(certificate: X509Certificate, authority: X509Certificate): boolean {
  try {
    return authority.ca && certificate.checkIssued(authority) && certificate.verify(authority.publicKey)
  } catch {
    return false
  }
}

function requireValidity({ validFromDate, validToDate }: X509Certificate, nowMs: number): void {
  const now = `by the clock of the host, which shows ${new Date(nowMs).toISOString()}`
  if (validFromDate.getTime() > nowMs) {
    const from = validFromDate.toISOString()
    throw new ProtocolError('certificate-not-yet-valid', `a certificate is not valid before ${from}, ${now}`)
  }
  if (validToDate.getTime() <= nowMs) {
    const to = validToDate.toISOString()
    throw new ProtocolError('certificate-expired', `a certificate expired on ${to}, ${now}`)
  }
}
