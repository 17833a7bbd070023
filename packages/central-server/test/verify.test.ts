import assert from 'node:assert/strict'
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { bytesFromText } from '@central-backup/archive'
import type { Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { RunRecorder } from '../src/catalog/record-run.ts'
import { type VerifyOptions, verify } from '../src/jobs/verify.ts'
import { day, PastRuns, packMembers, writePastRun } from './past-run.ts'

const tree = {
  t: 'folder',
  't/a': { content: 'a'.repeat(1000) },
  't/b': { content: 'b'.repeat(2000) },
  't/empty': { content: '' },
  't/link': { content: 'no link' },
} as const

async function addRuns(past: PastRuns): Promise<[Run, Run]> {
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  return [full, await past.add({ startedAtMs: day(2), tree: { 't/b': { content: 'changed' } } })]
}

/** Verifies all of web1. Damage comes as `run: what: reason`. */
async function check(past: PastRuns, options: Partial<VerifyOptions> = {}) {
  const archives: string[] = []
  const told: unknown[] = []
  const result = await verify(past.catalog, past.repository, ['web1'], {
    sample: 1,
    random: () => 0.5,
    signal: new AbortController().signal,
    onArchive: (run) => archives.push(run.archive!.name),
    onDamage: (damage) => told.push(damage),
    ...options,
  })
  assert.deepEqual(told, result.damage)
  const damage = result.damage.map(({ run, path, reason }) => `${run}: ${path ?? 'archive'}: ${reason}`)
  return { ...result, damage, seen: archives }
}

function flip(path: string, at: number): void {
  const content = readFileSync(path)
  content[at < 0 ? content.length + at : at]! ^= 0x10
  writeFileSync(path, content)
}

test('archives that are whole are told to be, with all that was read', async () => {
  using past = await PastRuns.create()
  const runs = await addRuns(past)
  const result = await check(past)
  assert.deepEqual(
    result.seen,
    runs.map(({ archive }) => archive!.name),
  )
  const { archives, files, bytes, damage, unknown } = result
  assert.deepEqual(
    { archives, files, bytes, damage, unknown },
    { archives: 2, files: 5, bytes: 3014, damage: [], unknown: [] },
  )
})

test('a byte that was flipped anywhere in an archive is damage of that archive alone', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  const path = past.path(full.archive!.name)
  const { length } = readFileSync(path)
  for (let at = 0; at < length; at += 7) {
    flip(path, at)
    const { damage } = await check(past)
    assert.ok(damage.length > 0, `byte ${at} of ${length}`)
    assert.ok(
      damage.every((line) => line.startsWith('1: ')),
      damage.join('\n'),
    )
    assert.match(damage[0]!, /its SHA-256 is not the one of the catalog/)
    flip(path, at)
  }
  assert.deepEqual((await check(past)).damage, [])
})

test('damaged content is told by its files, and those of other frames are read on', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  flip(past.path(full.archive!.name), 30)
  const { damage, files } = await check(past)
  const paths = damage.map((line) => line.split(': ')[1])
  // The archive by its digest, and as its members cannot be compared.
  assert.deepEqual(paths, ['archive', 'archive', '/t/a', '/t/b', '/t/link'])
  // The empty one, and the one of the other run.
  assert.equal(files, 2)
})

test('a truncated archive and a missing one are told with all that they cost, and the others are checked', async () => {
  using past = await PastRuns.create()
  const [full, second] = await addRuns(past)
  await past.add({ startedAtMs: day(3), tree: { 't/c': { content: 'c' } } })
  truncateSync(past.path(full.archive!.name), readFileSync(past.path(full.archive!.name)).length - 1)
  rmSync(past.path(second.archive!.name))
  const { damage, files, archives } = await check(past)
  assert.equal(archives, 3)
  assert.equal(files, 1)
  assert.match(damage[0]!, /^1: archive: its SHA-256 is not/)
  assert.match(damage[1]!, /^1: archive: /)
  assert.deepEqual(damage.slice(2), [
    '1: /t/a: its content was there, of run 1 and all that follow',
    '1: /t/b: its content was there, of runs from 1 to before 2',
    '1: /t/link: its content was there, of run 1 and all that follow',
    '2: archive: the file is missing',
    '2: /t/b: its content was there, of run 2 and all that follow',
  ])
})

test('of a sample, only some content is read, and no digest of whole archives', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  let drawn = 0
  // Every second file.
  const random = () => (drawn++ % 2) / 2
  assert.equal((await check(past, { sample: 0.5, random })).files, 3)
  assert.equal((await check(past, { sample: 0.01 })).files, 0)
  flip(past.path(full.archive!.name), 30)
  assert.deepEqual((await check(past, { sample: 0.01 })).damage, [])
  const { damage } = await check(past, { sample: 0.6 })
  assert.deepEqual(
    damage.map((line) => line.split(': ')[1]),
    ['/t/a', '/t/b', '/t/link'],
  )
})

test('an archive that another run of the same name stands in for is told by its index', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  writePastRun(past.repository, 'web1', { startedAtMs: day(1), tree: { t: 'folder' } })
  const { damage } = await check(past, { sample: 0.01 })
  assert.deepEqual(damage, [`${full.id}: archive: its index has 1 entries, and the catalog counts 5`])
})

test('archives that the catalog does not know are named, and are no damage', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  const archive = writePastRun(past.repository, 'web1', { startedAtMs: day(5), tree })
  const { damage, unknown } = await check(past)
  assert.deepEqual(damage, [])
  assert.deepEqual(unknown, [{ host: 'web1', archive }])
})

test('the archive of a removed run is checked as long as others need it, and is no stranger', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  await past.remove(full.id)
  const { damage, unknown, archives } = await check(past)
  assert.deepEqual({ damage, unknown, archives }, { damage: [], unknown: [], archives: 2 })
  flip(past.path(full.archive!.name), 30)
  assert.ok((await check(past)).damage.some((line) => line.startsWith('1: /t/a: ')))
})

test('it ends when it is told to', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  const abort = new AbortController()
  const reason = new Error('enough')
  const onArchive = () => abort.abort(reason)
  await assert.rejects(check(past, { signal: abort.signal, onArchive }), reason)
})

test('what the catalog has otherwise than the archives is told, whatever it is', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  assert.deepEqual((await check(past)).damage, [])
  const { database } = past.catalog
  const kept = database
    .prepare("SELECT * FROM versions WHERE path = CAST('t' || char(0) || 'a' AS BLOB)")
    .get() as object
  const restore = Object.entries(kept)
  for (const [column, value] of [
    ['mode', 0o4755],
    ['uid', 99],
    ['size', 3],
    ['mtime_ns', 5],
    ['digest', Buffer.alloc(32, 1)],
    ['content_offset', 0],
    ['ino', 77],
    ['flags', 16],
  ]) {
    const change = (to: unknown) =>
      database
        .prepare(`UPDATE versions SET ${column} = ? WHERE path = CAST('t' || char(0) || 'a' AS BLOB)`)
        .run(to)
    change(value)
    const { damage } = await check(past)
    assert.match(damage.join(), /t\/a: the catalog has other attributes or content of it/, String(column))
    change(restore.find(([name]) => name === column)![1])
  }
  database.prepare("DELETE FROM versions WHERE path = CAST('t' || char(0) || 'a' AS BLOB)").run()
  assert.match((await check(past)).damage.join(), /t\/a: the catalog lacks it/)
})

test('another end of a version than the archives tell, and a version that none tells, are told', async () => {
  const where = (name: string) => `path = CAST('t' || char(0) || '${name}' AS BLOB)`
  for (const [change, told] of [
    ['', /^$/],
    [`UPDATE versions SET end_run = 4 WHERE ${where('a')}`, /^1: \/t\/a: the catalog has another end of it/],
    [
      `UPDATE versions SET end_run = NULL, end_reason = NULL WHERE ${where('a')}`,
      /^1: \/t\/a: .* another end/,
    ],
    [`UPDATE versions SET end_reason = 0 WHERE ${where('link')}`, /^1: \/t\/link: .* another end/],
    [`UPDATE versions SET path = CAST('x' AS BLOB) WHERE ${where('a')}`, /^1: \/x: .*, and no archive does/m],
    [`UPDATE versions SET generation = 77 WHERE ${where('a')}`, /versions of run 77, which it does not know/],
    ["UPDATE owners SET user_name = CAST('eve' AS BLOB)", /^1: \/t: .* other attributes/m],
    ['UPDATE runs SET checksum = zeroblob(32) WHERE id = 3', /the catalog: run 3 is not what was written/],
    ['DROP INDEX runs_by_host', /its schema is not the one of this program/],
  ] as const) {
    using past = await PastRuns.create()
    await addRuns(past)
    await past.add({ startedAtMs: day(3), gone: ['t/a'], unselected: ['t/link'] })
    await past.add({ startedAtMs: day(4) })
    await past.remove(2)
    past.catalog.database.exec(change)
    assert.match((await check(past)).damage.join('\n'), told, change)
  }
})

test('what a run has done that is at work, and what a prune has not come to, is no damage', async () => {
  using past = await PastRuns.create()
  const [full] = await addRuns(past)
  await past.add({ startedAtMs: day(3), tree: { 't/b': { content: 'changed again' } } })
  using lease = takeLease(past.catalog, 'web1')
  const { generation } = full
  const begun = { host: 'web1', kind: 'incremental', generation, leaseToken: lease.token } as const
  const run = past.catalog.beginRun({ ...begun, startedAtMs: day(4) })
  const { entries } = packMembers({ 't/b': { content: 'and again' }, 't/new': { content: 'new' } })
  new RunRecorder(past.catalog, run, { generation }).add(entries, [
    { path: bytesFromText('t/a'), reason: 'deleted' },
  ])
  past.catalog.statements.setRemoved.run({ id: 2, atMs: past.nowMs })
  assert.deepEqual((await check(past)).damage, [])
  const changed = past.catalog.database.prepare('UPDATE versions SET end_run = 3 WHERE end_run = ?').run(run)
  assert.ok(changed.changes > 0)
  assert.match((await check(past)).damage.join('\n'), /^1: \/t\/a: the catalog has another end of it/)
})
