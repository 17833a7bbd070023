import assert from 'node:assert/strict'
import type { X509Certificate } from 'node:crypto'
import { before, test } from 'node:test'
import { createRevocationList } from '../../central-server/src/pki/certificate.ts'
import {
  authoritiesMax,
  certificateForKey,
  extendTrust,
  formatKeyFile,
  formatTrust,
  listOf,
  readTrust,
  revokedSerials,
  type Trust,
  type TrustOffer,
} from '../src/index.ts'
import { endorse, makeLeaf, makePair, type Pair } from './trust-pairs.ts'

const nowMs = Date.now()
const dayMs = 86_400_000
const web1 = { role: 'host', name: 'web1' } as const

let old: Pair
let next: Pair
let stranger: Pair
let own: Pair
let ofNext: Pair
let trust: Trust

before(async () => {
  old = await makePair('old')
  next = await makePair('next')
  stranger = await makePair('stranger')
  own = await makeLeaf(old, web1)
  ofNext = await makeLeaf(next, web1)
  trust = { authorities: [old.x509], lists: new Map() }
})

function listBy(authority: Pair, number: number, ...revoked: X509Certificate[]): Promise<Buffer> {
  const serials = new Map(revoked.map(({ serialNumber }) => [serialNumber, nowMs]))
  return createRevocationList(authority, { number, revoked: serials }, nowMs)
}

function offering(authorities: [X509Certificate, X509Certificate][], ...lists: Buffer[]): TrustOffer {
  const offered = authorities.map(([one, by]) => ({ certificate: one.raw, endorsement: by.raw }))
  return { authorities: offered, lists }
}

function extend(from: Trust, offer: TrustOffer, certificate = own.x509) {
  return extendTrust(from, offer, certificate, nowMs)
}

function names({ authorities }: Trust): string[] {
  return authorities.map(({ subject }) => subject.replace('CN=', ''))
}

test('an authority is taken where one that is trusted has signed for it, and stands first then', async () => {
  const { trust: after, faults } = extend(trust, offering([[next.x509, await endorse(old, next)]]))
  assert.deepEqual(faults, [])
  assert.deepEqual(names(after), ['next', 'old'])
  // Once more it is no news.
  const again = extend(after, offering([[next.x509, await endorse(old, next)]]))
  assert.deepEqual([names(again.trust), again.faults], [['next', 'old'], []])
})

test('a row of authorities is taken, each by the word of the one before it', async () => {
  const third = await makePair('third')
  const offer = offering([
    [next.x509, await endorse(old, next)],
    [third.x509, await endorse(next, third)],
  ])
  assert.deepEqual(names(extend(trust, offer).trust), ['third', 'next', 'old'])
})

const untaken: [string, () => Promise<[X509Certificate, X509Certificate]>, RegExp][] = [
  ['a stranger has signed for it', async () => [next.x509, await endorse(stranger, next)], /has signed for/],
  ['it has signed for itself', async () => [next.x509, await endorse(next, next)], /has signed for/],
  [
    'what is signed for is another one',
    async () => [stranger.x509, await endorse(old, next)],
    /has signed for/,
  ],
  [
    'it has the name of one that is signed for',
    async () => [(await makePair('next')).x509, await endorse(old, next)],
    /has signed for/,
  ],
  ['a leaf takes the place of the endorsement', async () => [next.x509, own.x509], /has signed for/],
  ['the authority itself takes that place', async () => [next.x509, old.x509], /has signed for/],
  ['it is a leaf', async () => [own.x509, own.x509], /is none/],
  ['it is the endorsement', async () => [await endorse(old, next), await endorse(old, next)], /is none/],
  [
    'it has expired',
    async () => {
      const late = await makePair('late', nowMs - 4000 * dayMs)
      return [late.x509, await endorse(old, late)]
    },
    /not valid now/,
  ],
  [
    'it is of the future',
    async () => {
      const early = await makePair('early', nowMs + 4 * dayMs)
      return [early.x509, await endorse(old, early)]
    },
    /not valid now/,
  ],
]
for (const [what, make, words] of untaken) {
  test(`an authority is not taken where ${what}`, async () => {
    const { trust: after, faults } = extend(trust, offering([await make()]))
    assert.deepEqual(names(after), ['old'])
    assert.equal(faults.length, 1)
    assert.match(faults[0]!, words)
  })
}

test('an authority that is revoked is not taken', async () => {
  const list = await listBy(old, 5, next.x509)
  const { trust: listed } = extend(trust, offering([], list))
  const { trust: after, faults } = extend(listed, offering([[next.x509, await endorse(old, next)]]))
  assert.deepEqual(names(after), ['old'])
  assert.match(faults[0]!, /revoked/)
})

test('there are no more authorities than there may be', async () => {
  let full = trust
  for (let i = 0; i < authoritiesMax; i++) {
    const one = await makePair(`number ${i}`)
    full = extend(full, offering([[one.x509, await endorse(old, one)]])).trust
  }
  assert.equal(full.authorities.length, authoritiesMax)
})

test('an older list never takes the place of a newer one, nor one with the same number', async () => {
  const newer = extend(trust, offering([], await listBy(old, 7, own.x509))).trust
  for (const number of [1, 6, 7]) {
    const { trust: after, faults } = extend(newer, offering([], await listBy(old, number)))
    assert.deepEqual(faults, [])
    assert.equal(listOf(after, old.x509)!.number, 7)
    assert.ok(revokedSerials(after).has(own.x509.serialNumber))
  }
  assert.equal(revokedSerials(extend(newer, offering([], await listBy(old, 8))).trust).size, 0)
})

test('a list of an authority that is not trusted is refused, and the rest of the offer is taken', async () => {
  const offer = offering(
    [],
    await listBy(stranger, 9, own.x509),
    Buffer.from('3000', 'hex'),
    await listBy(old, 3),
  )
  const { trust: after, faults } = extend(trust, offer)
  assert.equal(faults.length, 2)
  assert.equal(listOf(after, old.x509)!.number, 3)
})

test('the old authority goes by the word of the one that has issued the own certificate, and by no other', async () => {
  const both = extend(trust, offering([[next.x509, await endorse(old, next)]])).trust
  const farewell = offering([], await listBy(next, 2, old.x509))
  assert.deepEqual(names(extend(both, farewell, own.x509).trust), ['next', 'old'])
  assert.deepEqual(names(extend(both, farewell, ofNext.x509).trust), ['next'])
  // The old one cannot send the new one away.
  const revenge = offering([], await listBy(old, 2, next.x509))
  assert.deepEqual(names(extend(both, revenge, ofNext.x509).trust), ['next', 'old'])
})

test('the list of an authority that is gone is gone, too', async () => {
  const both = extend(
    trust,
    offering([[next.x509, await endorse(old, next)]], await listBy(old, 4, own.x509)),
  ).trust
  const after = extend(both, offering([], await listBy(next, 2, old.x509)), ofNext.x509).trust
  assert.equal(after.lists.size, 1)
  assert.ok(!revokedSerials(after).has(own.x509.serialNumber))
})

test('a trust is the same when it was written and read again', async () => {
  const offer = offering(
    [[next.x509, await endorse(old, next)]],
    await listBy(next, 4, own.x509),
    await listBy(old, 2),
  )
  const { trust: after } = extend(trust, offer)
  const { certificates, lists } = formatTrust(after)
  const read = readTrust(certificates, lists)
  assert.deepEqual(read.strange, [])
  assert.deepEqual(names(read.trust), ['next', 'old'])
  assert.deepEqual(read.trust.lists, after.lists)
  assert.equal(readTrust(old.certificate, lists).strange.length, 1)
})

test('of the certificates beside a key and in its file, the one that fits it and is valid longest counts', async () => {
  const before = await makeLeaf(old, web1, nowMs - 100 * dayMs)
  const text = formatKeyFile(own.key, own.certificate)
  assert.equal(certificateForKey(own.key, own.certificate), own.certificate)
  assert.equal(certificateForKey(text, before.certificate).trim(), own.certificate.trim())
  assert.equal(
    certificateForKey(formatKeyFile(own.key, before.certificate), own.certificate),
    own.certificate,
  )
  // Where none fits, whoever looks at the file of the certificate says so.
  assert.equal(certificateForKey(stranger.key, own.certificate), own.certificate)
  assert.equal(certificateForKey('no key', 'no certificate'), 'no certificate')
})
