import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  archiveNameCharsMax,
  controlPayloadBytesMax,
  dataPayloadBytesMax,
  encodeMessage,
  type Message,
  MessageParser,
  type MessageType,
  outcomes,
  ProtocolError,
  passwordCharsMax,
  pathBytesMax,
  pathsMax,
  phases,
  plainText,
  textCharsMax,
} from '../src/index.ts'
import { messageKinds } from '../src/messages.ts'
import { examples } from './examples.ts'

const all = Object.values(examples)

function bytesOf(message: Message): Buffer {
  return Buffer.concat(encodeMessage(message))
}

function header(number: number, length: number): Buffer {
  const bytes = Buffer.alloc(5)
  bytes.writeUInt8(number, 0)
  bytes.writeUInt32BE(length, 1)
  return bytes
}

/** All messages of the pieces. */
function parse(pieces: readonly Buffer[], parser = new MessageParser()): Message[] {
  const messages: Message[] = []
  for (const piece of pieces) {
    parser.push(piece)
    for (let message = parser.next(); message !== null; message = parser.next()) messages.push(message)
  }
  return messages
}

function refusal(act: () => unknown): ProtocolError {
  try {
    act()
  } catch (error) {
    assert.ok(error instanceof ProtocolError, `a ProtocolError, not ${error}`)
    return error
  }
  return assert.fail('nothing was thrown')
}

test('a stream of all messages is read whole', () => {
  assert.deepEqual(parse([Buffer.concat(all.map(bytesOf))]), all)
})

test('a stream of all messages is the same wherever it is split', () => {
  const stream = Buffer.concat(all.map(bytesOf))
  for (let at = 0; at <= stream.length; at++) {
    assert.deepEqual(parse([stream.subarray(0, at), stream.subarray(at)]), all, `split at byte ${at}`)
  }
})

test('a stream of all messages is the same byte by byte', () => {
  const stream = Buffer.concat(all.map(bytesOf))
  assert.deepEqual(parse(Array.from(stream, (byte) => Buffer.of(byte))), all)
})

test('a large frame is the same in pieces as TLS makes them, and has a Buffer of its own', () => {
  const payload = Buffer.allocUnsafe(dataPayloadBytesMax)
  for (let at = 0; at < payload.length; at++) payload[at] = (at * 31) >> 3
  const stream = bytesOf({ type: 'frame', payload })
  const pieces: Buffer[] = []
  for (let at = 0; at < stream.length; at += 16_384)
    pieces.push(Buffer.from(stream.subarray(at, at + 16_384)))
  const [message] = parse(pieces)
  for (const piece of pieces) piece.fill(0)
  assert.ok(message?.type === 'frame' && message.payload.equals(payload))
})

test('the payload of a frame is sent without being copied', () => {
  const payload = Buffer.alloc(100)
  assert.equal(encodeMessage({ type: 'frame', payload })[1], payload)
})

for (const kind of messageKinds) {
  test(`a ${kind.type} beyond its limit is refused by its header alone`, () => {
    const parser = new MessageParser()
    parser.push(header(kind.number, kind.payloadBytesMax + 1))
    assert.equal(refusal(() => parser.next()).code, 'message-too-large')
  })

  test(`a ${kind.type} at its limit passes its header`, () => {
    const parser = new MessageParser()
    parser.push(header(kind.number, kind.payloadBytesMax))
    assert.equal(parser.next(), null)
    assert.equal(parser.unfinished, kind.type)
  })

  test(`a ${kind.type} without payload is refused`, () => {
    assert.equal(refusal(() => parse([header(kind.number, 0)])).code, 'message-malformed')
  })
}

test('a length of 4 GiB is refused by its header alone', () => {
  assert.equal(refusal(() => parse([header(8, 0xffffffff)])).code, 'message-too-large')
})

test('every number without a message is refused by its header alone', () => {
  const known = new Set(messageKinds.map((kind) => kind.number))
  for (let number = 0; number < 256; number++) {
    if (!known.has(number)) assert.equal(refusal(() => parse([header(number, 1)])).code, 'message-unknown')
  }
})

test('a header alone costs no memory', () => {
  const before = process.memoryUsage().arrayBuffers
  const parsers = Array.from({ length: 100 }, () => new MessageParser())
  for (const parser of parsers) assert.deepEqual(parse([header(8, dataPayloadBytesMax)], parser), [])
  assert.ok(process.memoryUsage().arrayBuffers - before < dataPayloadBytesMax)
})

test('a message that is held is not read until it is admitted', () => {
  let due: MessageType = 'hello'
  const parser = new MessageParser((type) => type === due)
  const frame = bytesOf({ type: 'frame', payload: Buffer.alloc(1000) })
  parser.push(frame)
  assert.equal(parser.next(), null)
  assert.equal(parser.unreadBytes, 1000)
  due = 'frame'
  assert.equal(parser.next()?.type, 'frame')
  assert.equal(parser.unreadBytes, 0)
})

test('what admit throws comes before the payload', () => {
  const parser = new MessageParser(() => {
    throw new ProtocolError('message-out-of-turn')
  })
  parser.push(header(5, controlPayloadBytesMax))
  assert.equal(refusal(() => parser.next()).code, 'message-out-of-turn')
})

test('a hello of another version is told by its version, whatever else is in it', () => {
  const hello = Buffer.from('82a870726f746f636f6c02a36e657701', 'hex')
  const error = refusal(() => parse([header(1, hello.length), hello]))
  assert.equal(error.code, 'version-unsupported')
  assert.match(error.message, /version 2 .* version 1/)
})

test('a refused message names its fields and not their values', () => {
  const authenticate = Buffer.from('82a870617373776f7264a6736563726574a36e657701', 'hex')
  const error = refusal(() => parse([header(2, authenticate.length), authenticate]))
  assert.equal(error.code, 'message-malformed')
  assert.doesNotMatch(error.message, /secret/)
})

test('the texts of a warning are made safe to print and cut', () => {
  const text = `one\ntwo\u001b[31m\u202e${'x'.repeat(2 * textCharsMax)}`
  const [warning] = parse([bytesOf({ type: 'warning', code: 'x', path: null, message: text })])
  assert.ok(warning?.type === 'warning')
  assert.equal(warning.message.length, textCharsMax)
  assert.match(warning.message, /^one\ufffdtwo\ufffd\[31m\ufffdx+…$/)
})

const invalid: [string, object][] = [
  ['an unknown field', { ...examples.stored, extra: 1 }],
  ['a missing field', { type: 'archive-name' }],
  ['a name with a slash', { type: 'archive-name', name: '../x' }],
  [
    'a name with a newline',
    { type: 'welcome', name: 'web1\n', policy: { read: [], restore: [] }, localCopy: false },
  ],
  ['a hidden name', { type: 'archive-name', name: '.x' }],
  ['too long a name', { type: 'archive-name', name: 'x'.repeat(archiveNameCharsMax + 1) }],
  ['a negative count', { ...examples.progress, entries: -1 }],
  ['a fraction', { ...examples.progress, entries: 0.5 }],
  ['a count beyond 2^53', { ...examples.progress, entries: 2 ** 53 }],
  ['a short digest', { ...examples.stored, digest: Buffer.alloc(31) }],
  ['a digest as text', { ...examples.stored, digest: 'x'.repeat(32) }],
  ['a request without paths', { ...examples.check, paths: [] }],
  ['too many paths', { ...examples.check, paths: Array(pathsMax + 1).fill(Buffer.from('/')) }],
  ['too long a path', { ...examples.check, paths: [Buffer.alloc(pathBytesMax + 1, '/')] }],
  ['an empty path', { ...examples.check, paths: [Buffer.alloc(0)] }],
  ['a path as text', { ...examples.check, paths: ['/etc'] }],
  ['a marker with a slash', { ...examples.check, excludeIfPresent: [Buffer.from('a/b')] }],
  ['a marker that is the folder', { ...examples.check, excludeIfPresent: [Buffer.from('.')] }],
  ['too long a marker', { ...examples.check, excludeIfPresent: [Buffer.alloc(256, 'x')] }],
  ['too many markers', { ...examples.check, excludeIfPresent: Array(17).fill(Buffer.from('x')) }],
  ['a negative limit of sizes', { ...examples.check, maxFileBytes: -1 }],
  [
    'an option that is not known',
    { ...examples.check, paths: [{ path: Buffer.from('/'), followLinks: true }] },
  ],
  ['options without a path', { ...examples.check, paths: [{ oneFileSystem: true }] }],
  ['too many paths with options', { ...examples.check, paths: Array(257).fill({ path: Buffer.from('/') }) }],
  [
    'too many patterns in all',
    {
      ...examples.check,
      paths: [{ path: Buffer.from('/'), exclude: Array(4096).fill(Buffer.from('x')) }],
      exclude: [Buffer.from('x')],
    },
  ],
  ['nothing left out', { type: 'left-out', objects: [] }],
  ['an unknown outcome', { ...examples['summary of a check'], outcome: 'fine' }],
  ['a full run with a base', { ...examples['backup, full'], base: '2026-11-20T030000Z-full.tar.zst' }],
  ['an incremental run without a base', { ...examples['backup, incremental'], base: null }],
  ['a base with a slash', { ...examples['backup, incremental'], base: '../x' }],
  ['a base left out', { ...examples['backup, full'], base: undefined }],
  ['a field where there is none', { type: 'baseline-next', batches: 2 }],
  ['an empty batch', { type: 'baseline', payload: Buffer.alloc(0) }],
  ['an unknown role', { ...examples['hello of a host'], role: 'relay' }],
  ['a level beyond the limit', { ...examples['backup, incremental'], compressionLevel: 20 }],
  ['too long a password', { type: 'authenticate', password: 'x'.repeat(passwordCharsMax + 1) }],
  ['a payload beyond the limit', { type: 'frame', payload: Buffer.alloc(dataPayloadBytesMax + 1) }],
  ['an empty payload', { type: 'entries', payload: Buffer.alloc(0) }],
]

for (const [what, message] of invalid) {
  test(`a message with ${what} is not sent`, () => {
    assert.equal(refusal(() => encodeMessage(message as Message)).code, 'internal')
  })
}

const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/)
const path = fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes))
const text = fc.string({ unit: 'binary', maxLength: 300 }).map(plainText)
const count = fc.maxSafeNat()
const anyMessage: fc.Arbitrary<Message> = fc.oneof(
  fc
    .record({
      type: fc.constant('backup' as const),
      host: name,
      base: fc.option(name),
      startedAtMs: fc.maxSafeInteger(),
      paths: fc.array(path, { minLength: 1, maxLength: 20 }),
      exclude: fc.array(path, { maxLength: 20 }),
      compressionLevel: fc.integer({ min: 1, max: 19 }),
    })
    .map((fields) => ({
      ...fields,
      kind: fields.base === null ? ('full' as const) : ('incremental' as const),
    })),
  fc.record({
    type: fc.constant('progress' as const),
    phase: fc.constantFrom(...phases),
    entries: count,
    contentBytes: count,
    path: fc.option(path),
  }),
  fc.record({
    type: fc.constant('summary' as const),
    outcome: fc.constantFrom(...outcomes),
    counts: fc.tuple(count, count).map(([files, contentBytes]) => ({
      ...(examples['summary of a check'] as Extract<Message, { type: 'summary' }>).counts,
      files,
      contentBytes,
    })),
    digest: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes))),
    archiveBytes: count,
    tarBytes: count,
    finishedAtMs: fc.maxSafeInteger(),
  }),
  fc.record({
    type: fc.constant('warning' as const),
    code: fc.constant('x'),
    path: fc.option(path),
    message: text,
  }),
  fc.record({ type: fc.constantFrom('frame', 'entries', 'baseline'), payload: path }),
  fc.record({ type: fc.constantFrom('baseline-next', 'baseline-end') }),
)

test('any messages, in pieces of any size, are read as they were sent', () => {
  const property = fc.property(
    fc.array(anyMessage, { maxLength: 5 }),
    fc.infiniteStream(fc.nat(200)),
    (messages, sizes) => {
      const stream = Buffer.concat(messages.map(bytesOf))
      const pieces: Buffer[] = []
      for (let at = 0; at < stream.length; ) {
        const size = sizes.next().value + 1
        pieces.push(stream.subarray(at, at + size))
        at += size
      }
      // fast-check's records have no prototype.
      assert.deepEqual(
        parse(pieces),
        messages.map((message) => ({ ...message })),
      )
    },
  )
  fc.assert(property, { numRuns: 300 })
})
