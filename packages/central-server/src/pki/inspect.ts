import { createPrivateKey, X509Certificate } from 'node:crypto'
import {
  describeSpan,
  type Identity,
  identityFromAltNames,
  isIssuedBy,
  readCertificates,
} from '@central-backup/protocol'

/** What is worth knowing of a certificate. */
export interface CertificateFacts {
  /** `null` where it names no role of ours, as that of an authority. */
  identity: Identity | null
  notBeforeMs: number
  notAfterMs: number
  /** SHA-256 of the certificate, in hexadecimal with colons. */
  fingerprint: string
}

/** Reads a PEM certificate. Throws what Node throws where it is none. */
export function inspectCertificate(pem: string): CertificateFacts {
  const certificate = new X509Certificate(pem)
  return {
    identity: readIdentity(certificate),
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
    fingerprint: certificate.fingerprint256,
  }
}

/**
 * What keeps a certificate, its key (`null`: not looked at) and its authority (or one of several in the text) from
 * being used by who is `expected` (any name of the role where the name is `null`), as sentences. Empty where nothing
 * does.
 */
export function findCertificateFaults(
  pair: { certificate: string; key: string | null; authority: string; revoked?: ReadonlySet<string> },
  expected: { role: Identity['role']; name: string | null },
  nowMs: number,
): string[] {
  let certificate!: X509Certificate
  let authorities: X509Certificate[]
  try {
    certificate = new X509Certificate(pair.certificate)
    authorities = readCertificates(pair.authority)
  } catch {
    authorities = []
  }
  if (authorities.length === 0) return ['The certificate, or that of the authority, is not a PEM certificate']
  const faults: string[] = []
  const issuer = authorities.find((one) => isIssuedBy(certificate, one))
  if (issuer === undefined) {
    const [is, trusted] = [certificate.issuer, authorities.map(({ subject }) => subject).join(', ')]
    faults.push(`The certificate was not issued by this authority: it is of ${is}, and trusted is ${trusted}`)
  }
  if (pair.revoked?.has(certificate.serialNumber)) {
    faults.push(`The certificate, with the serial number ${certificate.serialNumber}, was revoked`)
  }
  if (pair.key !== null && !isKeyOf(certificate, pair.key))
    faults.push('The certificate does not belong to the key')
  const identity = readIdentity(certificate)
  if (identity?.role !== expected.role || (expected.name !== null && identity.name !== expected.name)) {
    const found = identity === null ? 'nobody' : `${identity.role} ${identity.name}`
    faults.push(
      `The certificate is for ${found}, not for ${expected.role}${expected.name === null ? '' : ` ${expected.name}`}`,
    )
  }
  for (const [who, one] of [
    ['The certificate', certificate],
    ['The authority', issuer ?? authorities[0]!],
  ] as const) {
    const [fromMs, toMs] = [one.validFromDate.getTime(), one.validToDate.getTime()]
    const clock = `the clock here says ${new Date(nowMs).toISOString()}`
    if (fromMs > nowMs) {
      const wait = describeSpan(fromMs - nowMs)
      faults.push(`${who} is not valid before ${one.validFromDate.toISOString()}, in ${wait}: ${clock}`)
    }
    if (toMs <= nowMs)
      faults.push(
        `${who} expired on ${one.validToDate.toISOString()}, ${describeSpan(nowMs - toMs)} ago: ${clock}`,
      )
  }
  return faults
}

function readIdentity(certificate: X509Certificate): Identity | null {
  try {
    return identityFromAltNames(certificate.subjectAltName)
  } catch {
    return null
  }
}

function isKeyOf(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}
