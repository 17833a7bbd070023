import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  createEnrolmentCode,
  enrolmentProof,
  formatEnrolmentCode,
  isEnrolmentProof,
  parseEnrolmentCode,
} from '../src/index.ts'

// Computed with Python's hmac and hashlib, as docs/protocol.md has it. Changed vectors are another protocol.
const secret = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')
const binding = Buffer.from('f0e0d0c0b0a090807060504030201000'.repeat(2), 'hex')
const code = '000G-40R4-0M30-E209-185G-R38E-1Z14'
const proofs = {
  host: 'b686edf20a1f260cdd260c7557e219ea80457ca2eeef6ae6c49a284dddd55d1f',
  server: 'ad02c4c451e370db87b787a3d54f9682808661574d883b2736186f45fbb5796b',
}

test('the proofs of both sides are those of their vectors', () => {
  for (const role of ['host', 'server'] as const) {
    assert.equal(enrolmentProof(secret, role, binding).toString('hex'), proofs[role])
    assert.ok(isEnrolmentProof(Buffer.from(proofs[role], 'hex'), secret, role, binding))
  }
})

test('a proof is none for the other side, for another channel, for another code, or with a bit turned over', () => {
  const proof = enrolmentProof(secret, 'host', binding)
  const otherChannel = Buffer.from(binding)
  otherChannel[31]! ^= 1
  assert.ok(!isEnrolmentProof(proof, secret, 'server', binding))
  assert.ok(!isEnrolmentProof(proof, secret, 'host', otherChannel))
  assert.ok(!isEnrolmentProof(proof, createEnrolmentCode(), 'host', binding))
  assert.ok(!isEnrolmentProof(proof.subarray(1), secret, 'host', binding))
  assert.ok(!isEnrolmentProof(Buffer.alloc(0), secret, 'host', binding))
  for (let bit = 0; bit < 256; bit++) {
    const turned = Buffer.from(proof)
    turned[bit >> 3]! ^= 1 << (bit & 7)
    assert.ok(!isEnrolmentProof(turned, secret, 'host', binding))
  }
})

test('a code is written as its vector, and read as people type it', () => {
  assert.equal(formatEnrolmentCode(secret), code)
  for (const typed of [
    code,
    code.toLowerCase(),
    code.replaceAll('-', ''),
    code.replaceAll('-', ' '),
    ` ${code}\n`,
    code.replaceAll('0', 'O'),
    code.replaceAll('1', 'l'),
    code.replaceAll('1', 'I'),
  ]) {
    assert.deepEqual(parseEnrolmentCode(typed), secret, typed)
  }
})

test('every code is read as what was written, and no two are the same', () => {
  const codes = Array.from({ length: 500 }, createEnrolmentCode)
  const written = codes.map(formatEnrolmentCode)
  assert.equal(new Set(written).size, 500)
  for (const [i, text] of written.entries()) assert.deepEqual(parseEnrolmentCode(text), codes[i])
  for (const edge of ['00'.repeat(16), 'ff'.repeat(16)]) {
    assert.equal(parseEnrolmentCode(formatEnrolmentCode(Buffer.from(edge, 'hex')))!.toString('hex'), edge)
  }
})

test('a code with one character or group left out, doubled or exchanged is told from one that is another', () => {
  const groups = code.split('-')
  const slips = [
    code.slice(1),
    code.slice(0, -1),
    `${code}0`,
    groups.slice(1).join('-'),
    [...groups, groups[0]].join('-'),
    [groups[1], groups[0], ...groups.slice(2)].join('-'),
    '',
    'U'.repeat(28),
    'x'.repeat(1_000_000),
  ]
  for (const slip of slips) assert.equal(parseEnrolmentCode(slip), null, slip.slice(0, 50))
  let noticed = 0
  const other = (character: string) => (character === 'Z' ? 'Y' : 'Z')
  for (let i = 0; i < code.length; i++) {
    if (code[i] === '-') continue
    if (parseEnrolmentCode(code.slice(0, i) + other(code[i]!) + code.slice(i + 1)) === null) noticed++
  }
  assert.equal(noticed, 28)
})

test('any text is read as a code or as none, and never throws', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      const read = parseEnrolmentCode(text)
      assert.ok(read === null || read.length === 16)
    }),
    { numRuns: 2000 },
  )
})
