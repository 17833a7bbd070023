import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { adoptArchives } from '../src/jobs/adopt-archives.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
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
    await past.add({ startedAtMs: day(6), gone: ['t/b'] }),
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

test('a damaged archive is told, with those that build on it, and all others are kept', async () => {
  using past = await PastRuns.create()
  const [, second, third, fourth] = await addHistory(past)
  truncateSync(past.path(second!.archive!.name), 300)
  const { catalog, lost } = await rebuild(past)
  using _catalog = catalog
  assert.deepEqual(
    lost.map((line) => line.split(':')[0]),
    [second, third, fourth].map((run) => run!.archive!.name),
  )
  assert.match(
    lost[1]!,
    new RegExp(`what has changed since ${second!.archive!.name}, and that archive is missing`),
  )
  assert.deepEqual(
    catalog.runs('web1').map(({ startedAtMs }) => startedAtMs),
    [day(6), day(5), day(1)],
  )
  // Nothing of them is left, also not what their first batches said.
  assert.equal(dumpVersions(catalog).length, 7)
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
  assert.equal(catalog.runs('web1').length, 2)
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
    code: 'index-incomplete',
    message: /so does the archive of another/,
  })
  assert.deepEqual(dumpVersions(past.catalog), before)
})
