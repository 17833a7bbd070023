/**
 * A request for a certificate: a public key, and the proof that the sender has its private half. It names nobody: who
 * the certificate will be for is what the server knows of the channel that the request came through, to which the proof
 * is bound. So there is nothing in it to be parsed but two fields of fixed length.
 */

/** What stands before the point of a P-256 key in a SubjectPublicKeyInfo (DER, RFC 5480), uncompressed. */
const publicKeyPrefix = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')

/** SubjectPublicKeyInfo of a P-256 key, in bytes. */
export const publicKeyBytes = publicKeyPrefix.length + 64

/** A signature with P-256 as r and s (IEEE P1363), in bytes. */
export const possessionBytes = 64

export interface CertificateRequest {
  /** SubjectPublicKeyInfo, DER: `publicKeyBytes` bytes. */
  publicKey: Buffer
  /** ECDSA with SHA-256 over `possessionStatement`, as r and s: `possessionBytes` bytes. */
  possession: Buffer
}

/**
 * What the owner of the key signs. `binding` is that of the channel (`channelBinding`), so that no request is good on
 * another one. The label keeps the signature from being taken for one of TLS, or of anything else.
 */
export function possessionStatement(publicKey: Buffer, binding: Buffer): Buffer {
  return Buffer.concat([Buffer.from('central-backup certificate request 1\0'), binding, publicKey])
}

/** Whether the bytes have the form of a P-256 key. That they are a point of the curve is seen when they are loaded. */
export function isPublicKeyForm(bytes: Buffer): boolean {
  return bytes.length === publicKeyBytes && bytes.subarray(0, publicKeyPrefix.length).equals(publicKeyPrefix)
}
