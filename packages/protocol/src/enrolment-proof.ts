/**
 * How both sides of an enrolment show that they know its code, without showing the code. The certificates of that TLS
 * connection prove nothing; these proofs do.
 */

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Role } from './identity.ts'

/** HMAC-SHA-256, in bytes. */
export const enrolmentProofBytes = 32

/**
 * The proof of the side with this role: HMAC-SHA-256 with the secret of the code as its key, over a label that names the
 * role, and the `binding` of the TLS channel (`channelBinding`). So a proof is of no use on another channel, nor in the
 * other direction. The key has 128 random bits: nobody finds it by trying, however many proofs there are to try on.
 */
export function enrolmentProof(secret: Buffer, role: Role, binding: Buffer): Buffer {
  return createHmac('sha256', secret)
    .update(`central-backup enrolment proof 1 ${role}\0`)
    .update(binding)
    .digest()
}

/** Whether `proof` is that of the side with this role. Takes the same time wherever it is wrong. */
export function isEnrolmentProof(proof: Buffer, secret: Buffer, role: Role, binding: Buffer): boolean {
  return proof.length === enrolmentProofBytes && timingSafeEqual(proof, enrolmentProof(secret, role, binding))
}
