import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { ArchiveError } from '../src/errors.ts'
import { MsgpackReader, MsgpackWriter } from '../src/msgpack.ts'
import { unpack } from './oracles.ts'

/** msgpackr judges the bytes in both directions. */
const packr = new Packr({ useRecords: false })

const safeInteger = fc.oneof(fc.integer({ min: -70_000, max: 70_000 }), fc.maxSafeInteger())
const byteString = fc.oneof(
  fc.uint8Array({ maxLength: 70 }),
  fc.constantFrom(255, 256, 65_535, 65_536).map((n) => new Uint8Array(n)),
)
const latin1 = byteString.map((bytes) => Buffer.from(bytes).toString('latin1'))

function written(write: (writer: MsgpackWriter) => void): Buffer {
  const writer = new MsgpackWriter(16)
  writer.reserve(300_000)
  write(writer)
  return Buffer.from(writer.written)
}

function refuses(bytes: readonly number[], read: (reader: MsgpackReader) => unknown): void {
  assert.throws(
    () => read(new MsgpackReader(Buffer.from(bytes))),
    (error) =>
      error instanceof ArchiveError && error.code === 'index-invalid' && error.message.includes('byte'),
  )
}

test('integers, byte strings and texts are what msgpackr reads', () => {
  fc.assert(
    fc.property(safeInteger, latin1, fc.string({ unit: 'binary', maxLength: 70 }), (integer, bytes, text) => {
      const read = unpack(
        written((writer) => {
          writer.array(4)
          writer.integer(integer)
          writer.byteString(bytes)
          writer.text(text)
          writer.nil()
        }),
      ) as unknown[]
      assert.equal(Number(read[0]), integer)
      assert.deepEqual(Buffer.from(read[1] as Buffer), Buffer.from(bytes, 'latin1'))
      assert.deepEqual(read.slice(2), [text, null])
    }),
  )
})

test('64 bits without a sign are what msgpackr reads', () => {
  for (const value of [0, 2 ** 32, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 64n - 1n]) {
    const bytes = written((writer) => writer.unsigned64(value))
    assert.equal(BigInt(unpack(bytes) as number | bigint), BigInt(value))
    assert.equal(new MsgpackReader(bytes).unsigned64('x'), value)
  }
})

test('arrays and maps of every length are what msgpackr reads', () => {
  for (const length of [0, 15, 16, 255, 256, 65_535, 65_536]) {
    const bytes = written((writer) => {
      writer.array(length)
      for (let i = 0; i < length; i++) writer.nil()
    })
    assert.equal((unpack(bytes) as unknown[]).length, length)
    assert.equal(new MsgpackReader(bytes).array(100_000, 'x'), length)
  }
})

test('what was written is read back', () => {
  fc.assert(
    fc.property(
      safeInteger,
      byteString,
      latin1,
      fc.string({ unit: 'binary', maxLength: 70 }),
      (integer, bytes, string, text) => {
        const reader = new MsgpackReader(
          written((writer) => {
            writer.integer(integer)
            writer.bytes(bytes)
            writer.byteString(string)
            writer.text(text)
            writer.nil()
            writer.map(1)
            writer.text('key')
          }),
        )
        assert.equal(reader.integer('x'), integer)
        assert.deepEqual(new Uint8Array(reader.bytes(100_000, 'x')), bytes)
        assert.equal(reader.byteString(100_000, 'x'), string)
        assert.equal(reader.text(300, 'x'), text)
        assert.equal(reader.nil(), true)
        assert.equal(reader.map('x'), 1)
        assert.equal(reader.key('other'), false)
        assert.equal(reader.key('key'), true)
        assert.equal(reader.isAtEnd, true)
      },
    ),
  )
})

test('integers and byte strings of msgpackr are read', () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), byteString, (integer, bytes) => {
      assert.equal(new MsgpackReader(packr.pack(integer)).integer('x'), integer)
      assert.deepEqual(
        new Uint8Array(new MsgpackReader(packr.pack(Buffer.from(bytes))).bytes(100_000, 'x')),
        bytes,
      )
    }),
  )
})

test('integers are taken in any width, signed and unsigned', () => {
  for (const bytes of [
    [5],
    [0xd0, 5],
    [0xd3, 0, 0, 0, 0, 0, 0, 0, 5],
    [0xcc, 5],
    [0xcd, 0, 5],
    [0xce, 0, 0, 0, 5],
    [0xcf, 0, 0, 0, 0, 0, 0, 0, 5],
  ]) {
    assert.equal(new MsgpackReader(Buffer.from(bytes)).unsigned(5, 'x'), 5)
    refuses(bytes, (reader) => reader.unsigned(4, 'x'))
  }
  for (const bytes of [[0xfb], [0xd0, 0xfb], [0xd1, 255, 0xfb], [0xd2, 255, 255, 255, 0xfb]]) {
    assert.equal(new MsgpackReader(Buffer.from(bytes)).integer('x'), -5)
    refuses(bytes, (reader) => reader.unsigned(2 ** 53 - 1, 'x'))
  }
})

test('numbers beyond 53 bits are refused where a number belongs', () => {
  refuses([0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0], (reader) => reader.unsigned(Number.MAX_SAFE_INTEGER, 'x'))
  refuses([0xcf, 255, 255, 255, 255, 255, 255, 255, 255], (reader) => reader.integer('x'))
  refuses([0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0], (reader) => reader.integer('x'))
})

test('every first byte that is not of the expected kind is refused', () => {
  const reads: [(byte: number) => boolean, (reader: MsgpackReader) => unknown][] = [
    [
      (byte) => byte < 0x80 || (byte >= 0xcc && byte <= 0xd3),
      (reader) => reader.unsigned(Number.MAX_SAFE_INTEGER, 'x'),
    ],
    [
      (byte) => byte < 0x80 || (byte >= 0xcc && byte <= 0xd3) || byte >= 0xe0,
      (reader) => reader.integer('x'),
    ],
    [(byte) => byte >= 0xc4 && byte <= 0xc6, (reader) => reader.bytes(9, 'x')],
    [
      (byte) => (byte >= 0xa0 && byte < 0xc0) || (byte >= 0xd9 && byte <= 0xdb),
      (reader) => reader.text(99, 'x'),
    ],
    [(byte) => byte >> 4 === 9 || byte === 0xdc || byte === 0xdd, (reader) => reader.array(99, 'x')],
    [(byte) => byte >> 4 === 8 || byte === 0xde || byte === 0xdf, (reader) => reader.map('x')],
  ]
  for (let byte = 0; byte < 256; byte++) {
    for (const [fits, read] of reads) {
      if (!fits(byte)) refuses([byte, 0, 0, 0, 0, 0, 0, 0, 0, 0], read)
      refuses([], read)
    }
  }
})

test('lengths over the maximum or beyond the end are refused before anything is made of them', () => {
  refuses([0xc6, 255, 255, 255, 255], (reader) => reader.bytes(100, 'x'))
  refuses([0xc6, 255, 255, 255, 255], (reader) => reader.bytes(2 ** 40, 'x'))
  refuses([0xdd, 255, 255, 255, 255], (reader) => reader.array(2 ** 40, 'x'))
  refuses([0xdd, 0, 0, 0, 3, 1, 2], (reader) => reader.array(3, 'x'))
  refuses([0xdb, 0, 0, 1, 0], (reader) => reader.text(300, 'x'))
  refuses([0xa2, 0x61, 0x61], (reader) => reader.text(1, 'x'))
})

test('text that is not UTF-8 is refused', () => {
  refuses([0xa2, 0xc3, 0x28], (reader) => reader.text(9, 'x'))
  refuses([0xa3, 0xed, 0xa0, 0x80], (reader) => reader.text(9, 'x'))
})
