/** Archives of which little is needed any more are packed anew, and nothing else changes, whenever it is interrupted. */
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Catalog } from '../src/catalog/catalog.ts'
import type { Host } from '../src/config/hosts.ts'
import { applyPrune, planPrune } from '../src/jobs/prune.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import { recoverRepacks } from '../src/jobs/repack.ts'
import { verify } from '../src/jobs/verify.ts'
import { day, dumpVersions, PastRuns, trashDays } from './past-run.ts'

const hour = 3_600_000
const host = { name: 'web1', retention: { last: 2 }, expectEveryMs: 24 * hour } as Host

/** Text that does not compress to nothing. */
const text = (seed: number) => Array.from({ length: 3000 }, (_, i) => (i * seed * 7919) % 10007).join(' ')

/** Three runs, the first of which has almost nothing that the later ones need, and is removed. */
async function removedFull(): Promise<PastRuns> {
  const past = await PastRuns.create()
  const tree = {
    t: 'folder',
    't/a': { content: text(1) },
    't/b': { content: text(2) },
    't/c': { content: text(3) },
    't/stays': { content: text(4) },
  } as const
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({
    startedAtMs: day(2),
    tree: { 't/a': { content: text(5) }, 't/b': { content: text(6) } },
    gone: ['t/c'],
  })
  await past.add({ startedAtMs: day(3), tree: { 't/a': { content: text(7) } } })
  past.nowMs = day(3) + hour
  const plan = planPrune(past.prune, host)
  assert.deepEqual(
    (await applyPrune(past.prune, plan)).repacked,
    [],
    'not before the term of the trash is over',
  )
  past.nowMs += (trashDays + 0.5) * 24 * hour
  return past
}

const prune = (past: PastRuns) => applyPrune(past.prune, planPrune(past.prune, host))

async function requireWell(past: PastRuns, catalog = past.catalog): Promise<void> {
  const { damage, files } = await verify(catalog, past.repository, ['web1'], {
    sample: 1,
    random: Math.random,
    signal: new AbortController().signal,
    onArchive: () => {},
    onDamage: () => {},
  })
  assert.deepEqual(damage, [])
  assert.ok(files >= 4)
}

test('an archive of which less than half is needed is packed anew, and what is needed is as it was', async () => {
  using past = await removedFull()
  const [full] = past.catalog.archivedRuns('web1')
  const before = dumpVersions(past.catalog)
  const { repacked, refused } = await prune(past)
  assert.deepEqual(refused, [])
  const [{ archive, bytesBefore, bytes }] = repacked as [(typeof repacked)[number]]
  assert.deepEqual([archive, bytesBefore], [full!.archive!.name, full!.archive!.bytes])
  assert.ok(bytes < bytesBefore / 2)
  assert.equal(statSync(past.path(archive)).size, bytes)
  assert.deepEqual(dumpVersions(past.catalog), before)
  assert.deepEqual(past.files('archives').length, 3)
  await requireWell(past)
  assert.deepEqual((await prune(past)).repacked, [], 'once is enough')
})

test('a catalog that is made anew does not bring back runs of which something is gone', async () => {
  using past = await removedFull()
  await prune(past)
  const before = dumpVersions(past.catalog)
  const seen = past.catalog.runs('web1').map(({ id }) => id)
  past.catalog.checkpoint()
  const { damaged } = await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
  assert.deepEqual(damaged, [])
  using rebuilt = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  assert.deepEqual(dumpVersions(rebuilt), before)
  assert.deepEqual(
    rebuilt.runs('web1').map(({ id }) => id),
    seen,
  )
  await requireWell(past, rebuilt)
  assert.deepEqual(
    (
      await applyPrune(
        { ...past.prune, catalog: rebuilt },
        planPrune({ ...past.prune, catalog: rebuilt }, host),
      )
    ).repacked,
    [],
  )
})

test('a damaged archive is left as it is, and told', async () => {
  using past = await removedFull()
  const [full] = past.catalog.archivedRuns('web1')
  const path = past.path(full!.archive!.name)
  const bytes = readFileSync(path)
  bytes[bytes.length - 40]! ^= 0xff
  writeFileSync(path, bytes)
  const { repacked, refused } = await prune(past)
  assert.deepEqual([repacked.length, refused.length], [0, 1])
  assert.deepEqual(readFileSync(path), bytes)
  assert.deepEqual(past.files('archives').length, 3)
})

for (const when of ['before the new archive has its name', 'after it']) {
  test(`a crash ${when} is settled by the next who works on the host`, async () => {
    using past = await removedFull()
    const { catalog } = past
    const [full] = catalog.archivedRuns('web1')
    const path = past.path(full!.archive!.name)
    copyFileSync(path, `${past.repository.folder}/old`)
    const before = dumpVersions(catalog)
    await prune(past)
    const repacked = catalog.run(full!.id)!.archive!
    // As it was in the middle of it.
    catalog.transaction(() => {
      const digest = Buffer.from(repacked.digest)
      catalog.statements.insertRepack.run({
        run: full!.id,
        digest,
        archiveBytes: repacked.bytes,
        storedBytes: 1,
        absorbed: '[]',
      })
      catalog.database
        .prepare('UPDATE runs SET digest = ?, archive_bytes = ? WHERE id = ?')
        .run(full!.archive!.digest, full!.archive!.bytes, full!.id)
    })
    const isNew = when === 'after it'
    if (!isNew) {
      copyFileSync(path, `${path}.repacked.partial`)
      copyFileSync(`${past.repository.folder}/old`, path)
    }
    await recoverRepacks(catalog, past.repository, 'web1')
    assert.deepEqual(catalog.run(full!.id)!.archive, isNew ? repacked : full!.archive)
    assert.deepEqual(catalog.statements.repacks.all('web1'), [])
    assert.equal(past.files('archives').length, 3)
    assert.deepEqual(dumpVersions(catalog), before)
    await requireWell(past)
  })
}
