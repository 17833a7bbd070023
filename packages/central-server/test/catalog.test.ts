import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import { Catalog, messageLengthMax, type RunResult, warningsKeptMax } from '../src/catalog/catalog.ts'
import { type Lease, takeLease } from '../src/catalog/lease.ts'
import { type Migration, readMigrations } from '../src/catalog/migrate.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const complete: RunResult = {
  outcome: 'complete',
  kind: 'full',
  error: null,
  archive: { name: '2026-11-21T030000Z-full.tar.zst', bytes: 1234, digest: Buffer.alloc(32, 7) },
  contentBytes: 5678,
  counts: { files: 3, directories: 2 },
  warningCount: 0,
  warnings: [],
}

/** A run of the host that began at the time and ended with the result. */
function addRun(
  catalog: Catalog,
  lease: Lease,
  startedAtMs: number,
  result: Partial<RunResult> = {},
): number {
  const id = catalog.beginRun({ host: lease.host, kind: 'incremental', leaseToken: lease.token, startedAtMs })
  const archive = { ...complete.archive!, name: `archive-${id}` }
  catalog.finishRun(id, { ...complete, archive, ...result })
  return id
}

test('a run is kept as it began and ended', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'), { now: () => 2000 })
  using lease = takeLease(catalog, 'web1')
  const id = catalog.beginRun({
    host: 'web1',
    kind: 'incremental',
    leaseToken: lease.token,
    startedAtMs: 1000,
  })
  const [running] = catalog.runs()
  assert.equal(running!.outcome, 'running')
  assert.equal(running!.finishedAtMs, null)
  catalog.finishRun(id, complete)
  const { digest, ...archive } = complete.archive!
  const [{ archive: kept, ...run }] = catalog.runs('web1') as [ReturnType<Catalog['runs']>[number]]
  assert.deepEqual(run, {
    id,
    host: 'web1',
    kind: 'full',
    generation: id,
    pinned: false,
    outcome: 'complete',
    startedAtMs: 1000,
    finishedAtMs: 2000,
    error: null,
    contentBytes: 5678,
    storedBytes: 5678,
    broken: false,
    counts: { files: 3, directories: 2 },
    warningCount: 0,
    warnings: [],
  })
  assert.deepEqual({ ...kept, digest: Buffer.from(kept!.digest) }, { ...archive, digest })
})

test('runs come newest first, of one host or of all, and only good ones are the last good run', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  using web1 = takeLease(catalog, 'web1')
  using web2 = takeLease(catalog, 'web2')
  const failed = {
    outcome: 'failed',
    archive: null,
    error: { code: 'stalled', message: 'no progress' },
  } as const
  const first = addRun(catalog, web1, 1000)
  const other = addRun(catalog, web2, 1500)
  const second = addRun(catalog, web1, 2000, { outcome: 'complete-with-changes' })
  const third = addRun(catalog, web1, 3000, { outcome: 'incomplete' })
  const fourth = addRun(catalog, web1, 4000, failed)
  assert.deepEqual(
    catalog.runs().map(({ id }) => id),
    [fourth, third, second, other, first],
  )
  assert.deepEqual(
    catalog.runs('web1', 2).map(({ id }) => id),
    [fourth, third],
  )
  assert.deepEqual(catalog.runs('web1')[0]!.error, failed.error)
  assert.equal(catalog.lastGoodRun('web1')!.id, second)
  assert.equal(catalog.lastGoodRun('nobody'), null)
  assert.deepEqual(catalog.hostNames(), ['web1', 'web2'])
})

test('what is written together with the end of a run is written with it or not at all', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  using lease = takeLease(catalog, 'web1')
  const id = catalog.beginRun({ host: 'web1', kind: 'full', leaseToken: lease.token, startedAtMs: 1 })
  const fail = () => {
    throw new Error('no')
  }
  assert.throws(() => catalog.finishRun(id, complete, fail), /no/)
  assert.equal(catalog.runs()[0]!.outcome, 'running')
  catalog.finishRun(id, complete)
  assert.throws(() => catalog.finishRun(id, complete), /has ended before/)
})

test('warnings are all counted, but only so many are kept, and none at any length', () => {
  using folder = new TemporaryFolder()
  using catalog = new Catalog(folder.at('catalog.sqlite'))
  using lease = takeLease(catalog, 'web1')
  const warning = { code: 'vanished', path: '/a', message: 'x'.repeat(messageLengthMax + 1) }
  addRun(catalog, lease, 1, { warningCount: 5000, warnings: Array(warningsKeptMax + 1).fill(warning) })
  const [run] = catalog.runs()
  assert.equal(run!.warningCount, 5000)
  assert.equal(run!.warnings.length, warningsKeptMax)
  assert.equal(run!.warnings[0]!.message.length, messageLengthMax)
})

test('nobody else can read the catalog, whatever the folder permits', () => {
  using folder = new TemporaryFolder()
  using _catalog = new Catalog(folder.at('catalog.sqlite'))
  const modes = readdirSync(folder.path).map((file) => statSync(folder.at(file)).mode & 0o777)
  assert.ok(modes.length > 1)
  for (const mode of modes) assert.equal(mode, 0o600)
})

test('migrations that are missing are applied, in order, and only once', () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  const shipped = readMigrations()
  new Catalog(file).close()
  const next = shipped.length + 1
  const more: Migration[] = [
    { version: next, name: 'a.sql', sql: 'CREATE TABLE extra (a) STRICT'.replace('a)', 'a TEXT)') },
    { version: next + 1, name: 'b.sql', sql: "INSERT INTO extra VALUES ('once')" },
  ]
  for (let time = 0; time < 2; time++) {
    using catalog = new Catalog(file, { migrations: [...shipped, ...more] })
    assert.equal(catalog.database.pragma('user_version', { simple: true }), next + 1)
    assert.deepEqual(catalog.database.prepare('SELECT a FROM extra').pluck().all(), ['once'])
  }
})

test('a migration that fails leaves the schema untouched', () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  const shipped = readMigrations()
  new Catalog(file).close()
  const bad = [
    {
      version: shipped.length + 1,
      name: 'a.sql',
      sql: 'CREATE TABLE extra (a TEXT) STRICT; CREATE NONSENSE',
    },
  ]
  assert.throws(() => new Catalog(file, { migrations: [...shipped, ...bad] }), { code: 'catalog-failed' })
  using catalog = new Catalog(file)
  assert.deepEqual(catalog.database.prepare("SELECT name FROM sqlite_schema WHERE name = 'extra'").all(), [])
})

test('a schema that is newer than the program is refused, and stays as it is', () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  new Catalog(file).close()
  const newer = readMigrations().length + 1
  const database = new Database(file)
  database.pragma(`user_version = ${newer}`)
  database.close()
  assert.throws(() => new Catalog(file), { code: 'catalog-too-new', message: /knows up to/, hint: /rebuild/ })
})

test('migrations whose numbers have a gap are refused', () => {
  using folder = new TemporaryFolder()
  for (const file of ['0001-a.sql', '0003-b.sql']) writeFileSync(folder.at(file), 'SELECT 1')
  assert.throws(() => readMigrations(folder.path), /is not migration 2/)
})

test('a damaged catalog says how to get another', () => {
  using folder = new TemporaryFolder()
  writeFileSync(
    folder.at('catalog.sqlite'),
    'this is no database, and long enough to be taken for one'.repeat(100),
  )
  assert.throws(() => new Catalog(folder.at('catalog.sqlite')), {
    code: 'catalog-damaged',
    hint: /catalog rebuild/,
  })
})

test('a catalog of a format that SQLite only reads is damaged, and not taken for one on a disk that is read-only', () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  new Catalog(file).close()
  const bytes = readFileSync(file)
  bytes[18]! ^= 1
  writeFileSync(file, bytes)
  assert.throws(() => new Catalog(file), { code: 'catalog-damaged' })
})

test('a run that is not what was written is neither shown nor written over', () => {
  using folder = new TemporaryFolder()
  const file = folder.at('catalog.sqlite')
  {
    using catalog = new Catalog(file)
    using lease = takeLease(catalog, 'web1')
    addRun(catalog, lease, 1)
    catalog.database.exec('UPDATE runs SET checksum = zeroblob(32)')
    assert.throws(() => catalog.setPinned(1, true), { code: 'catalog-damaged' })
  }
  assert.throws(() => new Catalog(file), {
    code: 'catalog-damaged',
    message: /run 1 is not what was written/,
  })
})

/** A catalog with one run on a small disk that nobody has open; `breakDisk` is a shell command. */
function withBrokenDisk(breakDisk: string, work: (file: string) => void): string | null {
  using folder = new TemporaryFolder()
  const mountPoint = folder.at('disk')
  mkdirSync(mountPoint)
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', mountPoint]).status !== 0) {
    return 'only root can mount a small file system'
  }
  try {
    const file = `${mountPoint}/catalog.sqlite`
    {
      using catalog = new Catalog(file)
      using lease = takeLease(catalog, 'web1')
      addRun(catalog, lease, 1)
    }
    spawnSync('sh', ['-c', breakDisk], { cwd: mountPoint })
    work(file)
    rmSync(`${mountPoint}/fill`, { force: true })
    return null
  } finally {
    spawnSync('umount', [mountPoint])
  }
}

test('on a full disk the catalog can be read, and says what keeps it from being written', (context) => {
  const skipped = withBrokenDisk('dd if=/dev/zero of=fill bs=4k', (file) => {
    using catalog = new Catalog(file)
    assert.equal(catalog.runs().length, 1)
    assert.throws(() => takeLease(catalog, 'web2'), { code: 'disk-full', hint: /prune/ })
  })
  if (skipped) context.skip(skipped)
})

test('on a read-only disk the catalog can be read, and says what keeps it from being written', (context) => {
  const skipped = withBrokenDisk('mount -o remount,ro .', (file) => {
    using catalog = new Catalog(file)
    assert.equal(catalog.writable, false)
    assert.equal(catalog.runs().length, 1)
    assert.throws(() => takeLease(catalog, 'web2'), { code: 'read-only' })
  })
  if (skipped) context.skip(skipped)
})
