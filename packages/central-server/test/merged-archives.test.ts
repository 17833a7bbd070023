/**
 * Archives of removed runs of which only the index is needed are merged into those after them: fewer files, and nothing
 * that anybody can see changes.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { ArchiveReader, bytesFromText } from '@central-backup/archive'
import { Random } from '../../../test/harness/random.ts'
import { all, file, other } from '../../archive/test/sample.ts'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { findVersions } from '../src/catalog/find-versions.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { holdForReading } from '../src/catalog/read-lease.ts'
import { standingEntries } from '../src/catalog/versions.ts'
import type { Host } from '../src/config/hosts.ts'
import { adoptArchives } from '../src/jobs/adopt-archives.ts'
import { type PruneResult, pruneHost } from '../src/jobs/prune.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import { verify } from '../src/jobs/verify.ts'
import { archivePath, listArchives } from '../src/storage/archive-list.ts'
import { openRepository } from '../src/storage/repository.ts'
import { day, dumpVersions, type PastRun, PastRuns, type Tree, trashDays } from './past-run.ts'
import { backupServer } from './run-program.ts'
import { remembering } from './told.ts'

const { signal } = new AbortController()
const hour = 3_600_000
const noStrace =
  spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0
    ? false
    : 'strace is not installed, or may not trace here'
const pastTrash = (trashDays + 0.5) * 24 * hour

const keeping = (last: number) => ({ name: 'web1', retention: { last }, expectEveryMs: 24 * hour }) as Host

/** Prunes after what was removed has been in the trash for its time. */
async function pruneTwice(past: PastRuns, last: number): Promise<PruneResult> {
  await pruneHost(past.prune, keeping(last))
  past.nowMs += pastTrash
  return pruneHost(past.prune, keeping(last))
}

async function requireWell(
  past: PastRuns,
  catalog = past.catalog,
  repository = past.repository,
): Promise<void> {
  const { damage, unknown } = await verify(catalog, repository, ['web1'], {
    ...{ sample: 1, random: Math.random, signal, onArchive: () => {}, onDamage: () => {} },
  })
  assert.deepEqual({ damage, unknown }, { damage: [], unknown: [] })
}

/** What `ls -R` and `find` show of all runs that can be seen, by the times of these. */
function seen(catalog: Catalog): unknown {
  const runs = catalog.runs('web1').map((run) => ({
    startedAtMs: run.startedAtMs,
    entries: [...standingEntries(catalog, run, { order: 'path' })],
  }))
  const all = { matches: () => true, needle: null, prefix: null }
  const found = [...findVersions(catalog, 'web1', all)].map(({ path, entry, firstRun, lastRun, gone }) => ({
    ...{ path, entry, first: firstRun.startedAtMs, last: lastRun.startedAtMs },
    gone: gone && [gone.run.startedAtMs, gone.reason],
  }))
  return { runs, found }
}

/** What stood in the runs of some times. */
function runsOf(catalog: Catalog, times: readonly number[]): unknown {
  return catalog
    .runs('web1')
    .filter(({ startedAtMs }) => times.includes(startedAtMs))
    .map((run) => ({ at: run.startedAtMs, entries: [...standingEntries(catalog, run, { order: 'path' })] }))
}

/** The catalog that comes of the archives alone. */
async function withRebuilt(past: PastRuns, work: (catalog: Catalog) => void | Promise<void>): Promise<void> {
  const { catalogFile } = past.repository
  past.catalog.checkpoint()
  copyFileSync(catalogFile, `${catalogFile}.before`)
  const result = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.deepEqual([result.damaged, result.missing, result.bridged], [[], [], []])
  {
    using rebuilt = new Catalog(catalogFile, { now: () => past.nowMs })
    await work(rebuilt)
  }
  copyFileSync(`${catalogFile}.replaced`, catalogFile)
}

test('what removed runs deleted is told by the archive after them, with the reason, and their archives are gone', async () => {
  using past = await PastRuns.create()
  const tree = {
    t: 'folder',
    't/a': { content: 'a' },
    't/b': { content: 'b' },
    't/c': { content: 'c' },
    't/stays': { content: 'stays' },
  } as const
  const runs = [
    await past.add({ startedAtMs: day(1), kind: 'full', tree }),
    await past.add({ startedAtMs: day(2), gone: ['t/a'] }),
    await past.add({ startedAtMs: day(3), unselected: ['t/b'], tree: { t: 'folder' } }),
    await past.add({ startedAtMs: day(4), tree: { 't/a': { content: 'again' } } }),
    await past.add({ startedAtMs: day(5), gone: ['t/c'] }),
  ]
  past.nowMs = day(5) + hour
  past.catalog.setPinned(1, true)
  const before = seen(past.catalog)
  await past.remove(2, 3)
  past.nowMs += pastTrash
  const { repacked } = await pruneHost(past.prune, keeping(2))
  const names = runs.map(({ archive }) => archive!.name)
  assert.deepEqual(
    repacked.map(({ archive, absorbed }) => ({ archive, absorbed })),
    [{ archive: names[3], absorbed: [names[1], names[2]] }],
  )
  assert.deepEqual(past.files('archives'), [names[0], names[3], names[4]])
  await using reader = await ArchiveReader.open(past.path(names[3]!))
  const [batch] = await all(reader.batches())
  assert.equal(batch!.header!.base, names[0])
  assert.deepEqual(batch!.header!.repack, {
    kept: [names[0], names[3], names[4]],
    absorbed: [names[1], names[2]],
  })
  assert.deepEqual(
    batch!.entries.map(({ path }) => path),
    ['t', 't/a'],
  )
  assert.deepEqual(batch!.gone, [
    { path: 't/a', reason: 'deleted' },
    { path: 't/b', reason: 'unselected' },
  ])
  const of = (what: unknown, startedAtMs: number) =>
    (what as { runs: { startedAtMs: number }[] }).runs.find((run) => run.startedAtMs === startedAtMs)
  for (const kept of [1, 4, 5]) assert.deepEqual(of(seen(past.catalog), day(kept)), of(before, day(kept)))
  await requireWell(past)
  const versions = dumpVersions(past.catalog)
  await withRebuilt(past, async (rebuilt) => {
    assert.deepEqual(dumpVersions(rebuilt), versions)
    assert.deepEqual(seen(rebuilt), seen(past.catalog))
    await requireWell(past, rebuilt)
  })
})

test('200 hourly runs of which 3 stay leave a handful of files', async () => {
  using past = await PastRuns.create()
  const began = day(1)
  await past.add({
    ...{ startedAtMs: began, kind: 'full' },
    tree: { t: 'folder', 't/old': { content: 'old' }, 't/log': { content: 'log 0' } },
  })
  let most = 0
  for (let n = 1; n <= 200; n++) {
    const tree: Record<string, Tree[string]> = { t: other('t', 'directory', { mtimeSeconds: n }) }
    if (n % 2 === 0) tree['t/log'] = { content: `log ${n}` }
    if (n % 3 !== 0) tree[`t/spool-${n}`] = { content: `job ${n}` }
    const gone = [...(n > 1 && (n - 1) % 3 !== 0 ? [`t/spool-${n - 1}`] : [])]
    past.nowMs = began + n * hour
    await past.add({ startedAtMs: past.nowMs, tree, gone })
    await pruneHost(past.prune, keeping(3))
    most = Math.max(most, past.files('archives').length)
  }
  // Those that were removed within the term of the trash, the full one, three that stay and one between.
  const termRuns = trashDays * 24
  assert.ok(most <= termRuns + 5, `${most} archives`)
  past.nowMs += pastTrash
  await pruneHost(past.prune, keeping(3))
  assert.ok(past.files('archives').length <= 5, past.files('archives').join(' '))
  assert.deepEqual(past.files('trash'), [])
  await requireWell(past)
  const versions = dumpVersions(past.catalog)
  await withRebuilt(past, (rebuilt) => assert.deepEqual(dumpVersions(rebuilt), versions))
})

/** A chain in which some archives are merged into living ones, and some among themselves. */
async function mergeable(past: PastRuns): Promise<void> {
  const noise = (seed: number) => Array.from({ length: 900 }, (_, i) => (i * seed * 7919) % 10007).join(' ')
  const tree: Record<string, Tree[string]> = { t: 'folder', 't/d': 'folder', 't/keep': { content: 'keep' } }
  for (let n = 1; n <= 6; n++) tree[`t/d/${n}`] = { content: noise(n) }
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), gone: ['t/d/1'] })
  await past.add({
    startedAtMs: day(3),
    unselected: ['t/d/2'],
    tree: { 't/d': other('t/d', 'directory', { mode: 0o700 }) },
  })
  await past.add({ startedAtMs: day(4), tree: { 't/living': { content: 'living' } } })
  await past.add({ startedAtMs: day(5), gone: ['t/d/3'], tree: { 't/brief': { content: noise(9) } } })
  await past.add({ startedAtMs: day(6), gone: ['t/brief'] })
  await past.add({ startedAtMs: day(7), tree: { 't/d/1': { content: 'again' } } })
  await past.add({ startedAtMs: day(8), gone: ['t/d/4'] })
  past.nowMs = day(8) + hour
  await pruneHost(past.prune, keeping(2))
  past.nowMs += pastTrash
}

const filesAfterMerging = 4

describe('a death of prune', { concurrency: 1, skip: noStrace }, () => {
  const every = process.env.CENTRAL_BACKUP_DEATHS === 'all' ? 1 : 3
  for (const [what, calls, step] of [
    ['rename', 'rename,renameat,renameat2', 1],
    ['unlink', 'unlink,unlinkat', every],
    ['fsync', 'fsync', every === 1 ? 1 : 6],
  ] as const) {
    test(`at any ${what} changes nothing that can be seen, and the next one finishes what it began`, async () => {
      using past = await PastRuns.create()
      await mergeable(past)
      const before = seen(past.catalog)
      const visible = past.catalog.runs('web1').map(({ startedAtMs }) => startedAtMs)
      past.catalog.checkpoint()
      // strace counts the calls of each thread on their own.
      const env = { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1', UV_THREADPOOL_SIZE: '1' }
      const program = join(import.meta.dirname, 'prune-repository.ts')
      let deaths = 0
      for (let when = 1; ; when += step) {
        const folder = past.folder.at(`${what}-${when}`)
        cpSync(past.repository.folder, folder, { recursive: true })
        const inject = `inject=${calls}:signal=KILL:when=${when}`
        const trace = ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', inject]
        const command = [...trace, process.execPath, program, folder, String(past.nowMs)]
        const { signal, status, stderr } = spawnSync('strace', command, {
          ...{ encoding: 'utf8', env },
        })
        if (status === 0) break
        assert.ok(signal === 'SIGKILL' || status === 128 + 9, stderr)
        deaths++
        const repository = await openRepository(folder)
        const now = () => past.nowMs
        const copy = `${folder}-copy`
        cpSync(folder, copy, { recursive: true })
        using catalog = new Catalog(repository.catalogFile, { now })
        assert.deepEqual(seen(catalog), before, `at ${what} ${when}`)
        const again = await pruneHost({ ...past.prune, catalog, repository }, keeping(2))
        assert.deepEqual(again.refused, [])
        assert.deepEqual(seen(catalog), before, `after ${what} ${when}`)
        await requireWell(past, catalog, repository)
        const { archives, partials } = await listArchives(repository, 'web1')
        assert.deepEqual([archives.length, partials.length], [filesAfterMerging, 0])
        // Who makes the catalog anew instead sees the same of the runs that are kept.
        await rebuildCatalog(await openRepository(copy), now, { onArchive: () => {} })
        using rebuilt = new Catalog((await openRepository(copy)).catalogFile, { now })
        assert.deepEqual(runsOf(rebuilt, visible), runsOf(catalog, visible), `made anew at ${what} ${when}`)
      }
      assert.ok(deaths > 0, 'it never came to it')
    })
  }
})

test('an archive that was taken over and is there still, or again, is not read, and goes to the trash', async () => {
  using past = await PastRuns.create()
  await mergeable(past)
  const names = past.files('archives')
  for (const name of names) copyFileSync(past.path(name), past.folder.at(name))
  const { repacked } = await pruneHost(past.prune, keeping(2))
  const absorbed = repacked.flatMap((one) => one.absorbed).sort()
  assert.ok(absorbed.length >= 4, absorbed.join(' '))
  const before = seen(past.catalog)
  for (const name of absorbed) copyFileSync(past.folder.at(name), past.path(name))
  past.catalog.checkpoint()
  const result = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.deepEqual(
    result.absorbed.map(({ archive }) => archive),
    absorbed,
  )
  using rebuilt = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  assert.deepEqual(seen(rebuilt), before)
  const { log, told } = remembering()
  using lease = takeLease(rebuilt, 'web1')
  assert.deepEqual(await adoptArchives({ ...past.prune, catalog: rebuilt, log, signal }, lease), [])
  assert.equal(told.length, absorbed.length)
  assert.match(told[0]!, new RegExp(`^warn: web1: ${absorbed[0]} was moved to the trash`))
  assert.deepEqual(past.files('trash'), absorbed)
  assert.deepEqual(seen(rebuilt), before)
})

test('a damaged archive keeps no other from being merged; it is told, and not read again until it changes', async () => {
  using past = await PastRuns.create()
  await mergeable(past)
  const damaged = past.files('archives')[2]!
  const whole = readFileSync(past.path(damaged))
  const bytes = Buffer.from(whole)
  bytes[bytes.length - 60]! ^= 0xff
  writeFileSync(past.path(damaged), bytes)
  const before = seen(past.catalog)
  const first = await pruneHost(past.prune, keeping(2))
  assert.deepEqual(
    first.refused.map(({ archive, sinceMs }) => [archive, sinceMs]),
    [[damaged, null]],
  )
  // Those behind it are merged all the same; it takes over nothing, and nothing takes it over.
  assert.equal(past.files('archives').length, filesAfterMerging + 2)
  assert.deepEqual(seen(past.catalog), before)
  const atMs = past.nowMs
  past.nowMs += hour
  const second = await pruneHost(past.prune, keeping(2))
  assert.deepEqual(
    second.refused.map(({ archive, sinceMs }) => [archive, sinceMs]),
    [[damaged, atMs]],
  )
  assert.deepEqual(second.repacked, [])
  writeFileSync(past.path(damaged), whole)
  const third = await pruneHost(past.prune, keeping(2))
  assert.deepEqual(third.refused, [])
  assert.equal(past.files('archives').length, filesAfterMerging)
  assert.deepEqual(seen(past.catalog), before)
  await requireWell(past)
})

test('an archive that the disk cannot read keeps no other from being merged; it is told, and tried again the next time', {
  skip: noStrace,
}, async () => {
  using past = await PastRuns.create()
  await mergeable(past)
  const before = seen(past.catalog)
  past.catalog.checkpoint()
  const env = { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1', UV_THREADPOOL_SIZE: '1' }
  const program = join(import.meta.dirname, 'prune-command.ts')
  const home = past.folder.at('home')
  const init = backupServer(['--home', home, 'init', '--repository', past.folder.at('unused')])
  assert.equal(init.status, 0, init.stderr)
  const rules = "address: '127.0.0.1', paths: ['/t'], password: 'secret', retention: { last: 2 }"
  writeFileSync(join(home, 'hosts/web1.ts'), `export default { ${rules} }`, { mode: 0o600 })
  const names = past.files('archives')
  const counts: number[] = []
  // From some read of it on: when archives are compared with the catalog, and when they are packed.
  for (const when of ['1+', '10+']) {
    const folder = past.folder.at(`unread-${when}`)
    cpSync(past.repository.folder, folder, { recursive: true })
    const repository = await openRepository(folder)
    writeFileSync(
      join(home, 'settings.ts'),
      `export default { repository: ${JSON.stringify(folder)}, trash: '${trashDays} days' }`,
      { mode: 0o600 },
    )
    const damaged = archivePath(repository, 'web1', names[2]!)
    const trace = ['-f', '-qq', '-o', '/dev/null', '-P', damaged, '-e', 'trace=read,pread64']
    const inject = `inject=read,pread64:error=EIO:when=${when}`
    const command = [...trace, '-e', inject, process.execPath, program, home, String(past.nowMs)]
    const { status, stdout, stderr } = spawnSync('strace', command, { encoding: 'utf8', env })
    assert.equal(status, 3, stdout + stderr)
    const { refused, unread } = JSON.parse(stdout) as Pick<PruneResult, 'refused' | 'unread'>
    counts.push(unread.length)
    assert.deepEqual(refused, [])
    for (const { archive, reason } of unread) {
      assert.equal(archive, names[2])
      assert.equal(reason, `${damaged} cannot be read: the disk reported an error (EIO)`)
    }
    using catalog = new Catalog(repository.catalogFile, { now: () => past.nowMs })
    assert.deepEqual(seen(catalog), before)
    const { archives } = await listArchives(repository, 'web1')
    // Those behind it were merged.
    assert.ok(archives.length < names.length, `${archives.length} of ${names.length}, from read ${when} on`)
    const again = await pruneHost({ ...past.prune, catalog, repository }, keeping(2))
    assert.deepEqual([again.refused, again.unread], [[], []])
    assert.equal((await listArchives(repository, 'web1')).archives.length, filesAfterMerging)
    assert.deepEqual(seen(catalog), before)
    await requireWell(past, catalog, repository)
  }
  assert.deepEqual(counts, [1, 1])
})

test('while somebody reads, nothing is merged', async () => {
  using past = await PastRuns.create()
  await mergeable(past)
  const files = past.files('archives')
  {
    using _reading = holdForReading(past.catalog, ['web1'])
    const { putOff, repacked } = await pruneHost(past.prune, keeping(2))
    assert.match(putOff!, /reads its archives/)
    assert.deepEqual([repacked, past.files('archives')], [[], files])
  }
  assert.ok((await pruneHost(past.prune, keeping(2))).repacked.length > 0)
})

/** What stands at a path: a folder, a file with content, or a link with a target. */
interface Node {
  type: 'directory' | 'file' | 'symlink'
  text: string
  mode: number
}

/** A tree that changes, and what its runs would say of that. */
class ChangingTree {
  readonly #random: Random
  readonly #retypes: boolean
  nodes = new Map<string, Node>([['t', { type: 'directory', text: '', mode: 0o755 }]])
  #count = 0

  constructor(random: Random, retypes: boolean) {
    this.#random = random
    this.#retypes = retypes
  }

  change(): void {
    const random = this.#random
    const folders = [...this.nodes].filter(([, { type }]) => type === 'directory').map(([path]) => path)
    const others = [...this.nodes.keys()].filter((path) => path !== 't')
    const dice = random.next()
    const picked = others.length === 0 ? null : random.of(others)
    if (picked === null || dice < 0.4) {
      const node = this.#node()
      // Where a name is of one type for ever, tar has nothing to object to.
      const prefix = this.#retypes ? '' : node.type[0]
      const path = `${random.of(folders)}/${prefix}${random.of(['a', 'b', 'c', 'a-b', 'a.b', 'd'])}`
      const there = this.nodes.get(path)
      if (there === undefined || (this.#retypes && random.chance(0.4))) {
        this.#remove(path)
        this.nodes.set(path, node)
      } else if (there.type === 'file') there.text = this.#text()
    } else if (dice < 0.6) this.#remove(picked)
    else if (dice < 0.8) this.nodes.get(picked)!.mode ^= 0o022
    else if (this.nodes.get(picked)!.type === 'file') this.nodes.get(picked)!.text = this.#text()
  }

  copy(): Map<string, Node> {
    return new Map([...this.nodes].map(([path, node]) => [path, { ...node }]))
  }

  #node(): Node {
    const type = this.#random.of(['directory', 'directory', 'file', 'file', 'symlink'] as const)
    return {
      type,
      text: type === 'directory' ? '' : this.#text(),
      mode: type === 'directory' ? 0o755 : 0o644,
    }
  }

  /** Some are empty, and some so large that archives become mostly needless without them. */
  #text(): string {
    const n = ++this.#count
    return this.#random.chance(0.1) ? '' : `text ${n} `.repeat(1 + this.#random.below(40))
  }

  #remove(path: string): void {
    for (const one of [...this.nodes.keys()])
      if (one === path || one.startsWith(`${path}/`)) this.nodes.delete(one)
  }
}

/** What the archive of a run says. New attributes alone are an entry whose content lies where it did. */
function runBetween(
  past: PastRuns,
  last: Run | null,
  before: ReadonlyMap<string, Node>,
  now: ReadonlyMap<string, Node>,
  random: Random,
): Pick<PastRun, 'tree' | 'gone' | 'unselected'> {
  const entries = new Map(
    last === null
      ? []
      : [...standingEntries(past.catalog, last, { order: 'path' })].map((entry) => [
          entry.path as string,
          entry,
        ]),
  )
  const tree: Record<string, Tree[string]> = {}
  for (const [path, { type, text, mode }] of now) {
    const old = before.get(path)
    if (old?.type === type && old.text === text && old.mode === mode) continue
    if (type === 'directory') tree[path] = other(path, type, { mode })
    else if (type === 'symlink') tree[path] = other(path, type, { mode, target: bytesFromText(text || '.') })
    else if (old?.type === 'file' && old.text === text)
      tree[path] = { entry: { ...entries.get(path)!, mode }, content: Buffer.alloc(0) }
    else tree[path] = file(path, text, { mode })
  }
  const isGone = (path: string) => before.has(path) && !now.has(path)
  const topmost = [...before.keys()].filter((path) => {
    const parts = path.split('/')
    return isGone(path) && !parts.some((_, n) => n > 0 && isGone(parts.slice(0, n).join('/')))
  })
  const [gone, unselected]: [string[], string[]] = [[], []]
  for (const path of topmost) (random.chance(0.6) ? gone : unselected).push(path)
  return { tree, gone, unselected }
}

function requireTree(past: PastRuns, run: Run, nodes: ReadonlyMap<string, Node>): void {
  const found = [...standingEntries(past.catalog, run, { order: 'path' })].map(
    ({ path, type, mode, size }) => `${path} ${type} ${mode.toString(8)} ${size}`,
  )
  const expected = [...nodes].map(
    ([path, { type, text, mode }]) =>
      `${path} ${type} ${mode.toString(8)} ${type === 'file' ? text.length : 0}`,
  )
  assert.deepEqual(found.sort(), expected.sort(), `run ${run.id}`)
}

/** The newest full archive and all after it, one after the other, give the newest state, but for what was deleted. */
function requireStockTar(past: PastRuns, nodes: ReadonlyMap<string, Node>): void {
  const target = past.folder.at('extracted')
  mkdirSync(target)
  for (const name of past.files('archives')) {
    const { status, stderr } = spawnSync('tar', ['--zstd', '-xpf', past.path(name), '-C', target], {
      encoding: 'utf8',
    })
    assert.deepEqual([status, stderr], [0, ''], name)
  }
  for (const [path, { type, text }] of nodes) {
    const file = join(target, path)
    if (type === 'symlink') assert.equal(readlinkSync(file), text || '.')
    else if (type === 'file') assert.equal(readFileSync(file, 'utf8'), text, path)
    else assert.ok(lstatSync(file).isDirectory(), path)
  }
  rmSync(target, { recursive: true })
}

describe('random histories', { concurrency: 2 }, () => {
  const first = Number(process.env.CENTRAL_BACKUP_HISTORY_SEED ?? 1)
  const count = Number(process.env.CENTRAL_BACKUP_HISTORIES ?? 3)
  for (let seed = first; seed < first + count; seed++) {
    test(`of seed ${seed} look the same after archives were merged, and after a rebuild`, async () => {
      using past = await PastRuns.create()
      const random = new Random(seed)
      const retypes = seed % 2 === 0
      const tree = new ChangingTree(random, retypes)
      const model = new Map<number, Map<string, Node>>()
      let last: Run | null = null
      let before = new Map<string, Node>()
      past.nowMs = day(1)
      let merged = 0
      for (let n = 0; n < 30; n++) {
        for (let changes = n === 0 ? 12 : random.below(4); changes > 0; changes--) tree.change()
        past.nowMs += hour
        const said = runBetween(past, last, before, tree.nodes, random)
        last = await past.add({ startedAtMs: past.nowMs, ...said, ...(n === 0 ? { kind: 'full' } : {}) })
        before = tree.copy()
        model.set(last.id, before)
        if (random.chance(0.1)) past.catalog.setPinned(last.id, true)
        if (random.chance(0.6)) continue
        past.nowMs += random.chance(0.5) ? pastTrash : 0
        const { repacked, refused } = await pruneHost(past.prune, keeping(1 + random.below(4)))
        assert.deepEqual(refused, [])
        merged += repacked.reduce((sum, { absorbed }) => sum + absorbed.length, 0)
        for (const run of past.catalog.runs('web1')) requireTree(past, run, model.get(run.id)!)
      }
      const { repacked, refused } = await pruneTwice(past, 2)
      merged += repacked.reduce((sum, { absorbed }) => sum + absorbed.length, 0)
      assert.deepEqual(refused, [])
      assert.ok(merged > 0, 'nothing was ever merged')
      for (const run of past.catalog.runs('web1')) requireTree(past, run, model.get(run.id)!)
      await requireWell(past)
      if (!retypes) requireStockTar(past, tree.nodes)
      const versions = dumpVersions(past.catalog)
      const visible = seen(past.catalog)
      const kept = past.catalog.runs('web1').map(({ startedAtMs }) => startedAtMs)
      const ofKept = runsOf(past.catalog, kept)
      await withRebuilt(past, async (rebuilt) => {
        assert.deepEqual(runsOf(rebuilt, kept), ofKept)
        await requireWell(past, rebuilt)
        // A removed run that nothing was thrown away of since is seen again.
        if (rebuilt.runs('web1').length > kept.length) return
        assert.deepEqual(seen(rebuilt), visible)
        assert.deepEqual(dumpVersions(rebuilt), versions)
      })
    })
  }
})
