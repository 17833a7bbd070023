import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { chooseRun, standingEntries } from '../src/catalog/versions.ts'
import { adoptArchives } from '../src/jobs/adopt-archives.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import { verify } from '../src/jobs/verify.ts'
import { toStorageError } from '../src/storage/failure.ts'
import { day, dumpVersions, PastRuns, writePastRun } from './past-run.ts'
import { remembering } from './told.ts'

const { signal } = new AbortController()

const tree = {
  t: 'folder',
  't/a': 'folder',
  't/a/x': { content: 'x' },
  't/a-b': { content: 'beside' },
  't/b': { content: 'b' },
} as const

/** Two generations: what changes, goes, comes again and becomes something else. */
async function addHistory(past: PastRuns): Promise<Run[]> {
  return [
    await past.add({ startedAtMs: day(1), kind: 'full', tree }),
    await past.add({ startedAtMs: day(2), tree: { 't/b': { content: 'changed' } }, gone: ['t/a'] }),
    await past.add({
      ...{ startedAtMs: day(3), tree: { 't/a': { content: 'a file' } }, gone: ['t/b'] },
      outcome: 'incomplete',
    }),
    await past.add({ startedAtMs: day(4), tree: { 't/b': 'folder', 't/b/c': { content: 'c' } } }),
    await past.add({ startedAtMs: day(5), kind: 'full', tree: { t: 'folder', 't/b': { content: 'b' } } }),
    await past.add({ startedAtMs: day(6), unselected: ['t/b'] }),
  ]
}

/** What the catalog says of runs, but for their ids. */
function dumpRuns(catalog: Catalog): unknown[] {
  return catalog.runs().map(({ id: _, generation: __, archive, ...rest }) => ({
    ...rest,
    archive: { ...archive, digest: Buffer.from(archive!.digest).toString('hex') },
  }))
}

/** Makes the catalog anew, in place of the one that is open, and opens it. The caller closes it. */
async function rebuild(past: PastRuns): Promise<{ catalog: Catalog; lost: string[]; seen: string[] }> {
  past.catalog.checkpoint()
  const seen: string[] = []
  const result = await rebuildCatalog(past.repository, () => past.nowMs, {
    onArchive: (host, archive) => seen.push(`${host} ${archive}`),
  })
  const lost = result.damaged.map(({ archive, reason }) => `${archive}: ${reason}`)
  return { catalog: new Catalog(past.repository.catalogFile), lost, seen }
}

test('a catalog that is made from the archives alone is the one that was', async () => {
  using past = await PastRuns.create()
  await addHistory(past)
  writePastRun(past.repository, 'web2', { startedAtMs: day(1), tree })
  const before = { versions: dumpVersions(past.catalog), runs: dumpRuns(past.catalog) }
  const { catalog, lost, seen } = await rebuild(past)
  using _catalog = catalog
  assert.deepEqual(lost, [])
  assert.equal(seen.length, 7)
  const ofWeb1 = (dump: unknown[]) => dump.filter((row) => (row as { host: string }).host === 'web1')
  assert.deepEqual(ofWeb1(dumpVersions(catalog)), before.versions)
  assert.deepEqual(ofWeb1(dumpRuns(catalog)), before.runs)
  assert.equal(catalog.runs('web2').length, 1)
  assert.deepEqual(catalog.hostNames(), ['web1', 'web2'])
})

test('the catalog that was is kept beside the new one', async () => {
  using past = await PastRuns.create()
  await addHistory(past)
  const before = dumpVersions(past.catalog)
  const { catalog } = await rebuild(past)
  catalog.close()
  using old = new Catalog(`${past.repository.catalogFile}.replaced`)
  assert.deepEqual(dumpVersions(old), before)
})

test('the log of a catalog that is lost is not taken for that of the new one', async () => {
  using past = await PastRuns.create()
  await addHistory(past)
  const before = dumpVersions(past.catalog)
  const { catalogFile } = past.repository
  // As after a death at a moment at which the old catalog has its new name, and its log has not.
  past.catalog.transaction(() => past.catalog.statements.addHost.run('of the old one'))
  const log = readFileSync(`${catalogFile}-wal`)
  past.catalog.close()
  rmSync(catalogFile)
  writeFileSync(`${catalogFile}-wal`, log)
  await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  using catalog = new Catalog(catalogFile)
  assert.deepEqual(dumpVersions(catalog), before)
  assert.deepEqual(catalog.hostNames(), ['web1'])
})

test('a damaged archive is told, and those that build on it are taken in as far as they go', async () => {
  using past = await PastRuns.create()
  const [, second, third, fourth] = await addHistory(past)
  truncateSync(past.path(second!.archive!.name), 300)
  past.catalog.checkpoint()
  const result = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.deepEqual(
    result.damaged.map(({ archive }) => archive),
    [second!.archive!.name],
  )
  const bridged = [third, fourth].map((run) => run!.archive!.name)
  assert.deepEqual(
    result.bridged.map(({ archive }) => archive),
    bridged,
  )
  using catalog = new Catalog(past.repository.catalogFile)
  const runs = catalog.runs('web1').filter(({ outcome }) => outcome !== 'failed')
  assert.deepEqual(
    runs.map(({ startedAtMs, outcome }) => [startedAtMs, outcome]),
    [
      [day(6), 'complete'],
      [day(5), 'complete'],
      [day(4), 'incomplete'],
      [day(3), 'incomplete'],
      [day(1), 'complete'],
    ],
  )
  assert.equal(runs[2]!.error?.code, 'base-missing')
  // What the missing one would have told is what is missing, and nothing else.
  const entries = [...standingEntries(catalog, runs[2]!, { order: 'path' })].map(({ path }) => path)
  assert.ok(entries.length > 0)
})

test('where an archive is missing, its versions are counted and named, and the others come back', async () => {
  using past = await PastRuns.create()
  const full = await past.add({
    startedAtMs: day(1),
    kind: 'full',
    tree: { t: 'folder', 't/a': { content: 'a' } },
  })
  const second = await past.add({
    startedAtMs: day(2),
    tree: { 't/b': { content: 'b' }, 't/lost': { content: 'lost' } },
  })
  const [b] = [...standingEntries(past.catalog, second, { order: 'path' })].filter(
    ({ path }) => path === 't/b',
  )
  // As after a chmod: the content lies in the archive before.
  await past.add({
    startedAtMs: day(3),
    tree: { 't/b': { entry: { ...b!, mode: 0o600 }, content: Buffer.alloc(0) }, 't/c': { content: 'c' } },
  })
  rmSync(past.path(second.archive!.name))
  past.catalog.checkpoint()
  const result = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.deepEqual(result.missing, [
    { host: 'web1', archive: second.archive!.name, versions: 1, paths: ['/t/b'] },
  ])
  using catalog = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  const newest = chooseRun(catalog, 'web1', 'latest')
  assert.equal(newest.startedAtMs, day(3))
  assert.deepEqual(
    [...standingEntries(catalog, newest, { order: 'path' })].map(({ path, mode }) => [path, mode]),
    [
      ['t', 0o755],
      ['t/a', 0o644],
      ['t/b', 0o600],
      ['t/c', 0o644],
    ],
  )
  const { damage } = await verify(catalog, past.repository, ['web1'], {
    ...{ sample: 1, random: Math.random, signal, onArchive: () => {}, onDamage: () => {} },
  })
  assert.deepEqual(
    damage.map(({ archive, path }) => [archive, path]),
    [
      [second.archive!.name, null],
      [second.archive!.name, '/t/b'],
    ],
  )
  assert.deepEqual(catalog.archiveNames('web1').includes(full.archive!.name), true)
})

test('an archive under the name of another, or of another host, is refused', async () => {
  using past = await PastRuns.create()
  const [first] = await addHistory(past)
  const name = '2026-11-20T030000Z-full.tar.zst'
  renameSync(past.path(first!.archive!.name), past.path(name))
  const foreign = writePastRun(past.repository, 'web2', { startedAtMs: day(21), tree })
  copyFileSync(past.path(foreign).replace('web1', 'web2'), past.path(foreign))
  const { catalog, lost } = await rebuild(past)
  using _catalog = catalog
  assert.match(lost.find((line) => line.startsWith(name))!, /should be named 2026-11-01T030000Z-full/)
  assert.match(lost.find((line) => line.startsWith(foreign))!, /is of host web2/)
  // The rest of the generation is taken in without its beginning.
  assert.equal(catalog.runs('web1').length, 5)
})

test('where the clock was set back, an archive that stands before its base is taken in after it', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(9), tree: { 't/b': { content: 'day 9' }, 't/c': 'folder' } })
  await past.add({ startedAtMs: day(2), tree: { 't/b': { content: 'day 2' } }, gone: ['t/c'] })
  await past.add({ startedAtMs: day(3), tree: { 't/b': { content: 'day 3' } } })
  const before = dumpVersions(past.catalog)
  const { catalog, lost } = await rebuild(past)
  using _catalog = catalog
  assert.deepEqual(lost, [])
  assert.deepEqual(dumpVersions(catalog), before)
})

test('nothing is made anew while a run is at work, and the old catalog stays', async () => {
  using past = await PastRuns.create()
  await addHistory(past)
  using _lease = takeLease(past.catalog, 'web1')
  await assert.rejects(rebuild(past), { code: 'busy' })
  assert.equal(past.catalog.runs('web1').length, 6)
})

test('a disk that ends a rebuild is told, whatever it does not let be removed then, and the old catalog stays', async () => {
  using past = await PastRuns.create()
  await addHistory(past)
  const before = dumpVersions(past.catalog)
  const rebuilt = `${past.repository.catalogFile}.rebuilt`
  const onArchive = () => {
    rmSync(rebuilt)
    mkdirSync(rebuilt)
    throw toStorageError(Object.assign(new Error(), { code: 'EROFS' }), 'read an archive')
  }
  const struck = rebuildCatalog(past.repository, () => past.nowMs, { onArchive })
  await assert.rejects(struck, { name: 'StorageError', code: 'read-only' })
  await assert.rejects(rebuild(past), { name: 'StorageError', message: /^Cannot remove .*\.rebuilt/ })
  assert.deepEqual(dumpVersions(past.catalog), before)
  rmdirSync(rebuilt)
  const { catalog } = await rebuild(past)
  using _catalog = catalog
  assert.deepEqual(dumpVersions(catalog), before)
})

test('archives that a crash kept out of the catalog are taken in, in their order, and told', async () => {
  using past = await PastRuns.create()
  const { repository } = past
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const second = writePastRun(repository, 'web1', {
    ...{ startedAtMs: day(2), base: full.archive!.name, gone: ['t/a'] },
  })
  const third = writePastRun(repository, 'web1', {
    ...{ startedAtMs: day(3), base: second, tree: { 't/a': { content: 'again' } } },
  })
  const { log, told } = remembering()
  using lease = takeLease(past.catalog, 'web1')
  assert.deepEqual(await adoptArchives({ ...past.prune, log, signal }, lease), [2, 3])
  assert.match(
    told.join('\n'),
    new RegExp(`^warn: web1: the archive ${second}.* is run 2 now\nwarn: .*${third}`),
  )
  assert.deepEqual(await adoptArchives({ ...past.prune, log, signal }, lease), [])
  const before = dumpVersions(past.catalog)
  lease.release()
  const { catalog } = await rebuild(past)
  using _catalog = catalog
  assert.deepEqual(dumpVersions(catalog), before)
})

test('an archive that cannot be taken in is told, left as it is, and keeps no other out', async () => {
  using past = await PastRuns.create()
  const { repository } = past
  const missing = '2026-11-01T000000Z-full.tar.zst'
  const orphan = writePastRun(repository, 'web1', { startedAtMs: day(2), base: missing, tree })
  const damaged = writePastRun(repository, 'web1', { startedAtMs: day(3), tree })
  const bytes = readFileSync(past.path(damaged))
  writeFileSync(past.path(damaged), bytes.subarray(0, -1))
  const good = writePastRun(repository, 'web1', { startedAtMs: day(4), tree })
  const { log, told } = remembering()
  using lease = takeLease(past.catalog, 'web1')
  await adoptArchives({ ...past.prune, log, signal }, lease)
  assert.deepEqual(
    past.catalog.runs('web1').map(({ archive }) => archive?.name),
    [good],
  )
  assert.equal(told.length, 3)
  assert.match(told[0]!, new RegExp(`^error: web1: the catalog cannot take in ${orphan}: .*${missing}`))
  assert.match(told[1]!, new RegExp(`^error: web1: the catalog cannot take in ${damaged}: `))
  assert.deepEqual(past.files('archives'), [orphan, damaged, good].sort())
  rmSync(past.path(damaged))
})

test('a second archive that builds on the same one is refused: rows can follow only one of them', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), gone: ['t/a'] })
  const before = dumpVersions(past.catalog)
  const late = writePastRun(past.repository, 'web1', {
    ...{ startedAtMs: day(3), base: full.archive!.name, tree: { 't/b': { content: 'late' } } },
  })
  await assert.rejects(past.ingest(late), {
    code: 'base-taken',
    message: /so does the archive of another/,
  })
  assert.deepEqual(dumpVersions(past.catalog), before)
  // The next run sets it aside, and says so once.
  const { log, told } = remembering()
  using lease = takeLease(past.catalog, 'web1')
  assert.deepEqual(await adoptArchives({ ...past.prune, log, signal }, lease), [])
  assert.equal(told.length, 1)
  assert.match(
    told[0]!,
    new RegExp(`^error: .*so does the archive of another.*kept for 14 days as ${late}.superseded.partial`),
  )
  assert.deepEqual(await adoptArchives({ ...past.prune, log, signal }, lease), [])
  assert.equal(told.length, 1)
  assert.ok(past.files('archives').includes(`${late}.superseded.partial`))
  assert.deepEqual(dumpVersions(past.catalog), before)
})
