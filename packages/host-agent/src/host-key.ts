import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { type CertificateRequest, possessionStatement } from '@central-backup/protocol'

/** Makes a key for this host: P-256, PKCS#8, PEM. It never leaves the host. */
export function createHostKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
}

/** The public half of a key (PEM), as it is in requests and certificates: SubjectPublicKeyInfo, DER. */
export function publicKeyOf(key: string): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' })
}

/**
 * Asks for a certificate of this key (PEM, as of `createHostKey`), over the channel that has this `binding`
 * (`channelBinding` of its socket). Only good on that channel.
 */
export function requestCertificate(key: string, binding: Buffer): CertificateRequest {
  const publicKey = publicKeyOf(key)
  const statement = possessionStatement(publicKey, binding)
  const possession = sign('sha256', statement, { key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' })
  return { publicKey, possession }
}
