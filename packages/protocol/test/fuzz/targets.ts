/** The parsers of what a peer sends before anything of it is trusted. */
import fc from 'fast-check'
import { attempt, type FuzzTarget, require, requireEqual, textOf } from '../../../../test/fuzz/target.ts'
import { identityFromAltNames, identityUri } from '../../src/identity.ts'
import {
  encodeMessage,
  type Message,
  MessageParser,
  PeerError,
  ProtocolError,
  plainText,
  textCharsMax,
} from '../../src/index.ts'
import { messageKindOf, messageKinds } from '../../src/messages.ts'
import { decodePayload, encodePayload } from '../../src/payload.ts'
import { examples } from '../examples.ts'

/** What parsing a stream came to: the messages before its end, or before what was refused. */
interface Parsed {
  messages: Message[]
  /** Of the refusal; what the stream ended in the middle of; or `null`. */
  end: string | null
}

function parse(pieces: Iterable<Buffer>): Parsed {
  const parser = new MessageParser()
  const messages: Message[] = []
  try {
    for (const piece of pieces) {
      parser.push(piece)
      for (let message = parser.next(); message !== null; message = parser.next()) messages.push(message)
    }
    return { messages, end: parser.unfinished }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    require(error.code !== 'internal', `refused as a mistake of this side: ${error.message}`)
    require(plainText(error.message) === error.message, 'what is refused forges no line of a log')
    return { messages, end: error.code }
  }
}

/** Cut after each `sizes`, over and over. */
function* cut(input: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, turn = 0; at < input.length; turn++) {
    const size = sizes[turn % sizes.length]!
    yield input.subarray(at, at + size)
    at += size
  }
}

/** The bytes of a message whose fields no schema has seen. */
function rawMessage({ type, ...fields }: Message): Buffer {
  const isData = 'payload' in fields && Buffer.isBuffer(fields.payload)
  const payload = isData ? (fields.payload as Buffer) : encodePayload(fields)
  const header = Buffer.alloc(5)
  header.writeUInt8(messageKindOf(type).number)
  header.writeUInt32BE(payload.length, 1)
  return Buffer.concat([header, payload])
}

const anyInteger = fc.oneof(fc.maxSafeInteger(), fc.constantFrom(0, 1, -1, 2 ** 31, 2 ** 32, 2 ** 53 - 1))
const anyBytes = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => text.toWellFormed()),
  fc.constantFrom('', '/', '..', 'a\nb', '\u001b[2J', 'full', '__proto__'),
)

/** The message with some of its values replaced by others of the same kind, or of another one. */
function varied(value: unknown, depth = 0): fc.Arbitrary<unknown> {
  const others = fc.oneof(anyInteger, anyText, anyBytes, fc.constant(null), fc.boolean(), fc.constant([]))
  const same = (other: fc.Arbitrary<unknown>) =>
    fc.oneof(
      { weight: 12, arbitrary: fc.constant(value) },
      { weight: 3, arbitrary: other },
      { weight: 1, arbitrary: others },
    )
  if (Buffer.isBuffer(value)) return same(anyBytes)
  if (typeof value === 'number') return same(anyInteger)
  if (typeof value === 'string') return same(anyText)
  if (Array.isArray(value)) {
    const elements = fc.tuple(...value.map((one) => varied(one, depth + 1)))
    return fc
      .tuple(elements, fc.nat(3), fc.boolean())
      .map(([list, times, less]) => (less ? list.slice(1) : [...list, ...Array(times).fill(list[0] ?? 0)]))
  }
  if (typeof value !== 'object' || value === null) return same(others)
  const fields = Object.entries(value).map(([key, field]) =>
    key === 'type' && depth === 0
      ? fc.constant([key, field])
      : fc.tuple(fc.constant(key), varied(field, depth + 1)),
  )
  return fc.tuple(...fields).map((entries) => Object.fromEntries(entries as [string, unknown][]))
}

const anyMessage = fc.constantFrom(...Object.values(examples)).chain((message) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant(rawMessage(message)) },
    {
      weight: 3,
      arbitrary: varied(message).map((one) => rawMessage(one as Message)),
    },
  ),
)

const messages: FuzzTarget = {
  name: 'messages',
  inputs: fc.array(anyMessage, { minLength: 1, maxLength: 3 }).map((list) => Buffer.concat(list)),
  mutations: 'bytes',
  tokens: [...messageKinds.map(({ number }) => Buffer.from([number, 0, 0, 0, 1, 0x80]).toString('latin1'))],
  check(input) {
    const whole = parse([input])
    // Cut otherwise for each input, and always the same way for the same one.
    const sizes = [1 + ((input[0] ?? 0) % 7), 1 + ((input.at(-1) ?? 0) % 40), 5]
    const inPieces = parse(cut(input, input.length < 60 ? [1] : sizes))
    requireEqual(inPieces, whole, 'in pieces, it means the same')
    for (const message of whole.messages) {
      const again = parse([Buffer.concat(encodeMessage(message))])
      requireEqual(again, { messages: [message], end: null }, `a ${message.type} encodes to itself`)
      if (message.type !== 'error') continue
      const told = new PeerError(message)
      require(told.message.length <= textCharsMax && plainText(told.message) === told.message, 'plain words')
    }
    return whole.messages.length > 0 && whole.end === null
  },
}

const jsonKeys = fc.constantFrom('a', 'b', 'type', '__proto__', 'constructor', 'toString', '0')

const payload: FuzzTarget = {
  name: 'payload',
  inputs: fc
    .dictionary(
      jsonKeys,
      fc.letrec((tie) => ({
        any: fc.oneof(
          { depthSize: 'small' },
          anyInteger,
          anyText,
          anyBytes,
          fc.constant(null),
          fc.boolean(),
          fc.array(tie('any'), { maxLength: 20 }),
          fc.dictionary(jsonKeys, tie('any')),
        ),
      })).any,
    )
    .map((fields) => encodePayload(fields)),
  mutations: 'bytes',
  check(input) {
    const fields = attempt(ProtocolError, () => decodePayload(input))
    if (fields === undefined) return false
    require(Object.getPrototypeOf(fields) === Object.prototype, 'no prototype is reached')
    // Numbers that are not exact are for the schemas to refuse, and __proto__ is set aside by the decoder.
    if (isExact(fields)) requireEqual(decodePayload(encodePayload(fields)), fields, 'it encodes to itself')
    return true
  },
}

function isExact(value: unknown): boolean {
  if (typeof value === 'number') return Number.isSafeInteger(value)
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return true
  return Object.entries(value).every(([key, one]) => !key.startsWith('__') && isExact(one))
}

const altNames: FuzzTarget = {
  name: 'certificate-names',
  inputs: fc
    .array(
      fc.oneof(
        fc
          .stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/)
          .map((name) => `URI:urn:central-backup:host:${name}`),
        fc.constantFrom(
          'DNS:web1',
          'URI:"urn:central-backup:host:a, b"',
          'IP Address:::1',
          'DirName:"a\\"b"',
        ),
      ),
      { maxLength: 3 },
    )
    .map((names) => Buffer.from(names.join(', '))),
  mutations: 'text',
  tokens: [
    'URI:urn:central-backup:server:',
    'URI:',
    ', ',
    '"',
    '\\',
    '\\"',
    ':',
    'URN:CENTRAL-BACKUP:HOST:',
    '\n',
  ],
  check(input) {
    const text = textOf(input)
    const identity = attempt(ProtocolError, () => identityFromAltNames(text))
    if (identity === undefined) return false
    requireEqual(identityFromAltNames(`URI:${identityUri(identity)}`), identity, 'its URI says the same')
    // As with a second name, so with a second role: what else stands there must not be another identity of ours.
    require(text.includes(identityUri(identity)), 'the name stands there as it is')
    return true
  },
}

export const protocolTargets: readonly FuzzTarget[] = [messages, payload, altNames]
