import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { before, test } from 'node:test'
import { type CertificateRequest, possessionStatement } from '@central-backup/protocol'
import { createAuthority, type KeyPair, leafDays } from '../src/pki/certificate.ts'
import { issueHostCertificate } from '../src/pki/certificate-request.ts'
import { findCertificateFaults } from '../src/pki/inspect.ts'

const nowMs = Math.floor(Date.now() / 1000) * 1000
const binding = Buffer.alloc(32, 7)

/** Made once; a key that is used for nothing else. */
const vector: Record<'key' | 'binding' | 'publicKey' | 'statement' | 'possession', string> = JSON.parse(
  readFileSync(new URL('../../protocol/test/certificate-request-v1.json', import.meta.url), 'utf8'),
)

let authority: KeyPair

before(async () => {
  authority = await createAuthority('test CA', nowMs)
})

function makeKey(namedCurve = 'P-256') {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve })
  return { privateKey, publicKey: publicKey.export({ type: 'spki', format: 'der' }) }
}

function requestOf(
  { privateKey, publicKey }: ReturnType<typeof makeKey>,
  bound = binding,
): CertificateRequest {
  const statement = possessionStatement(publicKey, bound)
  return { publicKey, possession: sign('sha256', statement, { key: privateKey, dsaEncoding: 'ieee-p1363' }) }
}

test('a host that has its key gets a certificate for it, with the name that the server gave it', async () => {
  const key = makeKey()
  const certificate = await issueHostCertificate(authority, 'web1', requestOf(key), binding, nowMs)
  const pair = {
    certificate,
    key: key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    authority: authority.certificate,
  }
  assert.deepEqual(findCertificateFaults(pair, { role: 'host', name: 'web1' }, nowMs), [])
  const read = new X509Certificate(certificate)
  assert.deepEqual(read.publicKey.export({ type: 'spki', format: 'der' }), key.publicKey)
  assert.deepEqual(read.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  assert.equal(read.validToDate.getTime(), nowMs + leafDays * 86_400_000)
})

/** Of the same length as a P-256 key and with its beginning, but no point of the curve. */
function offCurve(): Buffer {
  const { publicKey } = makeKey()
  publicKey.fill(1, publicKey.length - 64)
  return publicKey
}

const hostile: [string, () => CertificateRequest][] = [
  [
    'of another host’s key, without having it',
    () => ({ ...requestOf(makeKey()), publicKey: makeKey().publicKey }),
  ],
  ['that was made for another channel', () => requestOf(makeKey(), Buffer.alloc(32, 8))],
  [
    'whose proof is a signature of something else',
    () => {
      const key = makeKey()
      const possession = sign('sha256', key.publicKey, { key: key.privateKey, dsaEncoding: 'ieee-p1363' })
      return { publicKey: key.publicKey, possession }
    },
  ],
  ['whose proof is of zeros', () => ({ ...requestOf(makeKey()), possession: Buffer.alloc(64) })],
  ['whose proof is empty', () => ({ ...requestOf(makeKey()), possession: Buffer.alloc(0) })],
  ['of a key of another curve', () => requestOf(makeKey('P-384'))],
  ['of a key of another curve of the same size', () => requestOf(makeKey('secp256k1'))],
  ['of an RSA key', () => ({ ...requestOf(makeKey()), publicKey: rsaKey() })],
  ['of no key', () => ({ ...requestOf(makeKey()), publicKey: Buffer.alloc(0) })],
  ['of a point beside the curve', () => ({ ...requestOf(makeKey()), publicKey: offCurve() })],
  [
    'of a key with something after it',
    () => {
      const { publicKey, possession } = requestOf(makeKey())
      return { publicKey: Buffer.concat([publicKey, Buffer.alloc(1)]), possession }
    },
  ],
]

function rsaKey(): Buffer {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return publicKey.export({ type: 'spki', format: 'der' })
}

for (const [what, make] of hostile) {
  test(`a request ${what} is not signed`, async () => {
    await assert.rejects(issueHostCertificate(authority, 'web1', make(), binding, nowMs), {
      code: 'certificate-request',
    })
  })
}

test('a request that stands in a file is still good: the format is what it was', async () => {
  const { key, binding, statement, publicKey, possession } = vector
  const pem = createPrivateKey({ key: Buffer.from(key, 'hex'), format: 'der', type: 'pkcs8' })
  const read = createPublicKey(pem).export({ type: 'spki', format: 'der' })
  assert.equal(read.toString('hex'), publicKey)
  const bound = Buffer.from(binding, 'hex')
  assert.equal(possessionStatement(read, bound).toString('hex'), statement)
  const request = { publicKey: read, possession: Buffer.from(possession, 'hex') }
  assert.match(await issueHostCertificate(authority, 'web1', request, bound, nowMs), /BEGIN CERTIFICATE/)
})
