/** Nothing is thrown away because the catalog says so: the archives that stay say it too, or nothing is done. */
import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { bytesFromText } from '@central-backup/archive'
import { other } from '../../archive/test/sample.ts'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { standingEntries } from '../src/catalog/versions.ts'
import type { Host } from '../src/config/hosts.ts'
import { type PruneResult, pruneHost } from '../src/jobs/prune.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import { verify } from '../src/jobs/verify.ts'
import { day, PastRuns, type Tree, trashDays } from './past-run.ts'

const hour = 3_600_000
const pastTrash = (trashDays + 0.5) * 24 * hour

/** Text that does not compress to nothing. */
const text = (seed: number) => Array.from({ length: 3000 }, (_, i) => (i * seed * 7919) % 10007).join(' ')

function prune(past: PastRuns, last: number, catalog = past.catalog): Promise<PruneResult> {
  const host = { name: 'web1', retention: { last }, expectEveryMs: 24 * hour } as Host
  return pruneHost({ ...past.prune, catalog }, host)
}

/**
 * The full run, removed, with little that later ones need; then a folder's attributes, in a run that is to be merged; then two
 * that stay. All is ready to be packed anew by the next prune, which also finds another run to remove.
 */
async function readyToBePacked(): Promise<PastRuns> {
  const past = await PastRuns.create()
  const tree: Record<string, Tree[string]> = { t: 'folder', 't/d': 'folder', 't/stays': { content: text(4) } }
  for (const n of [1, 2, 3, 5]) tree[`t/${n}`] = { content: text(n) }
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), gone: ['t/1', 't/2', 't/3'] })
  await past.add({
    startedAtMs: day(3),
    gone: ['t/5'],
    tree: { 't/d': other('t/d', 'directory', { mode: 0o700 }) },
  })
  await past.add({ startedAtMs: day(4), tree: { 't/later': { content: text(6) } } })
  await past.add({ startedAtMs: day(5), tree: { 't/last': { content: text(7) } } })
  past.nowMs = day(5) + hour
  await prune(past, 2)
  past.nowMs += pastTrash
  await past.add({ startedAtMs: day(7), tree: { 't/last': { content: text(8) } } })
  return past
}

/** All that lies in the repository, and which runs can be seen. */
function state(past: PastRuns): unknown {
  const archives = past
    .files('archives')
    .map((name) => [name, readFileSync(past.path(name)).toString('base64')])
  return { archives, trash: past.files('trash'), runs: past.catalog.runs('web1').map(({ id }) => id) }
}

const entriesOf = (catalog: Catalog, startedAtMs: number) =>
  [
    ...standingEntries(catalog, catalog.runs('web1').find((run) => run.startedAtMs === startedAtMs)!, {
      order: 'path',
    }),
  ].map(({ path, mode, digest }) => [
    path,
    mode,
    digest === null ? null : Buffer.from(digest).toString('hex'),
  ])

async function requireWell(past: PastRuns, catalog: Catalog): Promise<void> {
  const { damage } = await verify(catalog, past.repository, ['web1'], {
    ...{ sample: 1, random: Math.random, signal: new AbortController().signal },
    ...{ onArchive: () => {}, onDamage: () => {} },
  })
  assert.deepEqual(damage, [])
}

/** Of `t/stays` and `t/d`. */
const damages = {
  'content that is said to lie elsewhere':
    "UPDATE versions SET content_run = 4 WHERE path = x'74007374617973'",
  'content that is said to begin elsewhere':
    "UPDATE versions SET content_offset = content_offset + 512 WHERE path = x'74007374617973'",
  'a file that is said to be gone':
    "UPDATE versions SET end_run = 2, end_reason = 0 WHERE path = x'74007374617973'",
  'a file that is not there': "DELETE FROM versions WHERE path = x'74007374617973'",
  'a folder of a run that is to be merged': "DELETE FROM versions WHERE path = x'740064' AND first_run = 3",
}

test('without damage, the archives that the damages below are about are packed anew and merged', async () => {
  using past = await readyToBePacked()
  const { repacked, refused } = await prune(past, 2)
  const names = past.catalog.archivedRuns('web1').map(({ archive }) => archive!.name)
  assert.deepEqual(refused, [])
  assert.equal(names.length, 4, names.join(' '))
  assert.ok(repacked.some(({ archive }) => archive === names[0]))
  assert.equal(repacked.flatMap(({ absorbed }) => absorbed).length, 2)
  await requireWell(past, past.catalog)
})

for (const [what, sql] of Object.entries(damages)) {
  test(`a catalog with ${what} ends prune before anything is removed, and after a rebuild nothing is lost`, async () => {
    using past = await readyToBePacked()
    const before = entriesOf(past.catalog, day(7))
    past.catalog.database.exec(sql)
    const untouched = state(past)
    await assert.rejects(prune(past, 2), (error: Error & { code: string; hint: string }) => {
      assert.equal(error.code, 'catalog-damaged')
      assert.match(error.message, /"\/t\/(stays|d)" of web1 from run \d .* nothing of web1 is removed/)
      assert.match(error.hint, /catalog rebuild/)
      return true
    })
    assert.deepEqual(state(past), untouched)
    past.catalog.close()
    await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
    using rebuilt = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
    assert.deepEqual(entriesOf(rebuilt, day(7)), before)
    await prune(past, 2, rebuilt)
    past.nowMs += pastTrash
    assert.deepEqual((await prune(past, 2, rebuilt)).refused, [])
    assert.deepEqual(entriesOf(rebuilt, day(7)), before)
    await requireWell(past, rebuilt)
  })
}

test('what an archive that cannot be read needs of those before it is not known, so these stay, and that is told once', async () => {
  using past = await readyToBePacked()
  const names = past.catalog.archivedRuns('web1').map(({ archive }) => archive!.name)
  const last = names.at(-1)!
  const whole = readFileSync(past.path(last))
  rmSync(past.path(last))
  const first = await prune(past, 2)
  assert.deepEqual([first.repacked, first.refused.map(({ archive }) => archive)], [[], [last]])
  assert.match(first.refused[0]!.reason, /is missing/)
  const second = await prune(past, 2)
  assert.deepEqual(
    [second.repacked, second.refused.map(({ archive, sinceMs }) => [archive, sinceMs])],
    [[], [[last, past.nowMs]]],
  )
  assert.equal(past.files('archives').length, names.length - 1)
  writeFileSync(past.path(last), whole)
  const third = await prune(past, 2)
  assert.deepEqual(third.refused, [])
  assert.ok(third.repacked.length > 0)
  await requireWell(past, past.catalog)
})

test('an archive stays as long as a run of another generation has content in it', async () => {
  using past = await PastRuns.create()
  const tree: Tree = { t: 'folder', 't/a': { content: text(1) }, 't/b': { content: text(2) } }
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const between = await past.add({ startedAtMs: day(2), tree: { 't/c': { content: text(3) } } })
  const a = [...standingEntries(past.catalog, full, { order: 'path' })].find(({ path }) => path === 't/a')!
  await past.add({
    startedAtMs: day(4),
    tree: { 't/a': { entry: { ...a, mode: 0o600 }, content: Buffer.alloc(0) } },
  })
  await past.add({ startedAtMs: day(3), kind: 'full', tree: { t: 'folder', 't/x': { content: text(4) } } })
  rmSync(past.path(between.archive!.name))
  past.catalog.close()
  past.nowMs = day(4) + hour
  const { bridged } = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.equal(bridged.length, 1)
  using catalog = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  const runs = () => catalog.runs('web1').filter(({ outcome }) => outcome !== 'failed')
  const generationOf = (startedAtMs: number) =>
    runs().find((run: Run) => run.startedAtMs === startedAtMs)!.generation
  assert.equal(generationOf(day(4)), generationOf(day(3)))
  await prune(past, 1, catalog)
  past.nowMs += pastTrash
  await prune(past, 1, catalog)
  // The last good run stays, too.
  assert.deepEqual(
    runs().map(({ startedAtMs }) => startedAtMs),
    [day(4), day(3)],
  )
  assert.ok(past.files('archives').includes(full.archive!.name), past.files('archives').join(' '))
  const kept = [...standingEntries(catalog, runs()[0]!, { order: 'path' })]
  assert.deepEqual(
    kept.find(({ path }) => path === bytesFromText('t/a'))!.extents[0]!.archive,
    full.archive!.name,
  )
})
