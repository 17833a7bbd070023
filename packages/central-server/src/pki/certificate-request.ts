import { createPublicKey, type KeyObject, verify, webcrypto } from 'node:crypto'
import {
  type CertificateRequest,
  isPublicKeyForm,
  ProtocolError,
  possessionStatement,
} from '@central-backup/protocol'
import { type KeyPair, keyAlgorithm, signCertificate } from './certificate.ts'

/**
 * Makes the certificate that a host asks for, PEM, for `leafDays` days. Who the host is decides the caller, who has
 * authenticated it: `name` is a good name of a host, and `binding` that of the channel that the request came through
 * (`channelBinding`). Throws `certificate-request` where the key is not P-256, or the sender has not proven to have its
 * private half on this very channel; `CertificateError` where the authority cannot sign.
 */
export async function issueHostCertificate(
  authority: KeyPair,
  name: string,
  request: CertificateRequest,
  binding: Buffer,
  nowMs: number,
): Promise<string> {
  requirePossession(request, binding)
  const { publicKey } = request
  const subject = await webcrypto.subtle.importKey('spki', publicKey, keyAlgorithm, true, ['verify'])
  return signCertificate(authority, { role: 'host', name }, subject, nowMs)
}

/**
 * Throws `certificate-request` unless the request is of a P-256 key, whose private half the other end of the channel with
 * this binding has.
 */
export function requirePossession(request: CertificateRequest, binding: Buffer): void {
  const { publicKey, possession } = request
  const key = readPublicKey(publicKey)
  const statement = possessionStatement(publicKey, binding)
  if (verify('sha256', statement, { key, dsaEncoding: 'ieee-p1363' }, possession)) return
  throw new ProtocolError('certificate-request', 'the host has not proven that it has the key of its request')
}

function readPublicKey(publicKey: Buffer): KeyObject {
  try {
    if (isPublicKeyForm(publicKey)) return createPublicKey({ key: publicKey, format: 'der', type: 'spki' })
  } catch {
    // The form of one, but no point of the curve.
  }
  throw new ProtocolError('certificate-request', 'the key in the request is no P-256 key')
}
