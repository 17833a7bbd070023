import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { readCertificates } from './trust.ts'

/**
 * The certificate to be used with a key, PEM. A key and its certificate are changed together by one rename: the file of the
 * key then holds both, and the file of the certificate is a copy, which may be older for a moment, or after a crash for
 * longer. So, of the certificates in both texts that belong to the key, the one counts that is valid longest. Where
 * none does, or something cannot be read, it is what the file of the certificate has, and its user will say what is wrong.
 */
export function certificateForKey(keyText: string, certificateText: string): string {
  try {
    const key = createPrivateKey(keyText)
    const beside = firstOf(certificateText)
    const candidates = [...(beside === undefined ? [] : [beside]), ...readCertificates(keyText)]
    const [best] = candidates.filter((one) => isOf(one, key)).sort((a, b) => endMs(b) - endMs(a))
    return best === undefined || best === beside ? certificateText : best.toString()
  } catch {
    return certificateText
  }
}

/** What the file of a key holds from now on: the key, and the certificate that goes with it. Both PEM. */
export function formatKeyFile(key: string, certificate: string): string {
  return `${key.trimEnd()}\n${certificate.trimEnd()}\n`
}

function firstOf(text: string): X509Certificate | undefined {
  try {
    return new X509Certificate(text)
  } catch {
    return undefined
  }
}

function isOf(certificate: X509Certificate, key: KeyObject): boolean {
  return certificate.checkPrivateKey(key)
}

function endMs(certificate: X509Certificate): number {
  return certificate.validToDate.getTime()
}
