import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import type { X509Certificate } from 'node:crypto'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { createRevocationList } from '../../central-server/src/pki/certificate.ts'
import { formatPem, RevocationListError, readRevocationList, revocationListBytesMax } from '../src/index.ts'
import { makePair, type Pair } from './trust-pairs.ts'

const nowMs = Math.floor(Date.now() / 1000) * 1000
const serial = '7FA93C5D0A6E4B1299887766554433AA'

let authority: Pair
let other: Pair
let der: Buffer

before(async () => {
  authority = await makePair('the authority')
  other = await makePair('another one')
  der = await createRevocationList(authority, { number: 300, revoked: new Map([[serial, nowMs]]) }, nowMs)
})

function read(bytes: Buffer, ...authorities: X509Certificate[]) {
  return readRevocationList(bytes, authorities.length > 0 ? authorities : [authority.x509])
}

test('a list has a number, serial numbers, and since when they are revoked', () => {
  const found = read(der, other.x509, authority.x509)
  assert.equal(found.authority, authority.x509)
  assert.equal(found.list.number, 300)
  assert.deepEqual([...found.list.revoked], [[serial, nowMs]])
})

test('the serial number of a list is that of the certificate, whatever bits it begins with', async () => {
  for (const one of ['01', '7F', '80', 'FF00', serial]) {
    const list = await createRevocationList(authority, { number: 1, revoked: new Map([[one, nowMs]]) }, nowMs)
    assert.deepEqual([...read(list).list.revoked.keys()], [one])
  }
})

test('openssl reads it, and says that the authority has signed it', (context) => {
  if (spawnSync('openssl', ['version']).error) return context.skip('this machine has no openssl')
  const ended = spawnSync('openssl', ['crl', '-noout', '-text', '-inform', 'DER'], {
    input: der,
    encoding: 'utf8',
  })
  assert.equal(ended.status, 0, ended.stderr)
  assert.match(ended.stdout, /X509v3 CRL Number:\s+300\s/)
  assert.match(ended.stdout, new RegExp(`Serial Number: ${serial}`))
  assert.match(
    formatPem('X509 CRL', der),
    /^-----BEGIN X509 CRL-----\n[A-Za-z0-9+/=\n]+-----END X509 CRL-----\n$/,
  )
})

test('a list that another authority has signed is refused', () => {
  assert.throws(() => read(der, other.x509), RevocationListError)
  assert.throws(() => readRevocationList(der, []), RevocationListError)
})

test('a list with any bit turned over, cut, or with something behind it is refused', () => {
  fc.assert(
    fc.property(fc.nat({ max: der.length * 8 - 1 }), (bit) => {
      const changed = Buffer.from(der)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      assert.throws(() => read(changed), RevocationListError)
    }),
    { numRuns: 300 },
  )
  for (let length = 0; length < der.length; length++)
    assert.throws(() => read(der.subarray(0, length)), RevocationListError)
  assert.throws(() => read(Buffer.concat([der, Buffer.of(0)])), RevocationListError)
})

test('noise is refused, however it is made', () => {
  const nested = fc.letrec<{ value: Buffer }>((tie) => ({
    value: fc
      .tuple(
        fc.constantFrom(0x02, 0x03, 0x04, 0x06, 0x17, 0x18, 0x30, 0xa0),
        fc.oneof(
          { depthSize: 'small' },
          fc.uint8Array({ maxLength: 8 }),
          fc.array(tie('value'), { maxLength: 4 }),
        ),
      )
      .map(([tag, content]) => {
        const bytes = content instanceof Uint8Array ? Buffer.from(content) : Buffer.concat(content)
        const length =
          bytes.length < 128
            ? Buffer.of(bytes.length)
            : Buffer.of(0x82, bytes.length >> 8, bytes.length & 255)
        return Buffer.concat([Buffer.of(tag), length, bytes])
      }),
  })).value
  fc.assert(
    fc.property(nested, (bytes) => {
      assert.throws(() => read(bytes), RevocationListError)
    }),
    { numRuns: 500 },
  )
})

test('a list that is larger than it may be is not looked at', () => {
  assert.throws(() => read(Buffer.alloc(revocationListBytesMax + 1, 0x30)), /too large/)
})
