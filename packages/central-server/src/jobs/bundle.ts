/**
 * What is carried to a host to set it up, format version 1: one JSON object. `backup-host init` reads it. It holds the
 * host's private key and its password, so it is a secret, and is to be deleted once it was used.
 */
export interface Bundle {
  format: 'central-backup-bundle'
  version: 1
  /** Name and port of the host. */
  name: string
  port: number
  /** PEM: the certificate of the host, its private key (PKCS#8), and the certificate of the authority. */
  certificate: string
  key: string
  authority: string
  password: string
}

export function formatBundle(bundle: Omit<Bundle, 'format' | 'version'>): string {
  return `${JSON.stringify({ format: 'central-backup-bundle', version: 1, ...bundle } satisfies Bundle, null, 2)}\n`
}
