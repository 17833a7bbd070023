import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import {
  ArchiveAssembly,
  ArchiveReader,
  CompressorPool,
  type Counts,
  comparePaths,
  type Entry,
  frameBytesMax,
  PackerThread,
  Packing,
  type PackingOptions,
  type PackWarning,
  type Part,
} from '../src/index.ts'
import { outcomeOf } from '../src/pack/packer.ts'
import { DeadMount } from './dead-mount.ts'
import { run, skippedWithout } from './oracles.ts'
import { PackingFolder, runProgram } from './packing-folder.ts'
import { end, header } from './sample.ts'

const pool = new CompressorPool(2)
after(() => pool.close())

function startPacking(folder: PackingFolder, options: Partial<PackingOptions> = {}): Packing {
  const selection = { roots: [folder.root()], exclude: [] }
  return new Packing({ selection, header: { ...header, base: null }, ...options }, pool)
}

interface Made {
  path: string
  packing: Packing
  entries: Entry[]
  warnings: PackWarning[]
}

/** Packs into an archive beside the folder, and reads it whole: index, order and the digest of every file. */
async function makeArchive(
  folder: PackingFolder,
  options: Partial<PackingOptions> = {},
): Promise<Made & Disposable> {
  const warnings: PackWarning[] = []
  const packing = startPacking(folder, { onWarning: (warning) => warnings.push(warning), ...options })
  const assembly = new ArchiveAssembly()
  const pieces: Buffer[] = []
  for await (const part of packing) {
    if (part.kind === 'frame') assembly.addFrame(part.bytes)
    else assembly.addIndex(part.bytes)
    pieces.push(Buffer.from(part.bytes))
    part.release()
  }
  const target = new PackingFolder()
  const path = join(target.path, 'archive.tar.zst')
  writeFileSync(path, Buffer.concat([...pieces, assembly.finish().seekTable]))
  return {
    path,
    packing,
    warnings,
    entries: await readArchive(path),
    [Symbol.dispose]: () => target[Symbol.dispose](),
  }
}

async function readArchive(path: string): Promise<Entry[]> {
  const entries: Entry[] = []
  await using reader = await ArchiveReader.open(path)
  for await (const batch of reader.batches()) entries.push(...batch.entries)
  for (const entry of entries) for await (const _ of reader.readContent(entry));
  return entries
}

function threads(): number {
  return readdirSync('/proc/self/task').length
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/** Looks again and again until it is so; the deadline is there only to end a test that would hang. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000
  while (!isSo()) {
    assert.ok(performance.now() < deadline, `it never came to this: ${what}`)
    await nextTurn()
  }
}

/** Has the pool and the first packing start all that they start but once, so that threads can be counted. */
async function warmUp(): Promise<{ threads: number; descriptors: number }> {
  using folder = new PackingFolder()
  folder.file('a', randomBytes(3 * frameBytesMax))
  const before = threads()
  for await (const part of startPacking(folder)) part.release()
  await until('the thread of the packing ends', () => threads() <= before + pool.threads)
  return { threads: threads(), descriptors: descriptors() }
}

function isAsBefore(before: { threads: number; descriptors: number }): boolean {
  return threads() <= before.threads && descriptors() <= before.descriptors
}

test('an archive of a packed tree opens with zstd and tar, and its index has every entry with its content', async (t) => {
  using folder = new PackingFolder()
  const large = randomBytes(3 * frameBytesMax + 17)
  folder.file('large', large)
  folder.file('small', 'small')
  folder.file('folder/empty')
  folder.symlink('folder/link', '../small')
  using made = await makeArchive(folder)
  const { end } = made.packing
  assert.deepEqual([end.outcome, end.counts.files, end.counts.symlinks], ['complete', 3, 1])
  const names = made.entries.map(({ path }) => folder.nameOf(path)).slice(-5)
  assert.deepEqual(names, ['folder', 'folder/empty', 'folder/link', 'large', 'small'])
  const digest = createHash('sha256').update(large).digest()
  assert.ok(digest.equals(made.entries.find(({ path }) => path === folder.pathOf('large'))!.digest!))
  if (skippedWithout(t, 'zstd') || skippedWithout(t, 'tar')) return
  run('zstd', ['-q', '-t', made.path])
  const listed = run('tar', ['-tf', made.path]).toString().split('\n').slice(0, -1)
  assert.deepEqual(
    listed.map((name) => name.replace(/\/$/, '')),
    made.entries.map(({ path }) => path),
  )
})

test('parts come in their order, the content of every entry before the index that names it', async () => {
  using folder = new PackingFolder()
  for (let i = 0; i < 3000; i++) folder.file(`f${i}`, randomBytes(3000))
  // The assembly inside refuses an index frame too early, and the reader a content that does not fit.
  using made = await makeArchive(folder)
  assert.equal(made.packing.end.counts.files, 3000)
})

test('a folder of 100,000 files is packed whole', async (t) => {
  using folder = PackingFolder.forMany()
  for (let i = 0; i < 100_000; i++) closeSync(openSync(`${folder.path}/file-${i}`, 'w'))
  using made = await makeArchive(folder)
  assert.equal(made.packing.end.counts.files, 100_000)
  const within = made.entries.filter(({ path }) => path.startsWith(`${folder.pathOf()}/`))
  assert.equal(within.length, 100_000)
  const sorted = made.entries.map(({ path }) => path).sort(comparePaths)
  assert.deepEqual(
    made.entries.map(({ path }) => path),
    sorted,
  )
  assert.equal(made.packing.progress().entries, made.entries.length)
  if (skippedWithout(t, 'tar')) return
  assert.equal(run('tar', ['-tf', made.path]).toString('latin1').split('\n').length - 1, made.entries.length)
})

test('cancelling in the middle throws the error given, ends the thread and closes all files', async () => {
  const before = await warmUp()
  using folder = new PackingFolder()
  makeLarge(folder, 64 * frameBytesMax)
  const stop = new Error('the server is gone')
  for (let round = 0; round < 3; round++) {
    const packing = startPacking(folder)
    let parts = 0
    await assert.rejects(
      async () => {
        for await (const part of packing) {
          part.release()
          if (++parts === 3) packing.cancel(stop)
        }
      },
      (error) => error === stop,
    )
    assert.equal(parts, 3)
    assert.throws(() => packing.end, /has not ended/)
  }
  await until('threads and files are as before', () => isAsBefore(before))
})

test('a thread that was started beforehand packs, and one that is not needed ends', async () => {
  using folder = new PackingFolder()
  folder.file('f', 'content')
  const before = await warmUp()
  const selection = { roots: [folder.root()], exclude: [] }
  const thread = new PackerThread()
  const packing = new Packing({ selection, header: { ...header, base: null } }, pool, thread)
  for await (const part of packing) part.release()
  assert.equal(packing.end.counts.files, 1)
  {
    using _unused = new PackerThread()
  }
  await until('threads and files are as before', () => isAsBefore(before))
})

test('a thread that ended before it had its work fails the packing', async () => {
  using folder = new PackingFolder()
  const thread = new PackerThread()
  thread.terminate()
  await until('it has ended', () => thread.hasEnded)
  const selection = { roots: [folder.root()], exclude: [] }
  const packing = new Packing({ selection, header: { ...header, base: null } }, pool, thread)
  await assert.rejects(async () => {
    for await (const part of packing) part.release()
  }, /the packer thread ended before its work/)
})

test('leaving the loop early ends the thread, also where it waits for blocks that nobody gives back', async () => {
  const before = await warmUp()
  using folder = new PackingFolder()
  makeLarge(folder, 64 * frameBytesMax)
  for (let round = 0; round < 3; round++) {
    let parts = 0
    for await (const _ of startPacking(folder)) if (++parts === 4) break
  }
  await until('threads and files are as before', () => isAsBefore(before))
})

test('however a packing ends, the next one gets its blocks, and each of them once', async () => {
  using folder = new PackingFolder()
  makeLarge(folder, 20 * frameBytesMax)
  const own = new CompressorPool(2)
  const selection = { roots: [folder.root()], exclude: [] }
  const start = () => new Packing({ selection, header: { ...header, base: null } }, own)
  const blocksMax = 2 * own.threads + 3
  for (const howItEnds of ['complete', 'left', 'cancelled', 'complete'] as const) {
    const packing = start()
    let parts = 0
    const read = async () => {
      for await (const part of packing) {
        part.release()
        if (++parts === 3 && howItEnds === 'left') break
        if (parts === 3 && howItEnds === 'cancelled') packing.cancel(new Error('no more'))
      }
    }
    if (howItEnds === 'cancelled') await assert.rejects(read, { message: 'no more' })
    else await read()
    await until(`blocks are given back: ${howItEnds}`, () => own.memory.spare === blocksMax)
  }
  const rooms = own.memory.take(blocksMax + 1)
  assert.equal(new Set(rooms.flatMap(({ block, frame }) => [block, frame])).size, 2 * (blocksMax + 1))
  assert.ok(
    Buffer.from(rooms[0]!.block)
      .subarray(65_536, -65_536)
      .every((byte) => byte === 0),
  )
  await own.close()
})

test('a part that is released late keeps its bytes until then, also after the packing has ended', async () => {
  using folder = new PackingFolder()
  folder.file('large', randomBytes(2 * frameBytesMax))
  const own = new CompressorPool(1)
  const selection = { roots: [folder.root()], exclude: [] }
  const held: { part: Part; copy: Buffer }[] = []
  for await (const part of new Packing({ selection, header: { ...header, base: null } }, own)) {
    held.push({ part, copy: Buffer.from(part.bytes) })
  }
  const frames = held.filter(({ part }) => part.kind === 'frame').length
  await until('the other blocks are given back', () => own.memory.spare === 2 + 3 - frames)
  for (const { part, copy } of held) {
    assert.ok(part.bytes.equals(copy))
    part.release()
  }
  assert.equal(own.memory.spare, 2 + 3)
  await own.close()
})

test('a reader that takes its time bounds what is read: no more blocks are in use than were allowed', async () => {
  using folder = new PackingFolder()
  makeLarge(folder, 40 * frameBytesMax)
  const blocksMax = 2 * pool.threads + 3
  const packing = startPacking(folder)
  const held: Part[] = []
  let total = 0
  let seen = 0
  for await (const part of packing) {
    seen = Math.max(seen, packing.progress().contentBytes - total)
    if (part.kind === 'frame') {
      held.push(part)
      // All blocks are in this test's hands: only now does the packer get one back, and goes on by that one.
      if (held.length === blocksMax) {
        held.shift()!.release()
        total += frameBytesMax
      }
    } else part.release()
  }
  assert.equal(packing.end.outcome, 'complete')
  assert.ok(seen <= blocksMax * frameBytesMax, `${seen} bytes were read ahead`)
})

test('a listing that is read slowly is bounded, too', async () => {
  using folder = PackingFolder.forMany()
  for (let i = 0; i < 30_000; i++) closeSync(openSync(`${folder.path}/${'n'.repeat(100)}-${i}`, 'w'))
  const packing = startPacking(folder, { listOnly: true })
  const batches = packing[Symbol.asyncIterator]()
  const first = await batches.next()
  // Nothing is released: what is found by then is all that is found.
  let before = -1
  await until('the packer stops', () => {
    const { entries } = packing.progress()
    const stands = entries === before && entries > 10_000
    before = entries
    return stands
  })
  assert.ok(packing.progress().entries < 29_000, `${packing.progress().entries} entries were found unread`)
  first.value!.release()
  for (let next = await batches.next(); !next.done; next = await batches.next()) {
    assert.equal(next.value.kind, 'index')
    next.value.release()
  }
  assert.equal(packing.end.counts.files, 30_000)
})

test('an owner that is not done with what a listing leaves out holds the packer back, and is told all of it', async () => {
  using folder = PackingFolder.forMany()
  for (let i = 0; i < 12_000; i++) closeSync(openSync(`${folder.path}/${i}.tmp`, 'w'))
  let told = 0
  const held = Promise.withResolvers<void>()
  const packing = startPacking(folder, {
    selection: { roots: [folder.root()], exclude: ['*.tmp'] },
    listOnly: true,
    onWarning() {
      told++
      return held.promise
    },
  })
  const parts = packing[Symbol.asyncIterator]()
  const first = parts.next()
  let before = -1
  await until('the packer stops', () => {
    const stands = told === before && told > 1000
    before = told
    return stands
  })
  assert.ok(told < 6000, `${told} were told at once`)
  held.resolve()
  for (let next = await first; !next.done; next = await parts.next()) next.value.release()
  assert.equal(told, 12_000)
  assert.equal(packing.end.counts.excluded, 12_000)
})

/** A file of this size that is all there, so that all of it is read. */
function makeLarge(folder: PackingFolder, bytes: number): void {
  runProgram('fallocate', ['-x', '-l', String(bytes), folder.at('large').toString()])
}

/** Puts the clock that stalls are measured by into the hands of the test; the return value moves it on. */
function takeClock(t: TestContext): (ms: number) => void {
  let nowMs = performance.now()
  t.mock.timers.enable({ apis: ['setInterval'] })
  t.mock.method(performance, 'now', () => nowMs)
  return (ms) => {
    for (let passed = 0; passed < ms; passed += 1000) {
      nowMs += 1000
      t.mock.timers.tick(1000)
    }
  }
}

test('a file system that does not answer ends the run with an error that names the path', {
  timeout: 60_000,
}, async (t) => {
  const before = await warmUp()
  using folder = new PackingFolder()
  folder.file('a', 'before')
  using mount = DeadMount.create(t, join(folder.path, 'dead'))
  if (mount === null) return
  const passTime = takeClock(t)
  const packing = startPacking(folder, { stallMs: 60_000 })
  const iterating = (async () => {
    for await (const part of packing) part.release()
  })()
  iterating.catch(() => {})
  while (packing.progress().path !== folder.pathOf('dead')) await nextTurn()
  passTime(59_000)
  await nextTurn()
  passTime(5_000)
  await assert.rejects(iterating, (error: Error & { code: string; hint: string }) => {
    assert.equal(error.code, 'pack-stalled')
    assert.ok(error.message.includes(`did not answer for 60 s at ${folder.path}/dead`), error.message)
    assert.match(error.hint, /exclude/)
    return true
  })
  mount[Symbol.dispose]()
  t.mock.restoreAll()
  await until('the thread ends once the call returns', () => isAsBefore(before))
})

test('a reader that takes nothing for a long time is no stall of the file system', async (t) => {
  using folder = new PackingFolder()
  makeLarge(folder, 12 * frameBytesMax)
  const passTime = takeClock(t)
  const packing = startPacking(folder, { stallMs: 60_000 })
  const parts = packing[Symbol.asyncIterator]()
  const held: Part[] = []
  for (let i = 0; i < 2 * pool.threads + 3; i++) held.push((await parts.next()).value!)
  // All blocks are held, and from the last of them on the packer can only wait: it has the time to come to that.
  for (let passed = 0; passed < 90; passed++) {
    passTime(1000)
    await pause(5)
  }
  for (const part of held) part.release()
  for (let next = await parts.next(); !next.done; next = await parts.next()) next.value.release()
  assert.equal(packing.end.outcome, 'complete')
})

test('an exclude pattern that cannot be understood fails the packing, and says which', async () => {
  using folder = new PackingFolder()
  folder.file('a')
  const packing = startPacking(folder, { selection: { roots: [folder.root()], exclude: ['[z-a]'] } })
  await assert.rejects(
    async () => {
      for await (const part of packing) part.release()
    },
    { code: 'pack-failed', message: /\[z-a\]/ },
  )
})

test('a pool that is closed in the middle fails the packing', async () => {
  using folder = new PackingFolder()
  folder.file('a', randomBytes(20 * frameBytesMax))
  const own = new CompressorPool(1)
  const selection = { roots: [folder.root()], exclude: [] }
  const packing = new Packing({ selection, header: { ...header, base: null } }, own)
  let parts = 0
  await assert.rejects(
    async () => {
      for await (const part of packing) {
        part.release()
        if (++parts === 2) void own.close()
      }
    },
    { code: 'pack-failed' },
  )
})

test('several packings share a pool, and none gets parts of another', async () => {
  using folder = new PackingFolder()
  for (const name of ['a', 'b', 'c'])
    folder.file(`${name}/file`, randomBytes(2 * frameBytesMax + name.charCodeAt(0)))
  const all = await Promise.all(
    ['a', 'b', 'c'].map((name) =>
      makeArchive(folder, { selection: { roots: [folder.root(name)], exclude: [] } }),
    ),
  )
  for (const [i, made] of all.entries()) {
    using _ = made
    assert.equal(made.entries.at(-1)!.path, folder.pathOf(`${'abc'[i]}/file`))
  }
})

test('a tree that is changed without pause gives an archive that tar and its index agree on, and nothing from outside', async (t) => {
  if (skippedWithout(t, 'tar')) return
  using folder = new PackingFolder()
  folder.folder('tree')
  folder.file('outside/secret', 'must never be packed')
  const churn = spawn(process.execPath, [join(import.meta.dirname, 'churn.ts'), folder.path], {
    stdio: 'pipe',
  })
  using _ = { [Symbol.dispose]: () => churn.kill('SIGKILL') }
  let said = ''
  churn.stderr.on('data', (piece) => (said += piece))
  await Promise.race([once(churn.stdout, 'data'), once(churn, 'exit').then(() => assert.fail(said))])
  const selection = { roots: [folder.root('tree')], exclude: [] }
  let troubles = 0
  for (let round = 0; round < 5 || troubles === 0; round++) {
    using made = await makeArchive(folder, { selection })
    const { counts, outcome } = made.packing.end
    troubles += counts.changed + counts.vanished
    assert.equal(counts.unreadable, 0, JSON.stringify(made.warnings))
    assert.equal(outcome, counts.changed + counts.vanished > 0 ? 'complete-with-changes' : 'complete')
    const listed = run('tar', ['--quoting-style=literal', '-tf', made.path]).toString('latin1')
    const paths = made.entries.map(({ path, type }) => (type === 'directory' ? `${path}/` : path))
    assert.deepEqual(listed.split('\n').slice(0, -1), paths)
    assert.ok(!run('zstd', ['-q', '-d', '-c', made.path]).includes('must never be packed'))
    assert.ok(!listed.includes('secret'))
    assert.equal(churn.exitCode, null, said)
  }
})

const none: Counts = Object.fromEntries(Object.keys(end.counts).map((name) => [name, 0])) as unknown as Counts

test('the outcome is the worst of what happened', () => {
  const cases: [Partial<Counts>, boolean, number, string][] = [
    [{}, true, 0, 'complete'],
    [{ sockets: 3, excluded: 5 }, true, 0, 'complete'],
    [{ changed: 1 }, true, 0, 'complete-with-changes'],
    [{ vanished: 1 }, true, 0, 'complete-with-changes'],
    [{ unreadable: 1 }, true, 0, 'incomplete'],
    [{ changed: 1, unreadable: 1 }, true, 0, 'incomplete'],
    [{}, true, 1, 'incomplete'],
    [{ directories: 9, sockets: 1 }, false, 0, 'failed'],
    [{ unreadable: 1 }, false, 2, 'failed'],
  ]
  for (const [counts, hasFiles, missing, outcome] of cases) {
    assert.equal(
      outcomeOf({ counts: { ...none, ...counts }, hasFiles }, missing),
      outcome,
      JSON.stringify(counts),
    )
  }
})
