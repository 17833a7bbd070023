import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { BytePath, Entry } from '@central-backup/archive'
import { Catalog } from '../src/catalog/catalog.ts'
import { heartbeatMs, leaseExpiryMs } from '../src/catalog/lease.ts'
import { findReader, holdForReading } from '../src/catalog/read-lease.ts'
import type { Host } from '../src/config/hosts.ts'
import { pruneHost } from '../src/jobs/prune.ts'
import { restore } from '../src/jobs/restore.ts'
import { StandingSource } from '../src/jobs/standing-source.ts'
import { day, PastRuns } from './past-run.ts'

const tree = { t: 'folder', 't/a': { content: 'a' }, 't/b': { content: 'b' } } as const
const host = { name: 'web1', expectEveryMs: 24 * 3_600_000, retention: { last: 1 } } as Host

async function addRuns(past: PastRuns) {
  past.nowMs = day(2)
  return [
    await past.add({ startedAtMs: day(1), kind: 'full', tree }),
    await past.add({ startedAtMs: day(2), kind: 'full', tree: { t: 'folder', 't/c': { content: 'c' } } }),
  ] as const
}

const readerOf = ({ catalog }: PastRuns, name = 'web1', isDead = false) =>
  catalog.transaction(() => findReader(catalog, name, { isDead: () => isDead }))

test('readers of a host are seen until each has ended, and those of others are not', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  assert.equal(readerOf(past), null)
  const first = holdForReading(past.catalog, ['web1', 'web2'])
  const second = holdForReading(past.catalog, ['web1'])
  assert.match(readerOf(past)!, new RegExp(`process ${process.pid} reads its archives since`))
  assert.equal(readerOf(past, 'web3'), null)
  first.release()
  assert.notEqual(readerOf(past), null)
  second.release()
  assert.equal(readerOf(past), null)
})

test('a reader that is dead or shows no sign of life for a minute holds nothing up, and comes back with its next', async (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] })
  using past = await PastRuns.create()
  await addRuns(past)
  using _reading = holdForReading(past.catalog, ['web1'])
  past.nowMs += leaseExpiryMs + 1
  assert.equal(readerOf(past), null)
  context.mock.timers.tick(heartbeatMs)
  assert.notEqual(readerOf(past), null)
  assert.equal(readerOf(past, 'web1', true), null)
})

test('where the catalog cannot be written, reading goes on without a lease', async () => {
  using past = await PastRuns.create()
  await addRuns(past)
  Object.defineProperty(past.catalog, 'writable', { value: false })
  using _reading = holdForReading(past.catalog, ['web1'])
  assert.equal(readerOf(past), null)
})

test('a prune during a restore removes nothing, the restore is whole, and the next prune makes up for it', async () => {
  using past = await PastRuns.create()
  const [first] = await addRuns(past)
  using other = new Catalog(past.repository.catalogFile, { now: () => past.nowMs })
  const prune = () => pruneHost({ ...past.prune, catalog: other }, host)
  const putOff: (string | null)[] = []
  class Interrupted extends StandingSource {
    override async *content(entry: Entry): AsyncGenerator<Buffer> {
      putOff.push((await prune()).putOff)
      yield* super.content(entry)
    }
  }
  const target = past.folder.at('restored')
  {
    using _reading = holdForReading(past.catalog, ['web1'])
    await using source = new Interrupted(past.catalog, past.repository, first, ['' as BytePath])
    const { signal } = new AbortController()
    const report = await restore(source, target, { overwrite: 'never', numericIds: true, signal })
    assert.deepEqual([report.restored.files, report.damaged.count, report.failed.count], [2, 0, 0])
  }
  assert.equal(putOff.length, 2)
  for (const said of putOff) assert.match(said!, /nothing is removed: process \d+ reads/)
  assert.equal(readFileSync(`${target}/t/b`, 'utf8'), 'b')
  assert.equal(past.catalog.runs('web1').length, 2)
  assert.ok(existsSync(past.path(first.archive!.name)))
  assert.equal((await prune()).putOff, null)
  assert.equal(past.catalog.runs('web1').length, 1)
  assert.ok(!existsSync(past.path(first.archive!.name)))
})
