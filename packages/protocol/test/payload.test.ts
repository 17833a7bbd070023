import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pack } from 'msgpackr'
import { controlPayloadBytesMax, ProtocolError, payloadDepthMax, payloadElementsMax } from '../src/index.ts'
import { decodePayload, encodePayload } from '../src/payload.ts'

function refused(payload: Buffer): void {
  assert.throws(
    () => decodePayload(payload),
    (error) => error instanceof ProtocolError && error.code === 'message-malformed',
  )
}

/** A map of one key, `a`, with the bytes of a value in hex. */
function mapOf(valueHex: string): Buffer {
  return Buffer.from(`81a161${valueHex}`, 'hex')
}

test('plain values come out as they went in', () => {
  const fields = {
    none: null,
    yes: true,
    no: false,
    text: 'grüße 🙂',
    long: 'x'.repeat(70_000),
    bytes: Buffer.from([0, 255, 0xc1]),
    list: Array.from({ length: 20 }, (_, index) => index),
    map: { inner: [{ deepest: [] }] },
    numbers: [
      0,
      -1,
      127,
      128,
      255,
      256,
      65_535,
      65_536,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 32,
      -(2 ** 31),
      -(2 ** 31) - 1,
    ],
    extremes: [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  }
  assert.deepEqual(decodePayload(encodePayload(fields)), fields)
})

test('a field that is undefined is not written', () => {
  assert.deepEqual(decodePayload(encodePayload({ a: 1, b: undefined, c: { d: undefined } })), { a: 1, c: {} })
})

test('bytes alias the payload', () => {
  const payload = encodePayload({ a: Buffer.from('xyz') })
  const { a } = decodePayload(payload) as { a: Buffer }
  assert.equal(a.buffer, payload.buffer)
})

const malformed: Record<string, Buffer> = {
  'of no bytes': Buffer.alloc(0),
  'that is a list': Buffer.from('90', 'hex'),
  'that is a number': Buffer.from('01', 'hex'),
  'with bytes after it': Buffer.from('8000', 'hex'),
  'of two maps': Buffer.from('8080', 'hex'),
  'with a float': mapOf('cb3ff8000000000000'),
  'with a short float': mapOf('ca3fc00000'),
  'with byte 0xc1': mapOf('c1'),
  'with an extension': mapOf('d40100'),
  'with the undefined of msgpackr': mapOf('d40000'),
  'with a time': mapOf('d6ff00000000'),
  'with a record definition': mapOf('d4724091a16b01'),
  'with a long extension': mapOf('c9000000010100'),
  'with a numeric key': Buffer.from('810101', 'hex'),
  'with bytes as key': Buffer.from('81c4016101', 'hex'),
  'with a map as key': Buffer.from('818001', 'hex'),
  'with a key twice': Buffer.from('82a16101a16102', 'hex'),
  'with text that is not UTF-8': mapOf('a1ff'),
  'with a lone surrogate in UTF-8': mapOf('a3eda080'),
  'with text beyond its end': mapOf('a561'),
  'with bytes of 4 GiB': mapOf('c6ffffffff'),
  'with text of 4 GiB': mapOf('dbffffffff'),
  'with a list of 4 billion': mapOf('ddffffffff'),
  'with a map of 4 billion': mapOf('dfffffffff'),
  'that ends in a number': mapOf('cf00'),
  'that ends in a length': mapOf('dd00'),
  'nested too deep': Buffer.from(`${'81a161'.repeat(payloadDepthMax + 1)}c0`, 'hex'),
}

for (const [what, payload] of Object.entries(malformed)) {
  test(`a payload ${what} is refused`, () => refused(payload))
}

test('a payload nested to the limit is read', () => {
  decodePayload(Buffer.from(`${'81a161'.repeat(payloadDepthMax)}c0`, 'hex'))
})

test('a key of msgpackr that is special in JavaScript reaches no prototype', () => {
  const fields = decodePayload(Buffer.from('81a95f5f70726f746f5f5f81a16101', 'hex'))
  assert.equal(Object.getPrototypeOf(fields), Object.prototype)
  assert.equal((fields as { a?: unknown }).a, undefined)
})

test('the number of values is limited, so that a payload at its limit cannot swell', () => {
  const key = 'a'
  const inside = (values: number) => pack({ [key]: Array(values).fill([]) })
  // The map, its key and the list are values as well.
  decodePayload(inside(payloadElementsMax - 3))
  refused(inside(payloadElementsMax - 2))
  refused(inside(controlPayloadBytesMax - 8))
})

test('maps of many keys are limited as lists are', () => {
  const many = Object.fromEntries(
    Array.from({ length: payloadElementsMax }, (_, index) => [`k${index}`, index]),
  )
  refused(pack(many))
})
