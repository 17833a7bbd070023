import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyRanges } from '../src/catalog/key-ranges.ts'
import { day, PastRuns } from './past-run.ts'

test('ranges hold every row once, also where one path has more versions than a range has rows', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree: { a: 'folder', 'a/log': 'folder', b: 'folder' } })
  const { database } = past.catalog
  // As after 25,000 runs, in each of which the log was another.
  const columns =
    'type, mode, uid, gid, owner_id, size, mtime_s, mtime_ns, ctime_s, ctime_ns, ino, dev, nlink, project, marks'
  database.exec(
    `WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
     INSERT INTO versions (generation, path, first_run, ${columns})
     SELECT generation, path, i, ${columns} FROM n, versions WHERE path = CAST('a' || char(0) || 'log' AS BLOB) AND first_run = 1`,
  )
  const count = database
    .prepare<[object], number>(
      'SELECT COUNT(*) FROM versions WHERE generation = :generation AND path >= :from AND path < :end',
    )
    .pluck()
  const counts = [...keyRanges(past.catalog, 1)].map((range) => count.get(range)!)
  assert.equal(
    counts.reduce((sum, n) => sum + n, 0),
    25_002,
  )
  assert.deepEqual(counts, [1, 25_000, 1])
  assert.deepEqual([...keyRanges(past.catalog, 99)].length, 1)
})
