// Authorities and leaves of them, made by the server's own code.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Identity } from '@central-backup/protocol'
import {
  createAuthority,
  endorseAuthority,
  issueCertificate,
  type KeyPair,
} from '../../central-server/src/pki/certificate.ts'

export interface Pair extends KeyPair {
  x509: X509Certificate
}

function pairOf(pair: KeyPair): Pair {
  createPrivateKey(pair.key)
  return { ...pair, x509: new X509Certificate(pair.certificate) }
}

/** An authority. */
export async function makePair(name: string, nowMs = Date.now()): Promise<Pair> {
  return pairOf(await createAuthority(name, nowMs))
}

/** A certificate of an authority. */
export async function makeLeaf(authority: Pair, identity: Identity, nowMs = Date.now()): Promise<Pair> {
  return pairOf(await issueCertificate(authority, identity, nowMs))
}

/** The certificate by which `authority` signs for `next`. */
export async function endorse(authority: Pair, next: Pair, nowMs = Date.now()): Promise<X509Certificate> {
  return new X509Certificate(await endorseAuthority(authority, next.certificate, nowMs))
}
