import assert from 'node:assert/strict'
import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { forgetUnneededRuns, removeRun } from '../src/catalog/remove-run.ts'
import { standingEntries } from '../src/catalog/versions.ts'
import type { Host } from '../src/config/hosts.ts'
import { adoptArchives } from '../src/jobs/adopt-archives.ts'
import { applyPrune, planPrune, pruneHost } from '../src/jobs/prune.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import type { RetentionPolicy } from '../src/retention/plan.ts'
import { moveToTrash } from '../src/storage/trash.ts'
import { day, dumpVersions, PastRuns, trashDays } from './past-run.ts'
import { remembering } from './told.ts'

const { signal } = new AbortController()

const dayMs = 24 * 3_600_000
const tree = { t: 'folder', 't/a': { content: 'a' }, 't/b': { content: 'b' } } as const

function hostWith(retention: RetentionPolicy): Host {
  return { name: 'web1', expectEveryMs: dayMs, retention } as Host
}

/** Two generations of three runs each, one a day. */
async function addRuns(past: PastRuns): Promise<Run[]> {
  past.nowMs = day(6)
  return [
    await past.add({ startedAtMs: day(1), kind: 'full', tree }),
    await past.add({ startedAtMs: day(2), tree: { 't/b': { content: '2' } } }),
    await past.add({ startedAtMs: day(3), tree: { 't/b': { content: '3' } }, gone: ['t/a'] }),
    await past.add({ startedAtMs: day(4), kind: 'full', tree }),
    await past.add({ startedAtMs: day(5), tree: { 't/b': { content: '5' } } }),
    await past.add({ startedAtMs: day(6) }),
  ]
}

const idsOf = (past: PastRuns) =>
  past.catalog
    .runs('web1')
    .map(({ id }) => id)
    .reverse()

function standing(past: PastRuns, run: Run): string[] {
  return [...standingEntries(past.catalog, run, { order: 'path' })].map(
    ({ path, extents }) => `${path} ${extents[0]?.archive ?? ''}`,
  )
}

test('a plan changes nothing, and what it says is then done', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const host = hostWith({ last: 2 })
  const before = dumpVersions(past.catalog)
  const plan = planPrune(past.prune, host)
  assert.deepEqual(
    plan.decisions.map(({ run, action }) => `${run} ${action}`),
    ['6 keep', '5 keep', '4 remove', '3 remove', '2 remove', '1 remove'],
  )
  assert.deepEqual(dumpVersions(past.catalog), before)
  assert.deepEqual(idsOf(past), [1, 2, 3, 4, 5, 6])
  assert.deepEqual(await applyPrune(past.prune, plan), {
    emptied: [],
    repacked: [],
    refused: [],
    unread: [],
    putOff: null,
  })
  assert.deepEqual(idsOf(past), [5, 6])
  assert.deepEqual(
    past.files('trash'),
    runs.slice(0, 3).map(({ archive }) => archive!.name),
  )
})

test('without rules nothing is ever removed', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  const plan = await pruneHost(past.prune, hostWith({}))
  assert.equal(plan.hasRules, false)
  assert.deepEqual(idsOf(past), [1, 2, 3, 4, 5, 6])
})

test('archives stay while a run of their generation does, and what stood in that run is as it was', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const before = runs.map((run) => standing(past, run))
  await past.remove(1, 2, 4, 5)
  assert.deepEqual(idsOf(past), [3, 6])
  assert.equal(past.files('archives').length, 6)
  assert.deepEqual(past.files('trash'), [])
  assert.deepEqual(standing(past, runs[2]!), before[2])
  assert.deepEqual(standing(past, runs[5]!), before[5])
})

test('versions that only removed runs have go, and the others stay', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  await past.remove(2)
  const rows = dumpVersions(past.catalog) as {
    generation: string
    path: Buffer
    first: string
    end: string
  }[]
  const ofFirst = rows.filter(({ generation }) => generation.startsWith('2026-11-01'))
  assert.deepEqual(
    ofFirst.map(({ path, first, end }) => [
      path.toString('latin1').replaceAll('\0', '/'),
      first.slice(8, 10),
      end?.slice(8, 10) ?? null,
    ]),
    [
      ['t', '01', null],
      ['t/a', '01', '03'],
      // What took its place in run 2 is no more.
      ['t/b', '01', '03'],
      ['t/b', '03', null],
    ],
  )
})

test('a generation goes as a whole with its last run, and its archives to the trash, for a term', async () => {
  using past = await PastRuns.create()
  const names = (await addRuns(past)).map(({ archive }) => archive!.name)
  await past.remove(1, 2)
  assert.deepEqual(past.files('trash'), [])
  await past.remove(3)
  assert.deepEqual(past.files('archives'), names.slice(3))
  assert.deepEqual(past.files('trash'), names.slice(0, 3))
  assert.equal((dumpVersions(past.catalog) as { generation: string }[]).length, 4)
  past.nowMs += trashDays * dayMs
  assert.deepEqual(await past.remove(), [])
  past.nowMs += 1
  assert.deepEqual(await past.remove(), names.slice(0, 3))
  assert.deepEqual(past.files('trash'), [])
})

test('what is taken out of the trash again is taken into the catalog by the next run', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const before = standing(past, runs[2]!)
  await past.remove(1, 2, 3)
  for (const name of past.files('trash'))
    renameSync(join(past.repository.folder, 'trash/web1', name), past.path(name))
  using lease = takeLease(past.catalog, 'web1')
  const adopted = await adoptArchives({ ...past.prune, log: remembering().log, signal }, lease)
  assert.equal(adopted.length, 3)
  const again = past.catalog.runs('web1').find(({ id }) => id === adopted[2])!
  assert.deepEqual(standing(past, again), before)
})

test('a crash between catalog and file leaves an archive that is taken in again, and can be removed again', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const before = standing(past, runs[1]!)
  for (const run of runs.slice(0, 3)) removeRun(past.catalog, run, past.nowMs)
  assert.equal(forgetUnneededRuns(past.catalog, 'web1').length, 3)
  // Here it ends: nothing was moved.
  assert.deepEqual(idsOf(past), [4, 5, 6])
  assert.equal(past.files('archives').length, 6)
  {
    using lease = takeLease(past.catalog, 'web1')
    assert.deepEqual(await adoptArchives({ ...past.prune, log: remembering().log, signal }, lease), [7, 8, 9])
  }
  assert.deepEqual(standing(past, past.catalog.runs('web1').find(({ id }) => id === 8)!), before)
  await pruneHost(past.prune, hostWith({ last: 3 }))
  assert.deepEqual(idsOf(past), [4, 5, 6])
  assert.equal(past.files('trash').length, 3)
})

test('a crash between two files leaves archives that have all that they build on', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const before = standing(past, runs[1]!)
  for (const run of runs.slice(0, 3)) removeRun(past.catalog, run, past.nowMs)
  const [first] = forgetUnneededRuns(past.catalog, 'web1')
  await moveToTrash(past.repository, 'web1', first!, past.nowMs)
  // Here it ends.
  {
    using lease = takeLease(past.catalog, 'web1')
    assert.deepEqual(await adoptArchives({ ...past.prune, log: remembering().log, signal }, lease), [7, 8])
  }
  assert.deepEqual(standing(past, past.catalog.run(8)!), before)
  await pruneHost(past.prune, hostWith({ last: 3 }))
  assert.deepEqual(idsOf(past), [4, 5, 6])
  assert.equal(past.files('trash').length, 3)
})

test('a crash after some runs were removed is no different from a prune that did not come to the others', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  removeRun(past.catalog, runs[0]!, past.nowMs)
  const before = standing(past, runs[2]!)
  assert.deepEqual(idsOf(past), [2, 3, 4, 5, 6])
  assert.deepEqual(standing(past, runs[2]!), before)
  await pruneHost(past.prune, hostWith({ last: 3 }))
  assert.deepEqual(idsOf(past), [4, 5, 6])
  assert.equal(past.files('trash').length, 3)
})

test('pinned runs stay, with the archives that they need', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  past.catalog.setPinned(2, true)
  await pruneHost(past.prune, hostWith({ last: 1 }))
  assert.deepEqual(idsOf(past), [2, 6])
  assert.equal(past.files('archives').length, 5)
  past.catalog.setPinned(2, false)
  await pruneHost(past.prune, hostWith({ last: 1 }))
  assert.deepEqual(idsOf(past), [6])
  assert.equal(past.files('archives').length, 3)
})

test('archives behind the last run of a generation that stays go, and what ended in them stands again', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const before = standing(past, runs[1]!)
  await past.remove(3)
  assert.deepEqual(past.files('trash'), [runs[2]!.archive!.name])
  assert.deepEqual(standing(past, runs[1]!), before)
  assert.equal(past.catalog.lastOfGeneration(1), 2)
  const versions = dumpVersions(past.catalog)
  past.catalog.checkpoint()
  await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  using rebuilt = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  assert.deepEqual(dumpVersions(rebuilt), versions)
  // Back from the trash, it is what it was.
  renameSync(
    join(past.repository.folder, 'trash/web1', runs[2]!.archive!.name),
    past.path(runs[2]!.archive!.name),
  )
  assert.equal((await past.ingest(runs[2]!.archive!.name)).generation, 1)
})

test('a run that failed without an archive holds up neither versions nor archives', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  using lease = takeLease(past.catalog, 'web1')
  const id = past.catalog.beginRun({
    ...{ host: 'web1', kind: 'incremental', generation: 1, leaseToken: lease.token, startedAtMs: day(3) + 1 },
  })
  const nothing = { contentBytes: 0, counts: {}, warningCount: 0, warnings: [], archive: null }
  const error = { code: 'connection-lost', message: 'gone' }
  past.catalog.finishRun(id, { ...nothing, kind: 'incremental', outcome: 'failed', error })
  lease.release()
  await pruneHost(past.prune, hostWith({ last: 1 }))
  assert.equal(past.files('trash').length, 3)
  assert.ok(
    dumpVersions(past.catalog).every((row) => (row as { generation: string }).generation.includes('-04T')),
  )
})

/** A run that came to nothing. */
function addFailure(
  past: PastRuns,
  startedAtMs: number,
  kind: 'full' | 'incremental',
  generation: number | null,
): number {
  using lease = takeLease(past.catalog, 'web1')
  const begun = { host: 'web1', kind, generation, leaseToken: lease.token, startedAtMs }
  const id = past.catalog.beginRun(begun)
  past.catalog.finishRun(id, {
    ...{ kind, outcome: 'failed', contentBytes: 0, counts: {}, archive: null, finishedAtMs: startedAtMs + 1 },
    ...{ warningCount: 1, warnings: [{ code: 'unreadable', path: '/t/x', message: 'it cannot be read' }] },
    error: { code: 'connection-lost', message: 'gone' },
  })
  return id
}

test('runs that failed a month ago and left nothing are forgotten, with rules or without; newer ones and the last stay', async () => {
  using past = await PastRuns.create()
  const failures = [addFailure(past, day(1), 'full', null)]
  await past.add({ startedAtMs: day(2), kind: 'full', tree })
  failures.push(addFailure(past, day(3), 'incremental', 2))
  await past.add({ startedAtMs: day(4), tree: { 't/b': { content: 'later' } } })
  failures.push(addFailure(past, day(20), 'incremental', 2))
  // What a crash may have left of the first.
  const [row] = past.catalog.database.prepare('SELECT * FROM versions LIMIT 1').all() as object[]
  past.catalog.statements.insertVersion.run(
    Object.entries({ ...row, generation: failures[0], first_run: failures[0] })
      .filter(([column]) => column !== 'end_run' && column !== 'end_reason')
      .map(([, value]) => value),
  )
  past.nowMs = day(30)
  const before = dumpVersions(past.catalog).length
  assert.deepEqual((await pruneHost(past.prune, hostWith({}))).oldFailures, [])
  past.nowMs = day(34)
  const planned = planPrune(past.prune, hostWith({}))
  assert.deepEqual(planned.oldFailures, failures.slice(0, 2))
  assert.equal(idsOf(past).length, 5)
  await pruneHost(past.prune, hostWith({}))
  assert.deepEqual(idsOf(past), [2, 4, 5])
  assert.equal(dumpVersions(past.catalog).length, before - 1)
  past.nowMs = day(300)
  await pruneHost(past.prune, hostWith({}))
  assert.deepEqual(idsOf(past), [2, 4, 5], 'the last run is told, however long ago it was')
})

test('a failed run whose archive is missing, and that others build on, is not forgotten', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const a = [...standingEntries(past.catalog, full, { order: 'path' })].find(({ path }) => path === 't/a')!
  await past.add({
    startedAtMs: day(2),
    tree: { 't/a': { entry: { ...a, mode: 0o600 }, content: Buffer.alloc(0) } },
  })
  rmSync(past.path(full.archive!.name))
  past.catalog.close()
  await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  using catalog = new Catalog(past.repository.catalogFile, { now: () => day(300) })
  const before = dumpVersions(catalog)
  const failed = catalog.runs('web1').filter(({ outcome }) => outcome === 'failed')
  assert.equal(failed.length, 1)
  assert.deepEqual(planPrune({ catalog, now: () => day(300) }, hostWith({})).oldFailures, [])
  await pruneHost({ ...past.prune, catalog, now: () => day(300) }, hostWith({}))
  assert.deepEqual(dumpVersions(catalog), before)
})

test('while a run of the host is at work, nothing is removed', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  using lease = takeLease(past.catalog, 'web1')
  await assert.rejects(pruneHost(past.prune, hostWith({ last: 1 })), { code: 'busy' })
  assert.equal(idsOf(past).length, 6)
  lease.release()
  await pruneHost(past.prune, hostWith({ last: 1 }))
  assert.deepEqual(idsOf(past), [6])
})

test('where the clock seems to have jumped, everything stays, and the plan says why', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  past.nowMs = day(2)
  const plan = await pruneHost(past.prune, hostWith({ last: 1 }))
  assert.match(plan.refusal!, /was the clock set back/)
  assert.equal(idsOf(past).length, 6)
  // A run that was made while the clock was 400 days ahead is no reason to take all others for old.
  past.nowMs = day(406)
  await past.add({ startedAtMs: day(406) })
  const ahead = await pruneHost(past.prune, hostWith({ withinMs: 10 * dayMs }))
  assert.match(ahead.refusal!, /400 days younger than the one before: did the clock jump/)
  assert.deepEqual(new Set(ahead.decisions.map(({ action }) => action)), new Set(['keep']))
  assert.equal(idsOf(past).length, 7)
  assert.deepEqual(past.files('trash'), [])
})
