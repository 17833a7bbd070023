import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type BytePath,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  type EntryOrder,
  indexFrameMagic,
  isWithin,
  unwrapSkippable,
} from '@central-backup/archive'
import { type Message, ProtocolError, restorePassesMax } from '@central-backup/protocol'
import { entry, file, type Member, other } from '../../archive/test/sample.ts'
import { type FeedRequest, RestoreFeed, type SelectedSource } from '../src/session/restore-feed.ts'

const archive = '2026-11-21T030000Z-full.tar.zst'

/** A source in memory, of which what is at or below `under` is selected. */
function sourceOf(
  members: readonly Member[],
  under = '',
  broken: (path: string) => number | null = () => null,
): SelectedSource & { passesEnded: number } {
  const all = members.map(({ entry, content }) => ({
    content,
    entry: entry.size === 0 ? entry : { ...entry, extents: [{ archive, offset: 512, length: entry.size }] },
  }))
  const selects = (path: BytePath) => isWithin(path, under as BytePath)
  return {
    passesEnded: 0,
    selects,
    *entries(order: EntryOrder, types) {
      const found = all
        .map((one) => one.entry)
        .filter(({ path, type }) => selects(path) && (types?.includes(type) ?? true))
      if (order === 'path-descending') found.reverse()
      try {
        yield* found
      } finally {
        this.passesEnded++
      }
    },
    entryAt: (path) => all.find((one) => one.entry.path === path)?.entry ?? null,
    async *content({ path }) {
      const { content } = all.find((one) => one.entry.path === path)!
      const end = broken(path)
      for (let at = 0; at < content.length; at += 1000) {
        if (end !== null && at >= end) throw new Error(`${path} is damaged`)
        yield content.subarray(at, at + 1000)
      }
    },
  }
}

async function answer(feed: RestoreFeed, request: FeedRequest): Promise<Message[]> {
  const messages: Message[] = []
  for await (const message of feed.answer(request)) messages.push(message)
  return messages
}

function entriesIn(message: Message | undefined): Entry[] {
  assert.equal(message?.type, 'entries')
  const bytes = decompressFrame(unwrapSkippable(indexFrameMagic, (message as { payload: Buffer }).payload))
  return decodeIndexBatch(bytes, 'archive', 'any').entries
}

const everything = { type: 'restore-entries', order: 'path', types: null } as const
const paths = (...texts: string[]) => texts.map((text) => Buffer.from(text))
const contentOf = (...texts: string[]) => ({ type: 'restore-content' as const, paths: paths(...texts) })
const outOfTurn = { name: 'ProtocolError', code: 'message-out-of-turn' }

const members = [
  other('home', 'directory'),
  file('home/a', 'a'.repeat(2500)),
  other('home/b', 'hardlink', { target: 'home/a' as BytePath }),
  file('home/c', ''),
  other('home/d', 'hardlink', { target: 'etc/shadow' as BytePath }),
  file('etc/shadow', 'secret'),
].sort((a, b) => (a.entry.path < b.entry.path ? -1 : 1))

test('entries come in batches of thousands, in the order and of the types that were asked for', async () => {
  const many = Array.from({ length: 9000 }, (_, i) => file(`f${String(i).padStart(5, '0')}`))
  using feed = new RestoreFeed(sourceOf([...many, other('g', 'directory')]))
  const found: string[] = []
  let [message] = await answer(feed, { type: 'restore-entries', order: 'path-descending', types: ['file'] })
  let batches = 0
  while (message!.type === 'entries') {
    batches++
    found.push(...entriesIn(message).map(({ path }) => path))
    message = (await answer(feed, { type: 'restore-next' }))[0]
  }
  assert.equal(message!.type, 'entries-end')
  assert.deepEqual(found, many.map((one) => one.entry.path as string).reverse())
  assert.equal(batches, 3)
  await assert.rejects(answer(feed, { type: 'restore-next' }), outOfTurn)
})

test('entries that are too large for one batch come in several', async () => {
  const xattrs = new Map([['user.large', Buffer.alloc(400_000)]])
  const large = Array.from({ length: 12 }, (_, i) => file(`f${10 + i}`, '', { xattrs }))
  using feed = new RestoreFeed(sourceOf(large))
  const found = entriesIn((await answer(feed, everything))[0]).length
  assert.ok(found >= 4 && found < 12, `${found}`)
})

test('the content of several files comes as one stream in frames', async () => {
  using feed = new RestoreFeed(sourceOf(members))
  await answer(feed, everything)
  const messages = await answer(feed, contentOf('/home/a', '/home/b', '/etc/shadow'))
  const content = messages.map((message) =>
    decompressFrame((message as { payload: Buffer }).payload).toString(),
  )
  assert.deepEqual(content, [`${'a'.repeat(5000)}secret`])
})

test('content that cannot be read is told in its place, and what follows begins in a frame of its own', async () => {
  using feed = new RestoreFeed(sourceOf(members, '', (path) => (path === 'home/a' ? 2000 : null)))
  await answer(feed, everything)
  const [first, missing, last] = await answer(feed, contentOf('/home/a', '/etc/shadow'))
  assert.equal(decompressFrame((first as { payload: Buffer }).payload).length, 2000)
  assert.deepEqual(missing, { type: 'content-missing', message: 'home/a is damaged' })
  assert.equal(decompressFrame((last as { payload: Buffer }).payload).toString(), 'secret')
})

test('a large file comes in frames of 4 MiB', async () => {
  using feed = new RestoreFeed(sourceOf([file('large', Buffer.alloc(9 * 1024 * 1024 + 1, 'x'))]))
  await answer(feed, everything)
  const messages = await answer(feed, contentOf('/large'))
  const sizes = messages.map((message) => decompressFrame((message as { payload: Buffer }).payload).length)
  assert.deepEqual(sizes, [4 * 1024 * 1024, 4 * 1024 * 1024, 1024 * 1024 + 1])
})

test('first names come for selected hard links, though they are not selected themselves', async () => {
  using feed = new RestoreFeed(sourceOf(members, 'home'))
  await answer(feed, everything)
  const [message] = await answer(feed, { type: 'restore-firsts', paths: paths('/home/b', '/home/d') })
  assert.deepEqual(
    entriesIn(message).map(({ path }) => path),
    ['home/a', 'etc/shadow'],
  )
  const [none] = await answer(feed, { type: 'restore-firsts', paths: paths('/home/a') })
  assert.equal(none!.type, 'entries-end')
})

test('a host gets at nothing that is not selected, however it asks', async () => {
  for (const path of [
    '/etc/shadow',
    '/etc',
    '/',
    '/home/../etc/shadow',
    '/nothing',
    '/home/nothing',
    '/homely',
  ]) {
    using feed = new RestoreFeed(sourceOf(members, 'home'))
    await answer(feed, everything)
    await assert.rejects(answer(feed, contentOf(path)), outOfTurn, path)
    await assert.rejects(answer(feed, { type: 'restore-firsts', paths: paths(path) }), outOfTurn, path)
  }
  using feed = new RestoreFeed(sourceOf(members, 'home'))
  await answer(feed, everything)
  await assert.rejects(answer(feed, contentOf('home/a')), { code: 'message-malformed' })
  await assert.rejects(answer(feed, contentOf('/home')), outOfTurn, 'a folder has no content')
  await assert.rejects(answer(feed, contentOf('/home/c')), outOfTurn, 'an empty file has none')
})

test('a host cannot keep the server at work for ever', async () => {
  using feed = new RestoreFeed(sourceOf(members, 'home'))
  await assert.rejects(answer(feed, contentOf('/home/a')), outOfTurn, 'before any entry was sent')
  using second = new RestoreFeed(sourceOf(members, 'home'))
  await answer(second, everything)
  // Two files and two hard links were sent.
  for (let i = 0; i < 4; i++) await answer(second, contentOf('/home/a'))
  await assert.rejects(answer(second, contentOf('/home/a')), outOfTurn)
  for (let i = 0; i < 2; i++) await answer(second, { type: 'restore-firsts', paths: paths('/home/b') })
  await assert.rejects(answer(second, { type: 'restore-firsts', paths: paths('/home/b') }), outOfTurn)
  using third = new RestoreFeed(sourceOf(members, 'home'))
  for (let i = 0; i < restorePassesMax; i++) await answer(third, everything)
  await assert.rejects(answer(third, everything), (error) => error instanceof ProtocolError)
})

test('a pass that is left in the middle is closed, by the next one and in the end', async () => {
  const many = Array.from({ length: 9000 }, (_, i) =>
    entry(`f${String(i).padStart(5, '0')}`, { type: 'fifo' }),
  )
  const source = sourceOf(many.map((one) => ({ entry: one, content: Buffer.alloc(0) })))
  const feed = new RestoreFeed(source)
  await answer(feed, everything)
  assert.equal(source.passesEnded, 0)
  await answer(feed, everything)
  assert.equal(source.passesEnded, 1)
  feed[Symbol.dispose]()
  assert.equal(source.passesEnded, 2)
})
