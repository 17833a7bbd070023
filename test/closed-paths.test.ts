/**
 * A server in the wrong hands asks, with every message that it may send, for what the settings of the host do not let it read.
 * All that the agent says is the same, whatever is there: message by message, field by field, but for its clock.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import {
  type BytePath,
  bytePathFromBuffer,
  compressFrame,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  IndexBatchEncoder,
  indexBatchBytesMax,
  indexFrameMagic,
  unwrapSkippable,
  wrapSkippable,
} from '@central-backup/archive'
import { type Message, type MessageOf, ProtocolError } from '@central-backup/protocol'
import { entry } from '../packages/archive/test/sample.ts'
import { requestOf } from './harness/in-process-run.ts'
import { logIn, restoreRequestOf } from './harness/restore-session.ts'
import { Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

describe('what a server may not read', () => {
  let site: Site
  let host: TestHost
  let tree: string
  /** In a folder of its own, so that nothing that may be read changes with what is in it. */
  let secret: string
  before(async () => {
    site = await Site.create()
    tree = site.tree('web1')
    secret = site.at('closed', 'inner', 'secret')
    mkdirSync(site.at('closed', 'inner'), { recursive: true })
    writeTree(tree, { 'etc/motd': 'hello\n', 'etc/second': 'x' })
    symlinkSync(secret, join(tree, 'link'))
    symlinkSync('link', join(tree, 'chain'))
    symlinkSync(site.at('closed', 'inner'), join(tree, 'folder-link'))
    symlinkSync('../../closed/inner/secret', join(tree, 'climbing'))
    host = await site.addHost('web1', { settings: `[limits]\ncompress_threads = 1` })
    host.configure((text) => text.replace('read = ["/"]', `read = [${JSON.stringify(tree)}]`))
    await host.start()
  })
  after(() => site?.[Symbol.asyncDispose]())

  /** What may stand at the path. */
  const states: Record<string, () => void> = {
    nothing: () => {},
    'a closed file': () => writeFileSync(secret, 'secret content', { mode: 0 }),
    'a folder': () => writeTree(secret, { 'CACHEDIR.TAG': 'x', '.nobackup': '', 'deep/file': 'y' }),
    'a link into what may be read': () => symlinkSync(join(tree, 'etc'), secret),
  }

  const buffers = (...texts: string[]) => texts.map((text) => Buffer.from(text))

  /** What stands in the run before, as this server has it. */
  const baselines: Record<string, () => Entry[]> = {
    'that names it, as a file': () => [entry(secret.slice(1), { ...standing })],
    'that names it, as a folder with what is in it': () => [
      entry(secret.slice(1), { type: 'directory', mode: 0o755 }),
      entry(`${secret.slice(1)}/deep/file`, { ...standing }),
    ],
    'that names what may be read as a hard link to it': () => [
      entry(join(tree, 'etc/motd').slice(1), {
        type: 'hardlink',
        target: bytePathFromBuffer(Buffer.from(secret.slice(1))) as BytePath,
      }),
    ],
    'that has it below a link': () => [entry(join(tree, 'folder-link/secret').slice(1), { ...standing })],
  }
  const standing: Partial<Entry> = {
    size: 14,
    digest: Buffer.alloc(32, 7),
    extents: [{ archive: '2026-11-20T030000Z-full.tar.zst', offset: 512, length: 14 }],
  }

  /** Requests that have to do with it, each beside what may be read, so that there is something to answer. */
  const selections: Record<string, () => Partial<MessageOf<'backup'>>> = {
    'the path itself': () => ({ paths: buffers(secret, `${tree}/etc`) }),
    'the path as a folder': () => ({ paths: buffers(`${secret}/`, `${tree}/etc`) }),
    'something in it': () => ({ paths: buffers(`${secret}/deep/file`, `${tree}/etc`) }),
    'patterns that match it': () => ({
      paths: buffers(
        `${site.at('closed')}/*/s*`,
        `${site.at('closed')}/**`,
        `${site.at('closed')}/{inner,outer}/secret`,
        `${site.folder}/*/inner/secret`,
        `${tree}/etc`,
      ),
    }),
    'patterns that climb to it': () => ({
      paths: buffers(
        `${tree}/{.,x}{.,y}/../closed/inner/secret`,
        `${tree}/\\.\\./\\.\\./closed/inner/*`,
        `${tree}/[.][.]/[.][.]/closed/inner/*`,
        `${tree}/etc`,
      ),
    }),
    'links that lead to it': () => ({
      paths: buffers(
        ...[
          'link',
          'link/',
          'link/*',
          'link/deep',
          'chain/',
          'climbing/',
          'folder-link/secret',
          'folder-link/*',
        ].map((name) => join(tree, name) + (name.endsWith('/') ? '/' : '')),
        `${tree}/etc`,
      ),
    }),
    'excludes of it': () => ({
      paths: buffers(tree, secret),
      exclude: buffers(secret, `${secret}/**`, `!${secret}`, 'secret', '/../secret'),
    }),
    'rules for it': () => ({
      paths: [
        { path: Buffer.from(secret), exclude: buffers('deep'), excludeIfPresent: buffers('.nobackup') },
        {
          path: Buffer.from(tree),
          excludeCaches: true,
          excludeIfPresent: buffers('secret', 'link'),
          maxFileBytes: 1,
        },
      ],
      excludeCaches: true,
      excludeNodump: true,
      oneFileSystem: false,
    }),
  }

  /** All that the agent says after `request`, without what its clock says. */
  async function hear(request: Message, baseline: Entry[] | null): Promise<unknown[]> {
    const { channel, welcome } = await logIn(host)
    const heard: unknown[] = [welcome]
    try {
      await channel.send(request)
      for (;;) {
        const message = await channel.receive([
          ...([
            'archive-name',
            'entries',
            'frame',
            'baseline-next',
            'warning',
            'left-out',
            'summary',
          ] as const),
          ...(['progress', 'restore-entries', 'restore-end'] as const),
        ])
        if (message.type === 'baseline-next') {
          const payload = baseline === null ? null : frameOf(baseline)
          await channel.send(payload === null ? { type: 'baseline-end' } : { type: 'baseline', payload })
          baseline = null
        }
        // How often it comes depends on the time.
        if (message.type !== 'progress') heard.push(shownMessage(message))
        if (message.type !== 'summary') continue
        channel.destroy()
        return heard
      }
    } catch (error) {
      assert.ok(error instanceof ProtocolError, String(error))
      return [...heard, { code: error.code, message: error.message, hint: error.hint }]
    }
  }

  /** Says the same in every state; fails where what the agent says differs. Returns it. */
  async function sameInAllStates(request: () => Message, baseline: (() => Entry[]) | null = null) {
    const answers: [string, unknown[]][] = []
    for (const [state, make] of Object.entries(states)) {
      rmSync(secret, { recursive: true, force: true })
      make()
      answers.push([state, await hear(request(), baseline?.() ?? null)])
    }
    for (const [state, answer] of answers.slice(1)) assert.deepEqual(answer, answers[0]![1], state)
    return answers[0]![1]
  }

  for (const [name, selection] of Object.entries(selections)) {
    test(`looks the same, be it there or not, in a backup of ${name}`, async () => {
      const heard = await sameInAllStates(() =>
        requestOf(host, { ...selection(), startedAtMs: 1_795_230_000_000 }),
      )
      assert.equal(typesOf(heard).at(-1), 'summary')
    })

    // A listing selects as a backup does; what it tells beside that comes of these.
    if (!/rules|links|match/.test(name)) continue
    test(`looks the same, be it there or not, in a listing of ${name}`, async () => {
      const { paths = [], exclude = [], excludeCaches, excludeIfPresent } = selection()
      const check: MessageOf<'check'> = {
        type: 'check',
        host: host.name,
        paths,
        exclude,
        ...(excludeCaches && { excludeCaches }),
        ...(excludeIfPresent && { excludeIfPresent }),
      }
      const heard = await sameInAllStates(() => check)
      assert.equal(typesOf(heard).at(-1), 'summary')
    })
  }

  for (const [name, baseline] of Object.entries(baselines)) {
    test(`looks the same, be it there or not, to a server with a baseline ${name}`, async () => {
      const base = '2026-11-20T030000Z-full.tar.zst'
      const fields = { kind: 'incremental', base, startedAtMs: 1_795_230_000_000 } as const
      const heard = await sameInAllStates(() => requestOf(host, fields), baseline)
      assert.equal(typesOf(heard).at(-1), 'summary')
    })
  }

  test('looks the same, be it there or not, in a restore to it, for real or dry', async () => {
    for (const [target, dryRun] of [
      [secret, true],
      [join(tree, 'folder-link/secret'), false],
    ] as const) {
      const heard = await sameInAllStates(() => restoreRequestOf(host, target, { dryRun }))
      assert.equal((heard.at(-1) as { code: string }).code, 'policy-denied')
    }
  })
})

function typesOf(heard: readonly unknown[]): string[] {
  return heard.map((one) => (one as { type: string }).type)
}

function frameOf(entries: readonly Entry[]): Buffer {
  const encoder = new IndexBatchEncoder(null)
  for (const one of entries) assert.ok(encoder.add(one))
  return wrapSkippable(indexFrameMagic, compressFrame(encoder.take()))
}

/**
 * A message, decoded, without the times of the agent, and without the folders that lead to what may be read: their times and
 * numbers of links are told, and change with all that others do in them.
 */
function shownMessage(message: Message): unknown {
  if (message.type === 'frame') {
    assert.ok(!/secret content/.test(decompressFrame(message.payload).toString('latin1')))
    return { type: message.type }
  }
  if (message.type === 'summary') {
    const { finishedAtMs: _, digest: __, archiveBytes: ___, ...rest } = message
    return rest
  }
  if (message.type !== 'entries') return message
  const frame = decompressFrame(unwrapSkippable(indexFrameMagic, message.payload), indexBatchBytesMax)
  let batch: ReturnType<typeof decodeIndexBatch>
  try {
    batch = decodeIndexBatch(frame, 'archive')
  } catch {
    batch = decodeIndexBatch(frame, 'listing')
  }
  const { end, header, entries, gone } = batch
  return {
    type: message.type,
    entries: entries
      .filter(({ ancestor }) => !ancestor)
      .map(({ extents, ...one }) => ({
        ...one,
        extents: extents.map(({ archive, length }) => ({ archive, length })),
      })),
    gone,
    header: header && { ...header, startedAtMs: 0 },
    end: end && { ...end, finishedAtMs: 0 },
  }
}
