import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type BytePath,
  compressFrame,
  type Entry,
  encodeIndexBatch,
  indexFrameMagic,
  wrapSkippable,
} from '@central-backup/archive'
import { type MessageOf, type MessageType, ProtocolError, restoreRequestsMax } from '@central-backup/protocol'
import fc from 'fast-check'
import { entry, file } from '../../archive/test/sample.ts'
import type { Conversation, RestoreMessage } from '../src/restore/conversation.ts'
import { RemoteSource } from '../src/restore/remote-source.ts'

interface Content {
  entry: Entry
  content: Buffer
}

function fileOf(path: string, content: Uint8Array | string): Content {
  const member = file(path, content)
  const { size } = member.entry
  const extents = size === 0 ? [] : [{ archive: '2026-11-21T030000Z-full.tar.zst', offset: 0, length: size }]
  return { entry: { ...member.entry, extents }, content: member.content }
}

type Said = MessageOf<'entries' | 'entries-end' | 'frame' | 'content-missing'>

/** A server that keeps to the rules, has only files, and sends content in frames of `frameBytes`. */
class FileServer implements Conversation {
  readonly asked: RestoreMessage[] = []
  readonly #files: readonly Content[]
  readonly #frameBytes: number
  readonly #missing: ReadonlySet<string>
  readonly #answers: Said[] = []
  /** Content that was sent. */
  bytes = 0
  /** The most content that was asked for and not yet taken, in requests. */
  requestsMax = 0
  #requestEnds: number[] = []
  #sent = 0
  #taken = 0

  constructor(files: readonly Content[], frameBytes = 1000, missing: readonly string[] = []) {
    this.#files = files
    this.#frameBytes = frameBytes
    this.#missing = new Set(missing)
  }

  send(message: RestoreMessage): void {
    this.asked.push(message)
    if (message.type === 'restore-entries') this.#say(batch(this.#files.map((one) => one.entry)))
    else if (message.type === 'restore-next') this.#say({ type: 'entries-end' })
    else if (message.type === 'restore-content') this.#sendContent(message.paths)
    this.#requestEnds.push(this.#sent)
    const underWay = this.#requestEnds.filter((end) => end > this.#taken).length
    this.requestsMax = Math.max(this.requestsMax, underWay)
  }

  receive<T extends MessageType>(types: readonly T[]): MessageOf<T> {
    const message = this.#answers.shift()
    assert.ok(message, `nothing comes where ${types.join(' or ')} is awaited`)
    this.#taken++
    assert.ok((types as readonly string[]).includes(message.type), message.type)
    return message as MessageOf<T>
  }

  approach(): void {}

  get silent(): boolean {
    return this.#answers.length === 0
  }

  #sendContent(paths: readonly Buffer[]): void {
    let rest = Buffer.alloc(0)
    const flush = () => {
      for (let at = 0; at < rest.length; at += this.#frameBytes)
        this.#say({ type: 'frame', payload: compressFrame(rest.subarray(at, at + this.#frameBytes)) })
      this.bytes += rest.length
      rest = Buffer.alloc(0)
    }
    for (const path of paths) {
      const text = path.toString('latin1').slice(1)
      const { content } = this.#files.find((one) => one.entry.path === text)!
      if (!this.#missing.has(text)) rest = Buffer.concat([rest, content])
      else {
        rest = Buffer.concat([rest, content.subarray(0, content.length / 2)])
        flush()
        this.#say({ type: 'content-missing', message: `${text} is lost` })
      }
    }
    flush()
  }

  #say(message: Said): void {
    this.#answers.push(message)
    this.#sent++
  }
}

function batch(entries: Entry[]): Said {
  const bytes = encodeIndexBatch({ header: null, entries, gone: [], end: null })
  return { type: 'entries', payload: wrapSkippable(indexFrameMagic, compressFrame(bytes)) }
}

/** Reads the files that `wants` holds for, and returns what came by path: content, or why not. */
async function readAll(
  server: Conversation,
  wants: (index: number) => boolean = () => true,
  pieces: (index: number) => number = () => Number.POSITIVE_INFINITY,
): Promise<Map<string, string>> {
  const source = new RemoteSource(server)
  const found = new Map<string, string>()
  let index = -1
  for (const one of source.entries('content', ['file'])) {
    index++
    if (!wants(index)) continue
    const content: Buffer[] = []
    try {
      for await (const piece of source.content(one)) {
        content.push(Buffer.from(piece))
        if (content.length >= pieces(index)) break
      }
      found.set(one.path, Buffer.concat(content).toString('latin1'))
    } catch (error) {
      assert.equal(source.ended.aborted, false)
      found.set(one.path, (error as Error).message)
    }
  }
  return found
}

const manyFiles = Array.from({ length: 2000 }, (_, i) =>
  fileOf(`f${String(i).padStart(4, '0')}`, Buffer.alloc(i % 50, `${i}`)),
)

test('small files that are all wanted are asked for by hundreds, and never too many at a time', async () => {
  const server = new FileServer(manyFiles)
  const found = await readAll(server)
  assert.equal(found.size, manyFiles.length)
  for (const { entry, content } of manyFiles) assert.equal(found.get(entry.path), content.toString('latin1'))
  const requests = server.asked.filter(({ type }) => type === 'restore-content')
  assert.ok(requests.length < 20, `${requests.length} requests`)
  assert.ok(server.requestsMax <= restoreRequestsMax)
  assert.ok(server.silent)
})

test('where files are left out here and there, little is sent in vain', async () => {
  const server = new FileServer(manyFiles)
  const wants = (index: number) => index % 10 !== 0
  const found = await readAll(server, wants)
  const wanted = manyFiles.filter((_, index) => wants(index)).reduce((sum, one) => sum + one.entry.size, 0)
  assert.equal([...found.values()].join('').length, wanted)
  assert.ok(server.bytes < 2 * wanted, `${server.bytes} bytes for ${wanted}`)
  assert.ok(server.silent)
})

test('large files are not asked for before they are wanted', async () => {
  const large = Array.from({ length: 4 }, (_, i) => fileOf(`large${i}`, Buffer.alloc(2_000_000, `${i}`)))
  const server = new FileServer([fileOf('a', 'a'), fileOf('b', 'b'), fileOf('c', 'c'), ...large], 4_000_000)
  const found = await readAll(server, (index) => index !== 4)
  assert.equal(found.get('large3')!.length, 2_000_000)
  assert.equal(server.bytes, 6_000_003)
})

test('whatever is wanted, missing, left in the middle, and however it is cut: each file gets its own bytes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(3000), { minLength: 1, maxLength: 60 }),
      fc.array(fc.constantFrom('whole', 'whole', 'whole', 'skipped', 'missing', 'left'), {
        minLength: 60,
        maxLength: 60,
      }),
      fc.integer({ min: 1, max: 5000 }),
      async (sizes, fates, frameBytes) => {
        const files = sizes.map((size, i) =>
          fileOf(`f${String(i).padStart(2, '0')}`, Buffer.alloc(size, `content of ${i} `)),
        )
        const missing = files.filter((_, i) => fates[i] === 'missing').map((one) => one.entry.path)
        const server = new FileServer(files, frameBytes, missing)
        const found = await readAll(
          server,
          (i) => fates[i] !== 'skipped',
          (i) => (fates[i] === 'left' ? 1 : Number.POSITIVE_INFINITY),
        )
        for (const [i, { entry, content }] of files.entries()) {
          const got = found.get(entry.path)
          if (fates[i] === 'skipped') assert.equal(got, undefined)
          else if (fates[i] === 'missing' && entry.size > 0) assert.equal(got, `${entry.path} is lost`)
          else if (fates[i] === 'left') assert.ok(content.toString('latin1').startsWith(got!))
          else assert.equal(got, content.toString('latin1'))
        }
        assert.ok(server.silent, 'nothing is left that a later answer could be taken for')
        assert.ok(server.requestsMax <= restoreRequestsMax)
      },
    ),
    { numRuns: 200 },
  )
})

test('what breaks a rule aborts the source, so that it is not taken for damage of a file', async () => {
  const server = new FileServer([fileOf('a', 'abc')])
  const receive = server.receive.bind(server)
  server.receive = (types) => {
    const message = receive(types)
    if (message.type === 'frame') message.payload = compressFrame(Buffer.from('abcd'))
    return message
  }
  const source = new RemoteSource(server)
  const [one] = source.entries('content', ['file'])
  await assert.rejects(async () => {
    for await (const _ of source.content(one!)) assert.fail('nothing is given out')
  }, ProtocolError)
  assert.ok(source.ended.reason instanceof ProtocolError)
})

test('first names come with one request for many links, and are asked for again where they found no room', () => {
  const names = Array.from({ length: 30 }, (_, i) => String(i).padStart(2, '0'))
  const links = names.map((name) =>
    entry(`link${name}`, { type: 'hardlink', target: `first${name}` as BytePath }),
  )
  let asked = 0
  const answers: Said[] = []
  const server: Conversation = {
    send(message) {
      if (message.type === 'restore-entries') answers.push(batch(links))
      else if (message.type === 'restore-next') answers.push({ type: 'entries-end' })
      else if (message.type === 'restore-firsts') {
        asked++
        const wanted = message.paths.map((path) => path.toString().slice('/link'.length))
        // Ten find room; one does not exist.
        const found = wanted.slice(0, 10).filter((name) => name !== '15')
        answers.push(batch(found.map((name) => fileOf(`first${name}`, name).entry)))
      }
    },
    receive: <T extends MessageType>() => answers.shift() as MessageOf<T>,
    approach() {},
  }
  const source = new RemoteSource(server)
  const found: (string | null)[] = []
  for (const link of source.entries('path', ['hardlink'])) {
    assert.equal(source.entryAt('another' as BytePath), null)
    found.push(source.entryAt(link.target!)?.path ?? null)
  }
  assert.deepEqual(
    found,
    names.map((name) => (name === '15' ? null : `first${name}`)),
  )
  assert.ok(asked <= 5, `${asked} requests`)
})
