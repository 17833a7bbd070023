/**
 * An agent that lies, with the real certificate of its host, to the real backup-server. Whatever it says, its run fails
 * with a reason, nothing is left under the name of an archive, and the other host of the same run is not harmed.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import {
  comparePaths,
  compressFrame,
  decompressFrame,
  type Entry,
  frameBytesMax,
  IndexBatchEncoder,
  indexBatchBytesMax,
  indexFrameMagic,
  unwrapSkippable,
} from '@central-backup/archive'
import type { MessageOf } from '@central-backup/protocol'
import { bytes, entry, file } from '../packages/archive/test/sample.ts'
import { requireWholeArchives } from './harness/archives.ts'
import { msgpackText, rawMessage } from './harness/dialer.ts'
import { type Conversation, FakeAgent, type Script } from './harness/fake-agent.ts'
import { peakMemoryOf } from './harness/measure.ts'
import { encodeIndex, honestPack, indexFrame, messagesOf, type Pack, summaryOf } from './harness/pack.ts'
import { type RunEnded, readRun, Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'
import { terminalCommands as commands, Untouched } from './harness/untouched.ts'

/** What a run of the two hosts may take, the honest one's included, on a busy machine. */
const runMsMax = 30_000

interface Lie {
  name: string
  /** What the agent sends after the request, or from the first word on. */
  script?: Script
  greeting?: Greeting
  code: string
  exit?: number
  /** What is left in the repository: a partial archive, one that was set aside, or nothing. */
  left?: 'partial' | 'mismatch' | 'nothing'
  /** What the message says, where that is worth something. */
  says?: RegExp
}

/** As many at a time as there are liars. */
function groupsOf(told: readonly Lie[]): Lie[][] {
  return Array.from({ length: Math.ceil(told.length / liarsAtOnce) }, (_, group) =>
    told.slice(group * liarsAtOnce, (group + 1) * liarsAtOnce),
  )
}

/** The exit code of a run of these. */
function worst(told: readonly Lie[]): number {
  return told.some(({ exit }) => exit === 1 || exit === undefined) ? 1 : told[0]!.exit!
}

const mebibyte = 1024 * 1024

/** What the server may use for nine hosts at once, eight of which lie. */
const serverBytesMax = 400 * mebibyte

type Greeting = (...args: [...Parameters<NonNullable<FakeAgent['greeting']>>, name: string]) => Promise<void>
type Messages = Parameters<Conversation['channel']['send']>[0][]

/** Sends the name of the archive, and then these messages. */
function sends(make: (pack: Pack, request: MessageOf<'backup'>) => Messages): Script {
  return async ({ channel, request, archive }) => {
    await channel.send({ type: 'archive-name', name: archive })
    for (const message of make(honestPack(request), request)) await channel.send(message)
  }
}

/** An honest run but for its index, which consists of these entries. */
function indexes(change: (entries: Entry[]) => Entry[]): Script {
  return sends((pack) => messagesOf({ ...pack, entries: change(pack.entries) }))
}

/** An honest run but for its index, one batch of which has these bytes. */
function sendsBatch(batch: Buffer): Script {
  return sends((pack) => [
    ...pack.frames.map((payload) => ({ type: 'frame', payload }) as const),
    { type: 'entries', payload: batch },
  ])
}

/** An honest run but for its summary. */
function summarizes(change: (summary: MessageOf<'summary'>) => Partial<MessageOf<'summary'>>): Script {
  return sends((pack) =>
    messagesOf(pack).map((message) =>
      message.type === 'summary' ? { ...message, ...change(message) } : message,
    ),
  )
}

/** An honest run but for these bytes in the place of its frames. */
function sendsFrame(payload: Buffer): Script {
  return sends((pack) => [{ type: 'frame', payload }, ...messagesOf(pack).slice(1)])
}

/** Sends these bytes as they are, in the place of messages, after the name of the archive. */
function sendsRaw(...pieces: Buffer[]): Script {
  return async ({ channel, socket, archive }) => {
    await channel.send({ type: 'archive-name', name: archive })
    for (const piece of pieces) socket.write(piece)
  }
}

/** The header of a zstd frame that names `contentBytes`, with a checksum, and these blocks. */
function zstdFrame(contentBytes: number, ...blocks: Buffer[]): Buffer {
  const header = Buffer.alloc(14)
  header.writeUInt32LE(0xfd2fb528, 0)
  // 8 bytes of content size, a window, a checksum.
  header[4] = 0xc4
  header[5] = 0x58
  header.writeBigUInt64LE(BigInt(contentBytes), 6)
  return Buffer.concat([header, ...blocks, Buffer.alloc(4)])
}

/** A block that stands for `size` times the same byte. */
function runLengthBlock(size: number, last: boolean): Buffer {
  const block = Buffer.alloc(4)
  block.writeUIntLE((size << 3) | (1 << 1) | (last ? 1 : 0), 0, 3)
  return block
}

/** `count` of them, which decompress to 128 KiB each. */
function runLengthBlocks(count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) => runLengthBlock(128 * 1024, index === count - 1))
}

/** The msgpack of a batch up to its entries, and then `rest`. */
function batchWith(rest: Buffer): Buffer {
  // {version: 1, entries: …
  return Buffer.concat([
    Buffer.from([0x82, 0xa7]),
    Buffer.from('version'),
    Buffer.from([0x01, 0xa7]),
    Buffer.from('entries'),
    rest,
  ])
}

/** A zstd frame of one stored block, with this descriptor and what follows it in the header. */
function oddFrame(descriptor: number, ...fields: number[]): Buffer {
  const block = Buffer.from([0x09, 0x00, 0x00, 0x78])
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...fields]), block, Buffer.alloc(4)])
}

/** The index of an honest pack with one path in it replaced, whatever the format says of its length. */
function sendsPath(path: Buffer): Script {
  return sends((pack) => {
    const batch = decompressFrame(
      unwrapSkippable(indexFrameMagic, encodeIndex(pack.header, pack.entries, pack.end)),
      indexBatchBytesMax,
    )
    const honest = Buffer.concat([Buffer.from([0xc4, 5]), Buffer.from('srv/c')])
    const at = batch.indexOf(honest)
    const size = Buffer.alloc(5)
    size[0] = 0xc6
    size.writeUInt32BE(path.length, 1)
    const changed = Buffer.concat([batch.subarray(0, at), size, path, batch.subarray(at + honest.length)])
    const index = indexFrame(changed)
    return [
      ...pack.frames.map((payload) => ({ type: 'frame', payload }) as const),
      { type: 'entries', payload: index },
      summaryOf(pack.frames, [index], pack.end),
    ]
  })
}

const hostile = (path: string) => indexes((entries) => [...entries, entry(path)])

const lies: Lie[] = [
  // The summary.
  {
    name: 'objects that are left out, which nobody asked for',
    script: sends((pack) => [
      { type: 'left-out', objects: [{ path: Buffer.from('/srv'), reason: 'excluded', message: '' }] },
      ...messagesOf(pack),
    ]),
    code: 'message-out-of-turn',
  },
  {
    name: 'a digest in the summary that is not that of the archive',
    script: summarizes(() => ({ digest: randomBytes(32) })),
    code: 'message-malformed',
    left: 'mismatch',
    says: /set aside as .*\.mismatch\.partial/,
  },
  {
    name: 'a summary without a digest',
    script: summarizes(() => ({ digest: null })),
    code: 'message-malformed',
    left: 'mismatch',
  },
  {
    name: 'a length of the archive in the summary that is not its own',
    script: summarizes(({ archiveBytes }) => ({ archiveBytes: archiveBytes + 1 })),
    code: 'message-malformed',
    left: 'mismatch',
  },
  {
    name: 'a length of the tar stream in the summary that is not its own',
    script: summarizes(({ tarBytes }) => ({ tarBytes: tarBytes - 512 })),
    code: 'message-malformed',
    left: 'mismatch',
  },
  {
    name: 'an outcome in the summary that is better than that of the index',
    script: sends((pack) =>
      messagesOf({ ...pack, end: { ...pack.end, outcome: 'incomplete' } }).map((message) =>
        message.type === 'summary' ? { ...message, outcome: 'complete' } : message,
      ),
    ),
    code: 'message-malformed',
  },
  {
    name: 'counts in the summary that are not those of the index',
    script: summarizes(({ counts }) => ({ counts: { ...counts, files: 1_000_000, unreadable: 0 } })),
    code: 'message-malformed',
  },
  {
    name: 'a summary before the index has ended',
    script: sends((pack) => [
      ...pack.frames.map((payload) => ({ type: 'frame', payload }) as const),
      { type: 'entries', payload: encodeIndex(pack.header, pack.entries, null) },
      summaryOf(pack.frames, [encodeIndex(pack.header, pack.entries, pack.end)], pack.end),
    ]),
    code: 'message-malformed',
    says: /index/,
  },
  {
    name: 'a summary of nothing at all',
    script: sends((pack) => [messagesOf(pack).at(-1)!]),
    code: 'message-malformed',
  },
  {
    name: 'content after the end of the index',
    script: sends((pack) => {
      const index = encodeIndex(pack.header, pack.entries, pack.end)
      return [
        { type: 'entries', payload: index },
        { type: 'frame', payload: pack.frames[0]! },
        summaryOf(pack.frames, [index], pack.end),
      ]
    }),
    code: 'message-malformed',
  },

  // The index.
  {
    name: 'entries that are out of order',
    script: indexes((entries) => [...entries.slice(0, 2), entries[3]!, entries[2]!]),
    code: 'message-malformed',
    says: /out of order/,
  },
  {
    name: 'an entry that comes twice',
    script: indexes((entries) => [...entries, entries.at(-1)!]),
    code: 'message-malformed',
  },
  {
    name: 'batches that are out of order',
    script: sends((pack) => {
      const batches = [
        encodeIndex(pack.header, pack.entries.slice(2), null),
        encodeIndex(null, pack.entries.slice(0, 2), pack.end),
      ]
      return [
        ...pack.frames.map((payload) => ({ type: 'frame', payload }) as const),
        ...batches.map((payload) => ({ type: 'entries', payload }) as const),
        summaryOf(pack.frames, batches, pack.end),
      ]
    }),
    code: 'message-malformed',
    says: /out of order/,
  },
  { name: "a path with '..'", script: hostile('srv/../../../tmp/escaped'), code: 'message-malformed' },
  { name: 'an absolute path', script: hostile('/tmp/escaped'), code: 'message-malformed' },
  { name: 'a path with a NUL', script: hostile('srv/z\0z'), code: 'message-malformed' },
  {
    name: 'a path of a megabyte',
    script: sendsPath(Buffer.concat([Buffer.from('srv/d'), Buffer.alloc(1_000_000, 'x')])),
    code: 'message-malformed',
  },
  {
    name: 'a path of a megabyte of folders',
    script: sendsPath(Buffer.concat([Buffer.from('srv/d'), Buffer.alloc(1_000_000, '/x')])),
    code: 'message-malformed',
  },
  { name: 'an empty path', script: indexes((entries) => [entry(''), ...entries]), code: 'message-malformed' },
  {
    name: 'a hard link to what was not packed before it',
    script: indexes((entries) => [
      ...entries,
      entry('srv/d', { type: 'hardlink', target: bytes('srv/../../etc/shadow') }),
    ]),
    code: 'message-malformed',
  },
  {
    name: 'a size that its content does not have',
    script: indexes((entries) => entries.map((one) => (one.size > 0 ? { ...one, size: one.size + 1 } : one))),
    code: 'message-malformed',
  },
  {
    name: 'a sparse file that is no smaller for it',
    script: indexes((entries) =>
      entries.map((one) => (one.size > 0 ? { ...one, storedSize: one.size } : one)),
    ),
    code: 'message-malformed',
  },
  {
    name: 'content that lies beyond all that was sent',
    script: indexes((entries) => [
      ...entries,
      { ...file('srv/d', 'x').entry, extents: [{ archive: null, offset: 2 ** 40, length: 1 }] },
    ]),
    code: 'message-malformed',
  },
  {
    name: 'content of a full run that lies in an archive that is not there',
    script: indexes((entries) => [
      ...entries,
      {
        ...file('srv/d', 'x').entry,
        extents: [{ archive: '2026-01-01T000000Z-full.tar.zst', offset: 512, length: 1 }],
      },
    ]),
    code: 'message-malformed',
  },
  {
    name: 'an index of another host',
    script: sends((pack) => messagesOf({ ...pack, header: { ...pack.header, host: 'honest' } })),
    code: 'wrong-host',
    exit: 12,
  },
  {
    name: 'an index of another time',
    script: sends((pack) => messagesOf({ ...pack, header: { ...pack.header, startedAtMs: 0 } })),
    code: 'message-malformed',
  },
  {
    name: 'an index of another kind',
    script: sends((pack) => messagesOf({ ...pack, header: { ...pack.header, kind: 'incremental' } })),
    code: 'message-malformed',
  },
  {
    name: 'an index frame that names more content than a batch may have',
    script: sendsBatch(skippable(zstdFrame(indexBatchBytesMax + 1, ...runLengthBlocks(17)))),
    code: 'message-malformed',
  },
  {
    name: 'an index frame that decompresses to more than it says',
    script: sendsBatch(skippable(zstdFrame(100, ...runLengthBlocks(10_000)))),
    code: 'message-malformed',
  },
  {
    name: 'a batch of four billion entries in five bytes',
    script: sendsBatch(indexFrame(batchWith(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])))),
    code: 'message-malformed',
  },
  {
    name: 'a batch of two million empty arrays',
    script: sendsBatch(
      indexFrame(
        batchWith(
          Buffer.concat([Buffer.from([0xdd, 0x00, 0x1e, 0x84, 0x80]), Buffer.alloc(2_000_000, 0x90)]),
        ),
      ),
    ),
    code: 'message-malformed',
  },
  {
    name: 'a batch of arrays within arrays, a million deep',
    script: sendsBatch(indexFrame(batchWith(Buffer.alloc(1_000_000, 0x91)))),
    code: 'message-malformed',
  },
  {
    name: 'an index that is noise',
    script: sendsBatch(randomBytes(10_000)),
    code: 'message-malformed',
  },

  // The frames.
  { name: 'a frame that is not zstd', script: sendsFrame(randomBytes(10_000)), code: 'message-malformed' },
  {
    name: 'a frame that names a terabyte of content',
    script: sendsFrame(zstdFrame(2 ** 40, runLengthBlock(1, true))),
    code: 'message-malformed',
  },
  {
    name: 'a frame that decompresses to a gigabyte where it says 4 MiB',
    script: sendsFrame(zstdFrame(frameBytesMax, ...runLengthBlocks(8192))),
    code: 'message-malformed',
  },
  {
    name: 'a frame with a window of 256 MiB',
    script: sendsFrame(oddFrame(0x84, 0x90, 1, 0, 0, 0)),
    code: 'message-malformed',
  },
  {
    name: 'a frame with a window of 3.75 TiB',
    script: sendsFrame(oddFrame(0x84, 0xff, 1, 0, 0, 0)),
    code: 'message-malformed',
  },
  {
    name: 'a frame that needs a dictionary',
    script: sendsFrame(oddFrame(0x27, 1, 2, 3, 4, 1)),
    code: 'message-malformed',
  },
  {
    name: 'a frame that does not name its content',
    script: sendsFrame(oddFrame(0x04, 0x58)),
    code: 'message-malformed',
  },
  {
    name: 'a frame without a checksum',
    script: sendsFrame(oddFrame(0x20, 1).subarray(0, -4)),
    code: 'message-malformed',
  },
  {
    name: 'a skippable frame of 4 GiB in the place of content',
    script: sendsFrame(Buffer.from('502a4d18ffffffff00000000', 'hex')),
    code: 'message-malformed',
  },
  {
    name: 'a skippable frame of 4 GiB in the place of an index frame',
    script: sendsBatch(Buffer.from('5b2a4d18ffffffff00000000', 'hex')),
    code: 'message-malformed',
  },
  {
    name: 'an index frame with a window of 256 MiB',
    script: sendsBatch(skippable(oddFrame(0x84, 0x90, 1, 0, 0, 0))),
    code: 'message-malformed',
  },
  {
    name: 'an index frame that needs a dictionary',
    script: sendsBatch(skippable(oddFrame(0x27, 1, 2, 3, 4, 1))),
    code: 'message-malformed',
  },
  {
    name: 'a seek table of its own',
    script: sendsBatch(Buffer.from('5e2a4d18090000000000000000b1ea928f', 'hex')),
    code: 'message-malformed',
  },
  {
    name: 'a frame without content',
    script: sendsFrame(zstdFrame(0, runLengthBlock(0, true))),
    code: 'message-malformed',
  },
  {
    name: 'two frames in one message',
    script: sends((pack) => [
      { type: 'frame', payload: Buffer.concat([pack.frames[0]!, pack.frames[0]!]) },
      ...messagesOf(pack).slice(1),
    ]),
    code: 'message-malformed',
    says: /follow it/,
  },
  {
    name: 'an index frame in the place of content',
    script: sends((pack) => [{ type: 'frame', payload: encodeIndex(pack.header, pack.entries, pack.end) }]),
    code: 'message-malformed',
  },
  {
    name: 'content in the place of an index frame',
    script: sends((pack) => [{ type: 'entries', payload: pack.frames[0]! }]),
    code: 'message-malformed',
  },

  // The greeting.
  {
    name: 'the name of another host',
    greeting: (channel) => channel.send({ ...hello, name: 'honest' }),
    code: 'wrong-host',
    exit: 12,
    left: 'nothing',
  },
  {
    name: 'that it is a server',
    greeting: (channel, _, name) => channel.send({ ...hello, role: 'server', name }),
    code: 'wrong-host',
    exit: 12,
    left: 'nothing',
  },
  {
    name: 'another version of the protocol',
    // {protocol: 2}
    greeting: async (_, socket) => {
      socket.write(
        rawMessage(1, Buffer.concat([Buffer.from([0x81]), msgpackText('protocol'), Buffer.from([2])])),
      )
    },
    code: 'version-unsupported',
    left: 'nothing',
  },
  {
    name: 'commands for the terminal as the name of its program',
    greeting: async (_, socket, name) => {
      const fields = { protocol: 1, software: '\u001b]0;owned\u0007', role: 'host', name }
      const pairs = Object.entries(fields).map(([key, value]) => [
        msgpackText(key),
        typeof value === 'number' ? Buffer.from([value]) : msgpackText(value),
      ])
      socket.write(rawMessage(1, Buffer.concat([Buffer.from([0x84]), ...pairs.flat()])))
    },
    code: 'message-malformed',
    left: 'nothing',
  },
  {
    name: 'a welcome before the password was given',
    greeting: (channel, _, name) => channel.send({ ...welcome, name }),
    code: 'message-out-of-turn',
    left: 'nothing',
  },
  {
    name: 'a policy of a hundred thousand paths',
    greeting: async (channel, socket, name) => {
      await channel.send({ ...hello, name })
      await channel.receive(['hello'])
      await channel.receive(['authenticate'])
      const paths = Buffer.alloc(200_000, Buffer.from([0xc4, 0x01]))
      socket.write(rawMessage(3, Buffer.concat([Buffer.from([0x81, 0xa1, 0x70, 0xdc]), paths])))
    },
    code: 'message-malformed',
    left: 'nothing',
  },
  {
    name: 'hello again and again',
    greeting: async (channel, _, name) => {
      for (;;) await channel.send({ ...hello, name })
    },
    code: 'message-out-of-turn',
    left: 'nothing',
  },
  {
    name: 'its policy again and again',
    greeting: async (channel, _, name) => {
      await channel.send({ ...hello, name })
      for (;;) await channel.send({ ...welcome, name })
    },
    code: 'message-out-of-turn',
    left: 'nothing',
  },
  {
    name: 'hello, and goes',
    greeting: async (channel, _, name) => {
      await channel.send({ ...hello, name })
      await channel.close()
    },
    code: 'connection-lost',
    left: 'nothing',
  },

  // The conversation.
  {
    name: 'another name for the archive',
    script: ({ channel }) => channel.send({ type: 'archive-name', name: '2001-01-01T000000Z-full.tar.zst' }),
    code: 'message-malformed',
    left: 'nothing',
  },
  {
    name: 'a name for the archive that leads elsewhere',
    script: async ({ socket }) => {
      // {name: '../../../../tmp/escaped'}
      const name = '../../../../tmp/escaped'
      const payload = Buffer.concat([Buffer.from([0x81, 0xa4]), Buffer.from('name'), msgpackText(name)])
      socket.write(rawMessage(6, payload))
    },
    code: 'message-malformed',
    left: 'nothing',
  },
  {
    name: 'content before the name of the archive',
    script: ({ channel, request }) =>
      channel.send({ type: 'frame', payload: honestPack(request).frames[0]! }),
    code: 'message-out-of-turn',
    left: 'nothing',
  },
  {
    name: 'a second name of the archive in the middle of the run',
    script: async ({ channel, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      await channel.send({ type: 'archive-name', name: archive })
    },
    code: 'message-out-of-turn',
  },
  {
    name: 'a request of its own',
    script: sends((_, request) => [request]),
    code: 'message-out-of-turn',
  },
  {
    name: 'that it wants a baseline where it was offered none',
    script: sends(() => [{ type: 'baseline-next' }]),
    code: 'message-out-of-turn',
  },
  {
    name: 'the last word before the summary',
    script: sends(() => [{ type: 'finished', localCopy: null }]),
    code: 'message-out-of-turn',
  },
  {
    name: 'a message of a type that there is not',
    script: sendsRaw(rawMessage(200, Buffer.alloc(10))),
    code: 'message-unknown',
  },
  {
    name: 'a message of 4 GiB',
    script: sendsRaw(rawMessage(8, Buffer.alloc(10), 0xffffffff)),
    code: 'message-too-large',
  },
  {
    name: 'a message without payload',
    script: sendsRaw(rawMessage(8, Buffer.alloc(0))),
    code: 'message-malformed',
  },
  {
    name: 'a summary with fields that it should not have',
    script: sendsRaw(rawMessage(11, Buffer.from([0x81, 0xa4, 0x65, 0x76, 0x69, 0x6c, 0x01]))),
    code: 'message-malformed',
  },
  {
    name: 'a warning that is a thousand arrays deep',
    script: sendsRaw(rawMessage(9, Buffer.alloc(1000, 0x91))),
    code: 'message-malformed',
  },
  {
    name: 'an error of its own',
    script: sends(() => [{ type: 'error', code: 'source-failed', message: 'the disk is gone' }]),
    code: 'source-failed',
    says: /the disk is gone/,
  },
  {
    name: 'a failure with an index that is whole',
    script: sends((pack) => messagesOf({ ...pack, end: { ...pack.end, outcome: 'failed' } })),
    code: 'source-failed',
    left: 'nothing',
  },
  {
    name: 'nothing, and goes, in the middle of a message',
    script: async ({ channel, socket, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      socket.end(rawMessage(8, Buffer.alloc(1000), 100_000))
    },
    code: 'connection-lost',
  },
]

/** Lies that only an incremental run has room for: what the agent sends is to build on the run before. */
const incrementalLies: Lie[] = [
  {
    name: 'content in an archive that no run has left',
    script: pointsInto(() => '2001-01-01T000000Z-full.tar.zst'),
    code: 'message-malformed',
  },
  {
    name: 'content in an archive of another host',
    // The hosts that were backed up in the same second have archives of the same name.
    script: pointsInto((base) => honestArchives.find((name) => name !== base)!),
    code: 'message-malformed',
  },
  {
    name: 'another base than the one that was offered',
    script: sends((pack) =>
      messagesOf({ ...pack, header: { ...pack.header, base: '2001-01-01T000000Z-full.tar.zst' } }),
    ),
    code: 'message-malformed',
  },
  {
    name: 'no base at all',
    script: sends((pack) => messagesOf({ ...pack, header: { ...pack.header, base: null } })),
    code: 'message-malformed',
  },
  {
    name: 'a full index',
    script: sends((pack) => messagesOf({ ...pack, header: { ...pack.header, kind: 'full', base: null } })),
    code: 'message-malformed',
  },
  {
    name: 'that it wants the baseline again and again',
    script: async ({ channel, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      for (;;) {
        await channel.send({ type: 'baseline-next' })
        await channel.receive(['baseline', 'baseline-end'])
      }
    },
    code: 'message-out-of-turn',
  },
  {
    name: 'content at another place of its own archive',
    script: pointsInto((base) => base, 'srv/a', { offset: 512 + 512 }),
    code: 'message-malformed',
    says: /did not have in the run before/,
  },
  {
    name: 'content of another path of its own archive',
    script: pointsInto((base) => base, 'srv/d'),
    code: 'message-malformed',
    says: /did not have in the run before/,
  },
  {
    name: 'the content of one file again and again, as that of others',
    script: sends((pack) => {
      const first = pack.entries.find(({ extents }) => extents.length > 0)!
      const again = ['x', 'y', 'z'].map((name) => ({ ...first, path: bytes(`srv/z-${name}`) }))
      return messagesOf({ ...pack, entries: [...pack.entries, ...again] })
    }),
    code: 'message-malformed',
    says: /content that another file has/,
  },
  {
    name: "that a path with '..' is gone",
    script: sends((pack) => {
      const encoder = new IndexBatchEncoder(pack.header)
      encoder.addGone({ path: bytes('srv/../../etc'), reason: 'deleted' })
      return [{ type: 'entries', payload: indexFrame(encoder.take(pack.end)) }]
    }),
    code: 'message-malformed',
  },
  {
    name: 'that a path is gone with the folder above it, and once more',
    script: sends((pack) => {
      const encoder = new IndexBatchEncoder(pack.header)
      for (const path of ['srv', 'srv/a']) encoder.addGone({ path: bytes(path), reason: 'deleted' })
      encoder.reach(0)
      return [{ type: 'entries', payload: indexFrame(encoder.take(pack.end)) }]
    }),
    code: 'message-malformed',
    says: /named again/,
  },
  {
    name: 'a failure',
    script: sends((pack) => messagesOf({ ...pack, end: { ...pack.end, outcome: 'failed' } })),
    code: 'source-failed',
    left: 'nothing',
  },
]

/** Names of the archives of the honest host, at the time of the run. */
let honestArchives: string[] = []

/** An honest run, but for one more file, which lies in another archive. */
function pointsInto(archiveOf: (base: string) => string, path = 'srv/d', place = { offset: 512 }): Script {
  return sends((pack) => {
    const archive = archiveOf(pack.header.base!)
    const elsewhere = { ...file(path, 'x').entry, extents: [{ archive, length: 1, ...place }] }
    const others = pack.entries.filter((one) => one.path !== path)
    const entries = [...others, elsewhere].sort((a, b) => comparePaths(a.path, b.path))
    return messagesOf({ ...pack, entries })
  })
}

const hello = { type: 'hello', protocol: 1, software: 'fake-agent 1', role: 'host' } as const
const welcome = { type: 'welcome' as const, policy: { read: [], restore: [] }, localCopy: false }

/** Fifos with the longest paths, which compress to nothing, and no end. */
const sendsEndless: Script = async ({ channel, request, archive }) => {
  await channel.send({ type: 'archive-name', name: archive })
  const encoder = new IndexBatchEncoder(honestPack(request).header)
  for (let number = 0; number < 3000; number++) {
    const name = `srv/endless/${String(number).padStart(9, '0')}${'/x'.repeat(8_000)}`
    const endless = entry(name, { type: 'fifo' })
    while (!encoder.add(endless)) await channel.send({ type: 'entries', payload: indexFrame(encoder.take()) })
    encoder.reach(0)
  }
  await channel.send({ type: 'finished', localCopy: null })
}

function skippable(payload: Buffer): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(0x184d2a5b, 0)
  header.writeUInt32LE(payload.length, 4)
  return Buffer.concat([header, payload])
}

/** So many lies are told in one run, each by a host of its own. */
const liarsAtOnce = 8

describe('an agent that lies', () => {
  let site: Site
  const fakes: FakeAgent[] = []

  before(async () => {
    // They are all to lie at the same time.
    site = await Site.create({ settings: `connection: { attempts: 1 }, concurrency: ${liarsAtOnce + 1},` })
    const honest = await site.addHost('honest')
    writeTree(site.tree('honest'), { 'etc/motd': 'hello\n', 'srv/data': randomBytes(300_000) })
    await honest.start()
    for (let number = 0; number < liarsAtOnce; number++) {
      const liar = await site.addHost(`liar${number}`, { withoutAgent: true })
      fakes.push(await FakeAgent.start(liar))
    }
  })

  after(async () => {
    for (const fake of fakes) await fake[Symbol.asyncDispose]()
    await site?.[Symbol.asyncDispose]()
  })

  /** One run of all hosts, with a lie for each that is none. The honest one has to come through, whatever others say. */
  async function tell(told: readonly Lie[], ...options: string[]): Promise<RunEnded> {
    for (const [number, { script, greeting }] of told.entries()) {
      const fake = fakes[number]!
      fake.script = script ?? (async () => {})
      fake.greeting = greeting ? (channel, socket) => greeting(channel, socket, fake.host.name) : null
    }
    honestArchives = site.files('honest')
    const names = told.map((_, number) => fakes[number]!.host.name)
    const untouched = new Untouched(site, names)
    const program = site.startServer(['run', '--json', ...options, 'honest', ...names])
    const peak = peakMemoryOf(program)
    const run = readRun(await program.endWithin(runMsMax))
    untouched.check(['honest'])
    assert.ok((await peak) < serverBytesMax, `the server used ${await peak} bytes`)
    assert.equal(run.ends.honest?.outcome, 'complete', run.stdout + run.stderr)
    assert.deepEqual(site.partials('honest'), [])
    return run
  }

  const truth: Lie = {
    name: 'the truth',
    code: '',
    script: async (conversation) => {
      await sends(messagesOf)(conversation)
      await conversation.channel.receive(['stored'])
      await conversation.channel.send({ type: 'finished', localCopy: null })
    },
  }

  test('what is no lie is believed', async () => {
    const run = await tell(Array.from({ length: liarsAtOnce }, () => truth))
    assert.equal(run.code, 0, run.stdout)
    for (const { host } of fakes) {
      assert.equal(run.ends[host.name]!.outcome, 'complete')
      await requireWholeArchives(site, host.name)
    }
  })

  // The tests of a group share a run; the first to need it begins it.
  const groups = [
    ...groupsOf(lies).map((group) => ({ group, options: ['--full'] })),
    ...groupsOf(incrementalLies).map((group) => ({ group, options: [] })),
  ]
  for (const { group, options } of groups) {
    let run: Promise<{ run: RunEnded; partials: Record<string, string[]> }> | undefined
    const runGroup = async () => {
      const listPartials = () =>
        Object.fromEntries(fakes.map(({ host: { name } }) => [name, site.partials(name)]))
      const earlier = listPartials()
      const ended = await tell(group, ...options)
      const added = Object.entries(listPartials()).map(([name, partials]) => [
        name,
        partials.filter((partial) => !earlier[name]!.includes(partial)),
      ])
      return { run: ended, partials: Object.fromEntries(added) }
    }
    for (const [number, lie] of group.entries()) {
      const { name, code, left = 'partial', says = /./ } = lie
      test(`${name}: refused as ${code}`, async () => {
        run ??= runGroup()
        const { run: ended, partials } = await run
        const liar = `liar${number}`
        const { outcome, kind, error, archive } = ended.ends[liar]!
        assert.equal(error?.code, code, error?.message)
        assert.match(error.message, says)
        assert.equal(outcome, 'failed')
        assert.equal(kind, options.includes('--full') ? 'full' : 'incremental')
        assert.equal(archive, null)
        assert.equal(ended.code, worst(group), 'the worst host decides')
        assert.equal(site.archives(liar).length, 1, 'no archive was made but that of the truth')
        const suffixes = partials[liar]!.map((partial) => partial.replace(/^.*\.tar\.zst/, ''))
        // What came of a lie is never gone on from.
        if (left === 'mismatch') assert.deepEqual(suffixes, ['.mismatch.partial'])
        else if (left === 'nothing' || suffixes.length === 0) assert.deepEqual(suffixes, [])
        else assert.deepEqual(suffixes, ['.refused.partial'])
      })
    }
  }

  test('the catalog tells of each run that was refused, and none is open', async () => {
    for (const [number, { host }] of fakes.entries()) {
      const listed = await site.ask('list', host.name, '--json')
      const { runs } = listed.json[0] as unknown as {
        runs: { outcome: string; error: { code: string } | null }[]
      }
      const expected = ['complete', ...groups.flatMap(({ group }) => group[number]?.code ?? [])]
      assert.deepEqual(
        runs.map(({ outcome, error }) => error?.code ?? outcome),
        expected,
      )
    }
  })

  test('warnings without end: refused, and the memory of the server stays small', async () => {
    let sent = 0
    fakes[1]!.script = async ({ channel, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      const message = 'x'.repeat(1000)
      for (; sent < 3_000_000; sent++)
        await channel.send({ type: 'warning', code: 'unreadable', path: null, message })
    }
    const program = site.startServer(['-q', 'run', 'liar1'])
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(runMsMax)
    assert.equal(ended.code, 1, ended.stderr)
    assert.match(ended.stderr, /more than 10000 warnings/)
    assert.ok(sent < 20_000, `${sent} warnings were taken`)
    assert.ok((await peak) < 300 * mebibyte, `the server used ${await peak} bytes`)
  })

  test('frames without end, each of 4 MiB in some bytes: the memory of the server stays small', async () => {
    const frame = compressFrame(Buffer.alloc(frameBytesMax))
    assert.ok(frame.length < 1000)
    let sent = 0
    fakes[1]!.script = async ({ channel, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      for (; sent < 5000; sent++) await channel.send({ type: 'frame', payload: frame })
      await channel.send({ type: 'finished', localCopy: null })
    }
    const untouched = new Untouched(site, ['liar1'])
    const program = site.startServer(['-q', 'run', '--full', 'liar1'])
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(runMsMax)
    assert.equal(ended.code, 1, ended.stderr)
    assert.equal(sent, 5000)
    assert.ok((await peak) < 300 * mebibyte, `the server used ${await peak} bytes`)
    untouched.check([])
  })

  test('entries without end, with the longest paths: the memory of the server stays small, and nothing of them stays', async () => {
    const rows = () =>
      site.server('find', '/srv/endless/**', '--host', 'liar1', '--json').then(({ json }) => json.length)
    fakes[1]!.script = sendsEndless
    const untouched = new Untouched(site, ['liar1'])
    const program = site.startServer(['-q', 'run', '--full', 'liar1'])
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(runMsMax)
    assert.equal(ended.code, 1, ended.stderr)
    assert.match(ended.stderr, /finished/)
    assert.ok((await peak) < 400 * mebibyte, `the server used ${await peak} bytes`)
    untouched.check([])
    assert.equal(await rows(), 0)
  })

  test('entries that take nothing in the archive count as what they take in the catalog', async () => {
    const catalogBytes = () =>
      readdirSync(site.repository)
        .filter((name) => name.startsWith('catalog.sqlite'))
        .reduce((sum, name) => sum + statSync(join(site.repository, name)).size, 0)
    fakes[2]!.greeting = null
    fakes[2]!.script = sendsEndless
    const before = catalogBytes()
    const settings = `connection: { attempts: 1 }, concurrency: ${liarsAtOnce + 1},`
    site.configure(`${settings} defaults: { maxArchiveBytes: '8 MiB' },`)
    try {
      const { ends } = await site.run('--full', 'liar2')
      assert.equal(ends.liar2!.error?.code, 'quota-exceeded', JSON.stringify(ends))
    } finally {
      site.configure(settings)
    }
    const grown = catalogBytes() - before
    assert.ok(grown < 64 * mebibyte, `the catalog has grown by ${grown} bytes`)
    const [archive] = site.archives('liar2').slice(-1)
    assert.ok(statSync(archive!).size < mebibyte, 'what came took next to nothing')
  })

  test('warnings about paths that are very long: told, cut, and kept in little space', async () => {
    const path = Buffer.alloc(16_000, 0x01)
    const logged = () => site.serverLog().filter(({ code }) => code === 'unreadable').length
    const earlier = logged()
    fakes[1]!.script = async (conversation) => {
      const { channel, request, archive } = conversation
      await channel.send({ type: 'archive-name', name: archive })
      for (let sent = 0; sent < 1500; sent++)
        await channel.send({ type: 'warning', code: 'unreadable', path, message: 'no' })
      for (const message of messagesOf(honestPack(request))) await channel.send(message)
      await channel.receive(['stored'])
      await channel.send({ type: 'finished', localCopy: null })
    }
    const program = site.startServer(['-q', 'run', 'liar1'])
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(runMsMax)
    assert.equal(ended.code, 0, ended.stderr)
    // The messages and what is shown of them are some 300 MB, which the collector may leave for a while.
    assert.ok((await peak) < 800 * mebibyte, `the server used ${await peak} bytes`)
    const listed = await site.ask('list', 'liar1', '--json')
    assert.ok(listed.stdout.length < 32 * mebibyte, `the list has ${listed.stdout.length} characters`)
    assert.equal(logged() - earlier, 1500)
  })

  test('content in the place of a listing: refused, for a dry run', async () => {
    const [fake] = fakes
    fake!.greeting = null
    fake!.listing = (channel) => channel.send({ type: 'frame', payload: Buffer.alloc(100) })
    const ended = await site.server('run', '--dry-run', '--json', 'liar0')
    const end = ended.json.find(({ event }) => event === 'end') as unknown as { error: { code: string } }
    assert.equal(end.error.code, 'message-out-of-turn')
    assert.equal(ended.code, 1)
  })

  test('objects that are left out without end: refused, for a dry run', async () => {
    const [fake] = fakes
    fake!.greeting = null
    const path = Buffer.from('/srv/x')
    const objects = Array(1000).fill({ path, reason: 'excluded', message: 'x' })
    fake!.listing = async (channel) => {
      for (let sent = 0; sent < 1000; sent++) await channel.send({ type: 'left-out', objects })
    }
    const ended = await site.server('run', '--dry-run', '--json', 'liar0')
    const end = ended.json.find(({ event }) => event === 'end') as unknown as { error: { message: string } }
    assert.match(end.error.message, /more than 100000 objects/)
    assert.equal(ended.code, 1)
  })

  test('commands for the terminal in its texts and paths reach neither terminal nor log', async () => {
    const osc = '\u001b]0;owned\u0007\u009b31m\u202e\u2028\r\nforged line\u007f'
    const paths = [
      Buffer.from('/etc/\u001b[2J\u009b31m\u202e\u2066\nforged'),
      Buffer.from([0x2f, 0x9b, 0x33, 0x31, 0x6d, 0x1b, 0x5d, 0x0a, 0x7f]),
    ]
    const script: Script = async ({ channel, request, archive }) => {
      await channel.send({ type: 'archive-name', name: archive })
      for (const path of paths)
        await channel.send({ type: 'warning', code: 'unreadable', path, message: osc })
      const progress = {
        type: 'progress',
        phase: 'pack',
        entries: 1,
        contentBytes: 1,
        path: paths[0]!,
      } as const
      await channel.send(progress)
      const pack = honestPack(request)
      const named = file(`srv/d\u001b[2J\u009b31m\u202e\nforged`, '')
      for (const message of messagesOf({ ...pack, entries: [...pack.entries, named.entry] }))
        await channel.send(message)
      await channel.receive(['stored'])
      await channel.send({
        type: 'finished',
        localCopy: { kept: false, name: archive, error: osc },
      })
    }
    fakes[1]!.script = script
    const printed = [
      await site.server('run', 'liar1', '--json'),
      await site.server('-v', 'run', 'liar1'),
      await site.server('list', 'liar1'),
      await site.server('list', 'liar1', '--json'),
      await site.server('status', 'liar1'),
    ]
    fakes[1]!.script = ({ channel }) =>
      channel.send({ type: 'error', code: 'source-failed', message: osc, hint: osc })
    printed.push(await site.server('-v', 'run', 'liar1'), await site.server('list', 'liar1'))
    assert.deepEqual(
      printed.map(({ code }) => code),
      [0, 0, 0, 0, 0, 1, 0],
    )
    const log = readFileSync(join(site.repository, 'backup-server.log'), 'utf8')
    for (const text of [log, ...printed.flatMap(({ stdout, stderr }) => [stdout, stderr])]) {
      assert.doesNotMatch(text, commands)
      assert.ok(!text.split('\n').some((line) => line.startsWith('forged')))
    }
    // Every line of the log is one object still.
    assert.ok(site.serverLog().every((line) => typeof line.level === 'string'))
  })
})
