/** What a host takes of the catalog counts against its quota, and what nobody needs of it goes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type BytePath, bytesFromText } from '@central-backup/archive'
import { file } from '../../archive/test/sample.ts'
import { catalogBytes } from '../src/catalog/catalog-bytes.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { standingEntries } from '../src/catalog/versions.ts'
import type { Host } from '../src/config/hosts.ts'
import { pruneHost } from '../src/jobs/prune.ts'
import { Room } from '../src/jobs/room.ts'
import { hostBytes } from '../src/storage/space.ts'
import { day, PastRuns, type Tree } from './past-run.ts'

const keepLast = { name: 'web1', retention: { last: 1 }, expectEveryMs: 24 * 3_600_000 } as Host

/** Empty files whose names compress to nothing. */
function emptyFiles(count: number): Tree {
  const folder = 'f'.repeat(200)
  return Object.fromEntries(
    Array.from({ length: count }, (_, n) => [`${folder}/${folder}/${n}`, { content: '' }]),
  )
}

test('versions of earlier runs count against what a host may have, and room comes back with them', async () => {
  using past = await PastRuns.create()
  for (let n = 1; n <= 3; n++) await past.add({ startedAtMs: day(n), kind: 'full', tree: emptyFiles(500) })
  past.nowMs = day(3)
  const ofFiles = await hostBytes(past.repository, 'web1')
  const ofCatalog = await catalogBytes(past.catalog, 'web1')
  assert.ok(ofFiles < 100_000, `${ofFiles} bytes of files`)
  assert.ok(ofCatalog > 3 * 500 * 500 && ofCatalog < 3 * 500 * 700, `${ofCatalog} bytes of the catalog`)
  const host = { ...keepLast, maxHostBytes: 400_000, maxArchiveBytes: null }
  const settings = { ...past.prune.settings, minFree: { bytes: 0 } }
  const measure = () => Room.measure({ ...past.prune, settings }, host)
  await assert.rejects(measure(), { code: 'quota-exceeded', message: /its part of the catalog included/ })
  await pruneHost(past.prune, keepLast)
  await measure()
})

test('names of owners that no version has any more go, where there are many and nobody else is at work', async () => {
  using past = await PastRuns.create()
  await past.add({
    startedAtMs: day(1),
    kind: 'full',
    tree: { a: file('a', '', { user: bytesFromText('of a') as BytePath }) },
  })
  const { statements } = past.catalog
  past.catalog.transaction(() => {
    for (let n = 0; n < 11_000; n++)
      statements.addOwner.run({ user: Buffer.from(`user ${n}`), group: Buffer.from('group') })
  })
  past.nowMs = day(2)
  {
    using _other = takeLease(past.catalog, 'web2')
    await pruneHost(past.prune, keepLast)
    assert.equal(statements.countOwners.get(), 11_001)
  }
  await pruneHost(past.prune, keepLast)
  assert.equal(statements.countOwners.get(), 1)
  const [entry] = standingEntries(past.catalog, past.catalog.runs('web1')[0]!, { order: 'path' })
  assert.equal(entry!.user, 'of a')
})
