/**
 * A valid session of an agent, changed in one place: each field of each message, to what nobody expects, and each message
 * dropped, doubled, moved, cut or overwritten. What is said here is told by `lying-hosts.ts`.
 */
import {
  ArchiveAssembly,
  compressFrame,
  decompressFrame,
  formatArchiveName,
  frameBytesMax,
  indexBatchBytesMax,
  indexFrameMagic,
  unwrapSkippable,
  wrapSkippable,
} from '@central-backup/archive'
import { encodeMessage, type Message, type MessageOf, type MessageType } from '@central-backup/protocol'
import { type Options, Packr, Unpackr } from 'msgpackr'
import { honestPack, messagesOf } from './pack.ts'
import { Random } from './random.ts'

const packr = new Packr({ useRecords: false, variableMapSize: true })
// Its types do not know 'auto'.
const unpackr = new Unpackr({ useRecords: false, int64AsType: 'auto' } as object as Options)

/** A message as it goes over the wire, whatever it is. */
export interface Wire {
  number: number
  payload: Buffer
  /** What its header says, where that is not the size of its payload. */
  length?: number
}

type Value = unknown
type Place = readonly (string | number)[]

/** One change of a session. `message` is the place of a message in it. */
export type Mutation =
  | { kind: 'field'; message: number; place: Place; to: Value }
  | { kind: 'field-gone'; message: number; place: Place }
  | { kind: 'field-added'; message: number; place: Place }
  | { kind: 'dropped' | 'doubled' | 'many' | 'cut' | 'ended'; message: number }
  | { kind: 'moved'; message: number; to: number }
  | { kind: 'retyped'; message: number; number: number }
  | { kind: 'length'; message: number; length: number }
  | { kind: 'bytes'; message: number; seed: number; inside: boolean }

const hostileNumbers = [
  0,
  1,
  -1,
  511,
  2 ** 31,
  2 ** 32,
  2 ** 40,
  Number.MAX_SAFE_INTEGER,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
  -(2n ** 63n),
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
]

const terminalText = '\u001b]0;owned\u0007\u009b31m\u202e\u2028\r\nforged line\u007f'

const hostileTexts = [
  '',
  '.',
  '..',
  '/',
  '../../../../tmp/escaped',
  '/etc/passwd',
  'a\0b',
  '__proto__',
  'constructor',
  'honest',
  'complete',
  'failed',
  '2001-01-01T000000Z-full.tar.zst',
  terminalText,
  '\ud800',
  'x'.repeat(255),
  'x'.repeat(1_000_000),
]

const hostileBytes = [
  ...hostileTexts.map((text) => Buffer.from(text)),
  Buffer.from('srv'),
  Buffer.from('srv/a'),
  Buffer.from('srv//a'),
  Buffer.from('srv/./a'),
  Buffer.from('srv/a/'),
  Buffer.from([0xff, 0xfe, 0x9b, 0x31]),
  Buffer.from('x/'.repeat(130_000)),
  Buffer.alloc(31, 1),
  Buffer.alloc(32, 1),
  Buffer.alloc(300_000, 0x1b),
]

const otherTypes: Value[] = [null, true, 1, 'x', [], {}, Buffer.from('x')]

/** The messages of an honest session, in the order in which they are said. Two of them come before the request. */
export function transcriptOf(host: string, request: MessageOf<'backup'>): Message[] {
  const pack = honestPack(request)
  const path = Buffer.from('/srv/a')
  return [
    { type: 'hello', protocol: 1, software: 'fake-agent 1', role: 'host', name: host },
    { type: 'welcome', name: host, policy: { read: [Buffer.from('/')], restore: [] }, localCopy: false },
    { type: 'archive-name', name: formatArchiveName(request) },
    { type: 'progress', phase: 'pack', entries: 1, contentBytes: 1, path },
    { type: 'warning', code: 'unreadable', path, message: 'cannot be read', count: 1 },
    ...messagesOf(pack),
    { type: 'finished', localCopy: { kept: false, name: formatArchiveName(request), error: 'no' } },
  ]
}

export const greetingMessages = 2

/** A request, for the shape of a session. */
export const anyRequest: MessageOf<'backup'> = {
  type: 'backup',
  host: 'liar0',
  paths: [Buffer.from('/srv')],
  exclude: [],
  kind: 'full',
  base: null,
  startedAtMs: 1_795_230_000_000,
}

function toWire(message: Message): Wire {
  const bytes = Buffer.concat(encodeMessage(message))
  return { number: bytes[0]!, payload: bytes.subarray(5) }
}

/** What is inside of a message that has fields: a map, or of `entries` the batch. */
function readValue(type: MessageType, payload: Buffer): Value {
  if (!isIndexFrame(type)) return unpackr.unpack(payload)
  return unpackr.unpack(decompressFrame(unwrapSkippable(indexFrameMagic, payload), indexBatchBytesMax))
}

function writeValue(type: MessageType, value: Value): Buffer {
  const bytes = packr.pack(value)
  if (!isIndexFrame(type)) return bytes
  // A frame holds no more; its header says what there is, which is what is to be refused.
  return wrapSkippable(indexFrameMagic, compressFrame(bytes.subarray(0, frameBytesMax)))
}

const isIndexFrame = (type: MessageType) => type === 'entries' || type === 'baseline'
const hasFields = (type: MessageType) => type !== 'frame'

/** All places in a value: of a long array the first two and the last. */
function* placesIn(value: Value, at: Place = []): Generator<{ place: Place; value: Value }> {
  if (at.length > 0) yield { place: at, value }
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries())
      if (i < 2 || i === value.length - 1 || at.length > 1) yield* placesIn(item, [...at, i])
  } else if (typeof value === 'object' && value !== null && !Buffer.isBuffer(value)) {
    for (const [key, item] of Object.entries(value)) yield* placesIn(item, [...at, key])
  }
}

function replacementsOf(value: Value): Value[] {
  if (typeof value === 'number' || typeof value === 'bigint') return [...hostileNumbers, null, 'x', []]
  if (typeof value === 'string') return [...hostileTexts, ...otherTypes]
  if (Buffer.isBuffer(value)) return [...hostileBytes, ...otherTypes]
  if (Array.isArray(value))
    return [[], [...value, ...value], [...value].reverse(), Array(20_000).fill(value[0] ?? 0), ...otherTypes]
  return [...otherTypes, ...hostileTexts.slice(0, 2)]
}

/** A session of an agent, as an example. */
export const agentSession = () => transcriptOf(anyRequest.host, anyRequest)

/** Every mutation of a single place of a session, always the same, in the same order. */
export function systematicMutations(transcript: readonly Message[] = agentSession()): Mutation[] {
  const found: Mutation[] = []
  for (const [message, { type, ...rest }] of transcript.entries()) {
    const wire = toWire({ type, ...rest } as Message)
    if (hasFields(type)) {
      for (const { place, value } of placesIn(readValue(type, wire.payload))) {
        for (const to of replacementsOf(value)) found.push({ kind: 'field', message, place, to })
        found.push({ kind: 'field-gone', message, place })
        if (typeof value === 'object') found.push({ kind: 'field-added', message, place })
      }
      found.push({ kind: 'field-added', message, place: [] })
    }
    for (const kind of ['dropped', 'doubled', 'many', 'cut', 'ended'] as const) found.push({ kind, message })
    for (let to = 0; to < transcript.length; to++)
      if (to !== message) found.push({ kind: 'moved', message, to })
    for (let number = 0; number < 32; number++)
      if (number !== wire.number) found.push({ kind: 'retyped', message, number })
    for (const length of [0, 1, wire.payload.length - 1, wire.payload.length + 1, 2 ** 24, 2 ** 32 - 1])
      found.push({ kind: 'length', message, length })
  }
  return found
}

/** `count` mutations: the systematic ones in an order that `seed` gives, then bytes that are changed anywhere. */
export function chooseMutations(
  seed: number,
  count: number,
  transcript: readonly Message[] = agentSession(),
): Mutation[] {
  const random = new Random(seed)
  const systematic = systematicMutations(transcript)
  for (let i = systematic.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    ;[systematic[i], systematic[j]] = [systematic[j]!, systematic[i]!]
  }
  const chosen: Mutation[] = []
  while (chosen.length < count) {
    const next = random.chance(0.2) ? undefined : systematic.pop()
    chosen.push(
      next ?? {
        kind: 'bytes',
        message: random.below(transcript.length),
        seed: random.below(2 ** 31),
        inside: random.chance(0.5),
      },
    )
  }
  return chosen
}

/** A mutation in one line, for a person. */
export function describeMutation(mutation: Mutation): string {
  const shown = JSON.stringify(mutation, (_, value) =>
    typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))
      ? String(value)
      : value,
  )
  return shown.length > 300 ? `${shown.slice(0, 300)}…` : shown
}

/** The session with its mutation, as it goes over the wire. */
export function mutate(transcript: readonly Message[], mutation: Mutation): Wire[] {
  const wires = transcript.map(toWire)
  const { message } = mutation
  const wire = wires[message]!
  const { type } = transcript[message]!
  switch (mutation.kind) {
    case 'field':
    case 'field-gone':
    case 'field-added': {
      const value = changeAt(readValue(type, wire.payload), mutation.place, mutation)
      wires[message] = { ...wire, payload: writeValue(type, value) }
      // So that what is wrong with an index is found by looking at it, and not by its digest.
      if (type === 'entries') return withTrueSummary(transcript, wires, value)
      return wires
    }
    case 'bytes': {
      const random = new Random(mutation.seed)
      if (!mutation.inside || !(type === 'frame' || isIndexFrame(type))) {
        wires[message] = { ...wire, payload: flip(wire.payload, random) }
        return wires
      }
      const skips = isIndexFrame(type)
      const frame = skips ? unwrapSkippable(indexFrameMagic, wire.payload) : wire.payload
      const changed = compressFrame(flip(decompressFrame(frame), random))
      wires[message] = { ...wire, payload: skips ? wrapSkippable(indexFrameMagic, changed) : changed }
      return withTrueSummary(transcript, wires, null)
    }
    case 'dropped':
      return wires.toSpliced(message, 1)
    case 'doubled':
      return wires.toSpliced(message, 0, wire)
    case 'many':
      return wires.toSpliced(message, 0, ...Array<Wire>(200).fill(wire))
    case 'cut':
      return wires.toSpliced(message, 1, {
        ...wire,
        payload: wire.payload.subarray(0, wire.payload.length >> 1),
        length: wire.payload.length,
      })
    case 'ended':
      return wires.slice(0, message)
    case 'moved':
      return wires.toSpliced(message, 1).toSpliced(mutation.to, 0, wire)
    case 'retyped':
      return wires.with(message, { ...wire, number: mutation.number })
    case 'length':
      return wires.with(message, { ...wire, length: mutation.length })
  }
}

function changeAt(value: Value, place: Place, mutation: Mutation): Value {
  const [key, ...rest] = place
  if (key === undefined) {
    if (mutation.kind === 'field') return mutation.to
    if (Array.isArray(value)) return [...value, 'added']
    return Buffer.isBuffer(value) ? value : { ...(value as object), added: 1 }
  }
  if (Array.isArray(value)) {
    if (rest.length === 0 && mutation.kind === 'field-gone') return value.toSpliced(Number(key), 1)
    return value.with(Number(key), changeAt(value[Number(key)], rest, mutation))
  }
  const fields = value as Record<string, Value>
  if (rest.length === 0 && mutation.kind === 'field-gone')
    return Object.fromEntries(Object.entries(fields).filter(([name]) => name !== key))
  return { ...fields, [key]: changeAt(fields[key], rest, mutation) }
}

function flip(bytes: Buffer, random: Random): Buffer {
  const changed = Buffer.from(bytes)
  for (let times = 1 + random.below(4); times > 0; times--)
    changed[random.below(changed.length)]! ^= 1 + random.below(255)
  return changed
}

/** The summary of what is really sent, where that is anything. */
function withTrueSummary(transcript: readonly Message[], wires: Wire[], batch: Value): Wire[] {
  const place = transcript.findIndex(({ type }) => type === 'summary')
  if (place < 0) return wires
  const summary = transcript[place] as MessageOf<'summary'>
  try {
    const assembly = new ArchiveAssembly()
    for (const [i, { type }] of transcript.entries()) {
      if (type === 'frame') assembly.addFrame(wires[i]!.payload)
      if (type === 'entries') assembly.addIndex(wires[i]!.payload)
    }
    const { digest, archiveBytes, tarBytes } = assembly.finish()
    const end = (batch as { end?: Partial<MessageOf<'summary'>> } | null)?.end ?? {}
    const said = { outcome: end.outcome ?? summary.outcome, counts: end.counts ?? summary.counts }
    const { type: _, ...fields } = { ...summary, ...said, digest, archiveBytes, tarBytes }
    return wires.with(place, { ...wires[place]!, payload: packr.pack(fields) })
  } catch {
    // What is no archive has no summary either.
    return wires
  }
}
