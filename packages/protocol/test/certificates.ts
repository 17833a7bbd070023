// A certificate maker for tests: a CA in memory, and leaf certificates with whatever is wrong with them that a
// test wants. Not for use anywhere else: keys are never stored, serial numbers are short.

import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

x509.cryptoProvider.set(webcrypto)

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const dayMs = 24 * 60 * 60 * 1000

/** What a TLS endpoint needs, all PEM. */
export interface Credentials {
  ca: string
  cert: string
  key: string
}

/** How a leaf differs from the plain good one. */
export interface LeafOptions {
  /** The subjectAltName URIs. */
  uris?: readonly string[]
  /** DNS names in subjectAltName. */
  dns?: readonly string[]
  /** Days from now; negative is the past. */
  notBeforeDays?: number
  notAfterDays?: number
  /** The extended key usages; `null` leaves the extension out. */
  usages?: readonly ('client' | 'server')[] | null
}

export interface TestAuthority {
  /** The CA's own certificate, PEM. */
  readonly cert: string
  /** Credentials of a host `name`. */
  host(name: string, options?: LeafOptions): Promise<Credentials>
  /** Credentials of a server `name`. */
  server(name: string, options?: LeafOptions): Promise<Credentials>
}

let serialNumber = 0x1000

function nextSerial(): string {
  serialNumber += 1
  return serialNumber.toString(16).padStart(8, '0')
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
}

async function pemOfKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}

/** A new CA with a P-256 key. */
export async function createAuthority(name = 'central-backup test CA'): Promise<TestAuthority> {
  const caKeys = await generateKeys()
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: nextSerial(),
    name: `CN=${name}`,
    notBefore: new Date(Date.now() - 30 * dayMs),
    notAfter: new Date(Date.now() + 30 * dayMs),
    keys: caKeys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  })

  async function leaf(commonName: string, options: LeafOptions): Promise<Credentials> {
    const keys = await generateKeys()
    const names = [
      ...(options.uris ?? []).map((value) => ({ type: 'url' as const, value })),
      ...(options.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
    ]
    const usages = (options.usages ?? []).map((usage) => x509.ExtendedKeyUsage[`${usage}Auth`])
    const cert = await x509.X509CertificateGenerator.create({
      serialNumber: nextSerial(),
      subject: `CN=${commonName}`,
      issuer: ca.subject,
      notBefore: new Date(Date.now() + (options.notBeforeDays ?? -1) * dayMs),
      notAfter: new Date(Date.now() + (options.notAfterDays ?? 10) * dayMs),
      signingKey: caKeys.privateKey,
      publicKey: keys.publicKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        ...(usages.length > 0 ? [new x509.ExtendedKeyUsageExtension(usages)] : []),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ],
    })
    return { ca: ca.toString('pem'), cert: cert.toString('pem'), key: await pemOfKey(keys.privateKey) }
  }

  return {
    cert: ca.toString('pem'),
    host: (host, options = {}) =>
      leaf(host, { uris: [`urn:central-backup:host:${host}`], usages: ['server'], ...options }),
    server: (server, options = {}) =>
      leaf(server, { uris: [`urn:central-backup:server:${server}`], usages: ['client'], ...options }),
  }
}
