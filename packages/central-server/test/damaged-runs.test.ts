/** One row of a run is not what was written: what has nothing to do with it goes on, and says so. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { Catalog } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { HomeFolder } from './home-folder.ts'
import { day, PastRuns } from './past-run.ts'
import { backupServerInProcess } from './run-in-process.ts'
import { backupServer, type Ended } from './run-program.ts'

const home = new HomeFolder()
before(() => {
  const made = backupServer(['--home', home.at('server'), 'init', '--repository', home.at('unused')])
  assert.equal(made.status, 0, made.stderr)
})
after(() => home[Symbol.dispose]())

const triggers = ['runs_changing', 'runs_changed']

/** Three runs of web1, and a failed one of another host; then `damage` is done behind the back of the checksums. */
async function withDamage(damage: string, work: (server: Server, past: PastRuns) => Promise<void>) {
  using past = await PastRuns.create()
  await past.add({
    startedAtMs: day(1),
    kind: 'full',
    tree: { t: 'folder', 't/a': { content: 'a' }, 't/b': { content: '1' } },
  })
  await past.add({ startedAtMs: day(2), tree: { 't/b': { content: '2' } } })
  {
    using lease = takeLease(past.catalog, 'web2')
    const begun = { host: 'web2', kind: 'full', leaseToken: lease.token, startedAtMs: day(2) } as const
    past.catalog.finishRun(past.catalog.beginRun(begun), {
      ...{
        kind: 'full',
        outcome: 'failed',
        archive: null,
        contentBytes: 0,
        counts: {},
        warningCount: 0,
        warnings: [],
      },
      error: { code: 'stalled', message: 'nothing came' },
    })
  }
  await past.add({ startedAtMs: day(3), tree: { 't/b': { content: '4' } } })
  const { database } = past.catalog
  const schema = database
    .prepare<[], string>(`SELECT sql FROM sqlite_schema WHERE name IN ('${triggers.join("', '")}')`)
    .pluck()
    .all()
  for (const trigger of triggers) database.exec(`DROP TRIGGER ${trigger}`)
  database.exec(damage)
  for (const sql of schema) database.exec(sql)
  past.catalog.checkpoint()
  past.catalog.close()
  const repository = JSON.stringify(past.repository.folder)
  home.write(
    'server/settings.ts',
    `export default { repository: ${repository}, connection: { attempts: 1 } }`,
  )
  home.write(
    'server/hosts/web1.ts',
    "export default { address: '127.0.0.1', port: 1, password: 'secret', paths: ['/t'], retention: { last: 1 } }",
  )
  await work((...args) => backupServerInProcess(['--home', home.at('server'), '--json', ...args], {}), past)
}

type Server = (...args: string[]) => Promise<Ended>

function linesOf({ stdout }: Ended): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

/** It went on, and its last word is what is wrong. */
function requireTold(ended: Ended, left: RegExp): void {
  assert.equal(ended.status, 3, ended.stderr + ended.stdout)
  assert.match(ended.stderr, left)
  const { error } = linesOf(ended).at(-1) as { error: { code: string; hint: string } }
  assert.equal(error.code, 'catalog-damaged')
  assert.match(error.hint, /catalog rebuild/)
}

function requireRefused(ended: Ended, message: RegExp): void {
  assert.notEqual(ended.status, 0)
  const { error } = linesOf(ended).at(-1) as { error: { code: string; message: string } }
  assert.equal(error.code, 'catalog-damaged')
  assert.match(error.message, message)
}

test('an older run that is damaged is left out, all else is listed, found and restored, and nothing is written', async () => {
  await withDamage("UPDATE runs SET counts = '{}', archive_bytes = 7 WHERE id = 1", async (server, past) => {
    const left =
      /Left out: run 1 \(web1\)\. Nothing is backed up or removed until `backup-server catalog rebuild`/
    const listed = await server('list')
    requireTold(listed, left)
    const { runs } = linesOf(listed)[0] as { runs: { id: number }[] }
    assert.deepEqual(
      runs.map(({ id }) => id),
      [2, 3, 4],
    )
    const looked = await server('ls', 'web1', '/t')
    requireTold(looked, left)
    assert.deepEqual(
      linesOf(looked).flatMap(({ path }) => path ?? []),
      ['/t/a', '/t/b'],
    )
    requireTold(await server('find', 'a'), left)
    // The content of t/a lies in the archive of the damaged run.
    const restored = await server('restore', 'web1', '--target', home.at('restored'))
    requireTold(restored, left)
    assert.equal(readFileSync(home.at('restored/t/a'), 'utf8'), 'a')
    assert.equal(readFileSync(home.at('restored/t/b'), 'utf8'), '4')
    const status = await server('status')
    assert.equal((linesOf(status)[0] as { hosts: { lastGood: { run: number } }[] }).hosts[0]!.lastGood.run, 4)
    const files = past.files('archives')
    for (const command of [['run', 'web1'], ['prune', 'web1'], ['pin', '2'], ['verify']])
      requireRefused(await server(...command), /run 1 is not what was written/)
    assert.deepEqual(past.files('archives'), files)
  })
})

test('where a damaged run may be the one that is meant, none is chosen in its place, unless it is named', async () => {
  await withDamage('UPDATE runs SET pinned = 1 WHERE id = 4', async (server) => {
    const target = ['--target', home.at('older')]
    const may =
      /run 4 is not what was written, and may be the one that is meant\. `--at 2` is the one before it/
    requireRefused(await server('restore', 'web1', ...target), may)
    requireRefused(await server('ls', 'web1', '--at', '2026-11-04'), may)
    requireRefused(
      await server('ls', 'web1', '--at', '4'),
      /run 4 is not what was written, and may be the one/,
    )
    const named = await server('restore', 'web1', ...target, '--at', '2')
    requireTold(named, /Left out: run 4 \(web1\)/)
    assert.equal(readFileSync(home.at('older/t/b'), 'utf8'), '2')
  })
})

test('a time before the runs that are damaged is no doubt, nor is a damaged run of another host', async () => {
  await withDamage("UPDATE runs SET lease_token = 'x' WHERE id = 3", async (server) => {
    for (const view of [['list'], ['find', 'a'], ['find', 'a', '--host', 'web2'], ['list', 'web2']])
      requireTold(await server(...view), /Left out: run 3 \(web2\)/)
  })
  await withDamage("UPDATE runs SET lease_token = 'x' WHERE id = 4", async (server) => {
    requireTold(await server('ls', 'web1', '--at', '2026-11-01'), /Left out: run 4 \(web1\)/)
  })
})

test('who names a host is not kept up by the damaged run of another, and who names none, or verifies, is', async () => {
  await withDamage("UPDATE runs SET lease_token = 'x' WHERE id = 3", async (server) => {
    const target = ['--target', home.at('beside')]
    const views = [
      ['ls', 'web1'],
      ['list', 'web1'],
      ['find', 'a', '--host', 'web1'],
      ['status', 'web1'],
    ]
    for (const command of [...views, ['restore', 'web1', ...target], ['pin', '2']]) {
      const ended = await server(...command)
      // The run that was good is late by now.
      assert.equal(ended.status, command[0] === 'status' ? 1 : 0, ended.stderr)
      assert.doesNotMatch(ended.stderr + ended.stdout, /catalog-damaged|not what was written/)
    }
    // Nothing answers at the address of the host.
    assert.equal((await server('run', 'web1')).status, 10)
    assert.equal((await server('prune', 'web1')).status, 0)
    for (const command of [['run'], ['prune'], ['verify'], ['verify', 'web1'], ['pin', '3']])
      requireRefused(await server(...command), /run 3 is not what was written/)
  })
})

test('a run that is not there any more is missed, though all that are there are what was written', async () => {
  const triggersToo = 'DROP TRIGGER runs_deleted; DELETE FROM runs WHERE id = 4'
  await withDamage(triggersToo, async (server) => {
    for (const command of [
      ['run', 'web1'],
      ['prune', 'web1'],
      ['pin', '2'],
      ['list', 'web1'],
    ])
      assert.match((await server(...command)).stdout, /"catalog-damaged".*the number of runs of host 1/)
  })
})

test('a run that a flipped bit has given to another host is known for what it is', async () => {
  await withDamage(
    "UPDATE runs SET host_id = (SELECT id FROM hosts WHERE name = 'web2') WHERE id = 4",
    async (server) => {
      requireRefused(await server('ls', 'web1'), /run 4 is not what was written, and may be the one/)
      requireTold(await server('ls', 'web1', '--at', '2'), /Left out: run 4 \(web1\)/)
    },
  )
})

test('where the name of a host is damaged, its runs are left out, and others go on', async () => {
  await withDamage("UPDATE hosts SET name = 'veb2' WHERE name = 'web2'", async (server) => {
    const listed = await server('list')
    requireTold(listed, /Left out: run 3\./)
    assert.deepEqual(
      (linesOf(listed)[0] as { runs: { host: string }[] }).runs.map(({ host }) => host),
      ['web1', 'web1', 'web1'],
    )
    requireTold(await server('ls', 'web1'), /Left out: run 3\./)
  })
})

test('only who asks for it gets a catalog without what is damaged, and it takes nothing', async () => {
  await withDamage('UPDATE runs SET warning_count = 9 WHERE id = 2', async (_, past) => {
    const file = past.repository.catalogFile
    assert.throws(() => new Catalog(file), { code: 'catalog-damaged' })
    using catalog = new Catalog(file, { toRead: true })
    assert.deepEqual(catalog.damage!.runs, [{ id: 2, host: 'web1' }])
    assert.equal(catalog.writable, false)
    assert.throws(() => takeLease(catalog, 'web1'), { code: 'catalog-damaged' })
    assert.throws(() => catalog.setPinned(1, true), { code: 'catalog-damaged' })
  })
})

test('where only an index of runs is damaged, all of them are there, and nothing is written', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree: { t: 'folder' } })
  const { archive } = await past.add({ startedAtMs: day(2), tree: { 't/b': { content: '2' } } })
  past.catalog.checkpoint()
  past.catalog.close()
  const file = past.repository.catalogFile
  const whole = readFileSync(file)
  const left: unknown[] = []
  // The name stands in the row, and in the index.
  for (let at = whole.indexOf(archive!.name); at >= 0; at = whole.indexOf(archive!.name, at + 1)) {
    const damaged = Buffer.from(whole)
    damaged[at + 9]! ^= 1
    writeFileSync(file, damaged)
    assert.throws(() => new Catalog(file), { code: 'catalog-damaged' })
    for (const watched of [{ hosts: ['web1'] }, { run: 1 }, { run: 2 }])
      assert.throws(() => new Catalog(file, { watched }), { code: 'catalog-damaged' })
    using catalog = new Catalog(file, { toRead: true })
    left.push(catalog.damage!.runs.map(({ id }) => id))
    assert.equal(catalog.writable, false)
    assert.equal(catalog.runs('web1').length + catalog.damage!.runs.length, 2)
  }
  assert.deepEqual(left.sort(), [[], [2]])
})

test('a bit that makes a letter of a column a capital is damage, and not a bug', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree: { t: 'folder' } })
  past.catalog.checkpoint()
  past.catalog.close()
  const file = past.repository.catalogFile
  const whole = readFileSync(file)
  for (const column of ['started_at_ms  INTEGER', 'warning_count  INTEGER', 'content_offset  INTEGER']) {
    const damaged = Buffer.from(whole)
    // What has grown since lies in its old place, too.
    for (let at = whole.indexOf(column); at >= 0; at = whole.indexOf(column, at + 1)) damaged[at]! ^= 0x20
    writeFileSync(file, damaged)
    for (const options of [{}, { toRead: true }, { watched: { hosts: ['web1'] } }])
      assert.throws(() => new Catalog(file, options), { code: 'catalog-damaged', message: /its schema has/ })
  }
})
