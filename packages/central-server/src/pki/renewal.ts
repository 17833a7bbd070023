import type { X509Certificate } from 'node:crypto'

/** Of its life, the part that a certificate has left when it is to be renewed. */
const leftWhenDue = 1 / 3

/** Whether less than a third of the certificate's life is left. */
export function isRenewalDue(certificate: X509Certificate, nowMs: number): boolean {
  const fromMs = certificate.validFromDate.getTime()
  const toMs = certificate.validToDate.getTime()
  return toMs - nowMs < (toMs - fromMs) * leftWhenDue
}
