import 'reflect-metadata'
import { randomBytes, webcrypto } from 'node:crypto'
import { endorsementUri, type Identity, identityUri } from '@central-backup/protocol'
import * as x509 from '@peculiar/x509'
import { isAddress } from '../config/fields.ts'
import { CertificateError } from '../errors.ts'

/** A certificate and its private key (PKCS#8), both PEM. */
export interface KeyPair {
  certificate: string
  key: string
}

const dayMs = 86_400_000

export const authorityDays = 3653
export const leafDays = 825

/** Certificates are valid from an hour ago, so that a host whose clock is a little behind takes them. */
const clockToleranceMs = 3_600_000

/** P-256, of all keys. */
export const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/**
 * Makes a certificate authority: self-signed, P-256, good for signing leaf certificates only (path length 0) and for
 * `authorityDays` days. `name` is for people.
 *
 * Whoever has its key can make certificates for any host and any server. It is needed to add hosts and to renew
 * certificates, never for a run: keep it elsewhere, and a stolen server cannot mint any.
 */
export async function createAuthority(name: string, nowMs: number): Promise<KeyPair> {
  const keys = await generateKeys()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ CN: [name] }],
    ...validity(nowMs, authorityDays),
    signingAlgorithm: keyAlgorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificate: pem(certificate), key: await exportKey(keys.privateKey) }
}

/**
 * Makes a certificate that says who its owner is: the URI of its role and name, P-256, for `leafDays` days. A host's is
 * good for accepting connections only, a server's for opening them only. The key is new and is kept nowhere else.
 */
export async function issueCertificate(
  authority: KeyPair,
  identity: Identity,
  nowMs: number,
): Promise<KeyPair> {
  const keys = await generateKeys()
  const certificate = await signCertificate(authority, identity, keys.publicKey, nowMs)
  return { certificate, key: await exportKey(keys.privateKey) }
}

/**
 * The same for a key that is there already, P-256, whose private half this side need not have. Whether it belongs to who
 * gets the certificate was seen to before. Returns the certificate, PEM. Throws `CertificateError` where the authority
 * cannot sign.
 */
export async function signCertificate(
  authority: KeyPair,
  identity: Identity,
  publicKey: webcrypto.CryptoKey,
  nowMs: number,
): Promise<string> {
  const issuer = await importAuthority(authority, nowMs)
  const { serverAuth, clientAuth } = x509.ExtendedKeyUsage
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: [{ CN: [identity.name] }],
    issuer: issuer.certificate.subjectName,
    ...validity(nowMs, leafDays, issuer.certificate.notAfter),
    signingAlgorithm: keyAlgorithm,
    signingKey: issuer.key,
    publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([identity.role === 'host' ? serverAuth : clientAuth]),
      new x509.SubjectAlternativeNameExtension(alternativeNames(identity)),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.certificate),
    ],
  })
  return pem(certificate)
}

/** The URI decides. The DNS name is only there for the eyes of people and of other tools. */
function alternativeNames(identity: Identity): x509.JsonGeneralNames {
  const uri = { type: 'url', value: identityUri(identity) } as const
  return isAddress(identity.name) ? [uri, { type: 'dns', value: identity.name }] : [uri]
}

function validity(nowMs: number, days: number, limit?: Date): { notBefore: Date; notAfter: Date } {
  const notAfterMs = Math.min(nowMs + days * dayMs, limit?.getTime() ?? Number.POSITIVE_INFINITY)
  return { notBefore: new Date(nowMs - clockToleranceMs), notAfter: new Date(notAfterMs) }
}

/** 126 random bits: positive, and never shortened by leading zeros. */
function randomSerial(): string {
  const bytes = randomBytes(16)
  bytes[0] = (bytes[0]! & 0x3f) | 0x40
  return bytes.toString('hex')
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key)
  return `${x509.PemConverter.encode(der, 'PRIVATE KEY')}\n`
}

function pem(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`
}

/**
 * Makes the certificate by which an authority signs for a new one: the new one's key and name, signed by the old. It says
 * what it is for, and as an authority may sign for nothing but leaves, TLS never takes it as part of a chain.
 */
export async function endorseAuthority(
  authority: KeyPair,
  newAuthority: string,
  nowMs: number,
): Promise<string> {
  const issuer = await importAuthority(authority, nowMs)
  const endorsed = new x509.X509Certificate(newAuthority)
  const publicKey = await endorsed.publicKey.export(keyAlgorithm, ['verify'])
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: endorsed.subjectName,
    issuer: issuer.certificate.subjectName,
    ...validity(nowMs, authorityDays, issuer.certificate.notAfter),
    signingAlgorithm: keyAlgorithm,
    signingKey: issuer.key,
    publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: endorsementUri }]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.certificate),
    ],
  })
  return pem(certificate)
}

/**
 * Makes a revocation list (X.509 CRL, DER): serial numbers, and since when they are revoked in milliseconds since 1970.
 * It names the end of the authority as its next update, as it is good until the next one comes, whenever that is.
 */
export async function createRevocationList(
  authority: KeyPair,
  { number, revoked }: { number: number; revoked: ReadonlyMap<string, number> },
  nowMs: number,
): Promise<Buffer> {
  const issuer = await importAuthority(authority, nowMs)
  const list = await x509.X509CrlGenerator.create({
    issuer: issuer.certificate.subjectName,
    thisUpdate: new Date(nowMs),
    nextUpdate: issuer.certificate.notAfter,
    signingAlgorithm: keyAlgorithm,
    signingKey: issuer.key,
    entries: [...revoked].map(([serialNumber, sinceMs]) => ({
      serialNumber,
      revocationDate: new Date(sinceMs),
    })),
    extensions: [
      await x509.AuthorityKeyIdentifierExtension.create(issuer.certificate),
      new x509.Extension(crlNumberId, false, derInteger(number)),
    ],
  })
  return Buffer.from(list.rawData)
}

const crlNumberId = '2.5.29.20'

/** A positive integer as DER. */
function derInteger(value: number): Buffer {
  const digits = value.toString(16)
  const bytes = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex')
  const content = bytes[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes
  return Buffer.concat([Buffer.of(0x02, content.length), content])
}

/** Throws `CertificateError` where the authority cannot sign now. */
export async function requireAuthority(authority: KeyPair, nowMs: number): Promise<void> {
  await importAuthority(authority, nowMs)
}

async function importAuthority(
  authority: KeyPair,
  nowMs: number,
): Promise<{ certificate: x509.X509Certificate; key: webcrypto.CryptoKey }> {
  const invalid = (what: string, cause?: unknown) => {
    const hint =
      'Restore ca.crt and ca.key from where they are kept; `backup-server check --offline` looks at them.'
    return new CertificateError('authority-invalid', `The certificate authority cannot sign: ${what}`, {
      hint,
      cause,
    })
  }
  try {
    const certificate = new x509.X509Certificate(authority.certificate)
    const [der] = x509.PemConverter.decode(authority.key)
    const key = await webcrypto.subtle.importKey('pkcs8', der!, keyAlgorithm, false, ['sign'])
    const probe = randomBytes(32)
    const signature = await webcrypto.subtle.sign(keyAlgorithm, key, probe)
    const publicKey = await certificate.publicKey.export(keyAlgorithm, ['verify'])
    if (!(await webcrypto.subtle.verify(keyAlgorithm, publicKey, signature, probe))) {
      throw invalid('its key does not belong to its certificate')
    }
    if (certificate.notAfter.getTime() <= nowMs)
      throw invalid(`it expired on ${certificate.notAfter.toISOString()}`)
    return { certificate, key }
  } catch (error) {
    throw error instanceof CertificateError ? error : invalid('its certificate or key cannot be read', error)
  }
}
