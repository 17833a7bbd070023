import assert from 'node:assert/strict'
import { test } from 'node:test'
import { textFromBytes } from '@central-backup/archive'
import { bytes, file, other } from '../../archive/test/sample.ts'
import type { Run } from '../src/catalog/catalog.ts'
import { findVersions } from '../src/catalog/find-versions.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { type StandingOptions, standingQuery } from '../src/catalog/standing-query.ts'
import { childEntries, chooseRun, entryAt, standingEntries } from '../src/catalog/versions.ts'
import { day, PastRuns } from './past-run.ts'

function paths(entries: Iterable<{ path: string }>): string[] {
  return [...entries].map(({ path }) => textFromBytes(path as ReturnType<typeof bytes>))
}

function standing(past: PastRuns, run: Run, options: Partial<StandingOptions> = {}): string[] {
  return paths(standingEntries(past.catalog, run, { order: 'path', ...options }))
}

test('the run of a moment is the newest that had begun by then, be it incomplete', async () => {
  using past = await PastRuns.create()
  const { catalog } = past
  assert.throws(() => chooseRun(catalog, 'web1', 'latest'), { message: /There is no backup of web1/ })
  const first = await past.add({ startedAtMs: day(1), kind: 'full', tree: { a: 'folder' } })
  const second = await past.add({ startedAtMs: day(2), outcome: 'incomplete' })
  const third = await past.add({ startedAtMs: day(3), kind: 'full', tree: { a: 'folder' } })
  for (const [moment, expected] of [
    ['latest', third],
    [{ atMs: day(3) }, third],
    [{ atMs: day(3) - 1 }, second],
    [{ atMs: day(1) }, first],
    [{ atMs: Number.MAX_SAFE_INTEGER }, third],
    [{ run: second.id }, second],
  ] as const) {
    assert.equal(chooseRun(catalog, 'web1', moment).id, expected.id, JSON.stringify(moment))
  }
  assert.throws(() => chooseRun(catalog, 'web1', { atMs: day(1) - 1 }), {
    name: 'UsageError',
    message: /oldest backup of web1 is of 2026-11-01T03:00:00/,
  })
  assert.throws(() => chooseRun(catalog, 'web1', { run: 99 }), { message: /Run 99 is none of web1/ })
  assert.throws(() => chooseRun(catalog, 'web2', { run: first.id }), { name: 'UsageError' })
})

test('the newest run is the one that was made last, where the clock was ahead for a time', async () => {
  using past = await PastRuns.create()
  const { catalog } = past
  const tree = { a: 'folder' } as const
  const latest = () => chooseRun(catalog, 'web1', 'latest').startedAtMs
  past.nowMs = day(9)
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(9), tree })
  assert.equal(latest(), day(9))
  // Set back: until the next run, one of the past is the newest that is known to be true.
  past.nowMs = day(2)
  await past.add({ startedAtMs: day(2), tree })
  assert.equal(latest(), day(2))
  assert.equal(catalog.lastGoodRun('web1')!.startedAtMs, day(2))
  // Also when that time has come.
  past.nowMs = day(10)
  assert.equal(latest(), day(2))
  // A full run in the future has nothing behind it, and is not the newest before its time.
  await past.add({ startedAtMs: day(20), kind: 'full', tree })
  assert.equal(latest(), day(2))
  past.nowMs = day(20)
  assert.equal(latest(), day(20))
  // Where there is nothing else, it is taken.
  past.nowMs = day(10)
  await past.remove(1, 2, 3)
  assert.equal(latest(), day(20))
  assert.equal(chooseRun(catalog, 'web1', { atMs: day(20) }).startedAtMs, day(20))
})

test('a generation that is taken in again later is not the newest by that', async () => {
  using past = await PastRuns.create()
  const tree = { a: 'folder' } as const
  const later = await past.add({ startedAtMs: day(5), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), kind: 'full', tree })
  assert.equal(chooseRun(past.catalog, 'web1', 'latest').id, later.id)
})

test('runs that failed or are at work are no moments', async () => {
  using past = await PastRuns.create()
  const { catalog } = past
  const good = await past.add({ startedAtMs: day(1), kind: 'full', tree: { a: 'folder' } })
  using lease = takeLease(catalog, 'web1')
  const begin = (startedAtMs: number) =>
    catalog.beginRun({ host: 'web1', kind: 'full', leaseToken: lease.token, startedAtMs })
  const failed = begin(day(2))
  catalog.finishRun(failed, {
    outcome: 'failed',
    kind: 'full',
    error: { code: 'stalled', message: 'no' },
    archive: null,
    contentBytes: 0,
    counts: {},
    warningCount: 0,
    warnings: [],
  })
  const running = begin(day(3))
  assert.equal(chooseRun(catalog, 'web1', 'latest').id, good.id)
  for (const run of [failed, running])
    assert.throws(() => chooseRun(catalog, 'web1', { run }), { name: 'UsageError' })
})

/** Names whose order as bytes is not the one of their paths as text. */
const crooked = {
  t: 'folder',
  't/a': 'folder',
  't/a/x': { content: 'x' },
  't/a\x01': { content: 'control' },
  't/a-b': { content: 'hyphen' },
  't/a.txt': { content: 'dot' },
  't/b': { content: 'b' },
  't/\udcff': { content: 'a byte' },
} as const
const crookedOrder = ['t', 't/a', 't/a/x', 't/a\x01', 't/a-b', 't/a.txt', 't/b', 't/\udcff']

test('what stood comes in path order, in its reverse, or as its content lies in the archives', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
  const changed = { 't/a-b': { content: 'changed' }, 't/c': { content: 'new' } }
  const next = await past.add({ startedAtMs: day(2), tree: changed, gone: ['t/b'] })
  assert.deepEqual(standing(past, full), crookedOrder)
  assert.deepEqual(standing(past, full, { order: 'path-descending' }), crookedOrder.toReversed())
  const later = crookedOrder.flatMap((path) => (path === 't/b' ? ['t/c'] : [path]))
  assert.deepEqual(standing(past, next), later)
  assert.deepEqual(standing(past, next, { order: 'path-descending' }), later.toReversed())
  assert.deepEqual(standing(past, next, { order: 'content', types: ['file'] }), [
    ...['t/a/x', 't/a\x01', 't/a.txt', 't/\udcff'],
    ...['t/a-b', 't/c'],
  ])
  const places = [...standingEntries(past.catalog, next, { order: 'content', types: ['file'] })].map(
    ({ extents }) => [extents[0]!.archive, extents[0]!.offset] as const,
  )
  assert.deepEqual(
    places,
    places.toSorted(([a, m], [b, n]) => (a === b ? m - n : a! < b! ? -1 : 1)),
  )
  assert.deepEqual(new Set(places.map(([archive]) => archive)).size, 2)
})

test('a selection comes with the folders that lead to it, as ancestors, and with nothing beside it', async () => {
  using past = await PastRuns.create()
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
  const select = (...under: string[]) =>
    [...standingEntries(past.catalog, run, { order: 'path', under: under.map(bytes) })].map(
      ({ path, ancestor }) => `${textFromBytes(path)}${ancestor ? ' (ancestor)' : ''}`,
    )
  assert.deepEqual(select('t/a'), ['t (ancestor)', 't/a', 't/a/x'])
  assert.deepEqual(select('t/a/x', 't/b'), ['t (ancestor)', 't/a (ancestor)', 't/a/x', 't/b'])
  assert.deepEqual(select('t/a/x', 't/a'), ['t (ancestor)', 't/a', 't/a/x'])
  assert.deepEqual(select('t/nothing'), ['t (ancestor)'])
  assert.deepEqual(select(''), crookedOrder)
  assert.deepEqual(select('t/b', ''), crookedOrder)
})

test('a selection of paths within others, twice, or in any order is the same in each order', async () => {
  using past = await PastRuns.create()
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
  const select = (order: StandingOptions['order'], ...under: string[]) =>
    standing(past, run, { order, under: under.map(bytes) })
  const expected = ['t', 't/a', 't/a/x', 't/a-b', 't/b']
  for (const under of [
    ['t/b', 't/a-b', 't/a/x', 't/a', 't/b', 't/nothing/below'],
    ['t/a', 't/a-b', 't/b'],
  ]) {
    assert.deepEqual(select('path', ...under), expected)
    assert.deepEqual(select('path-descending', ...under), expected.toReversed())
    assert.deepEqual(select('content', ...under), expected)
  }
  assert.deepEqual(select('content', 't/b', 't/a/x').slice(2), ['t/a/x', 't/b'])
})

test('a selection of thousands of paths, more than SQLite takes parameters, comes whole', async () => {
  using past = await PastRuns.create()
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
  const under = Array.from({ length: 12_000 }, (_, n) => bytes(`t/a/${n}`))
  for (const order of ['path', 'path-descending', 'content'] as const) {
    const found = standing(past, run, { order, under: [...under, bytes('t/b')] })
    assert.deepEqual(found.toSorted(), ['t', 't/a', 't/b'])
  }
})

for (const order of ['path', 'path-descending', 'content'] as const) {
  test(`a selection in order of ${order} is searched by the primary key, path by path`, async () => {
    using past = await PastRuns.create()
    const run = await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
    const { sql, executions } = standingQuery(run, { order, under: [bytes('t/a/x'), bytes('t/b')] })
    const plan = past.catalog.database
      .prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
      .all(...executions[0]!)
      .map(({ detail }) => detail)
    const ofVersions = plan.filter((step) => step.includes('versions'))
    assert.deepEqual(ofVersions, ['SEARCH versions USING PRIMARY KEY (generation=? AND path>? AND path<?)'])
    if (order !== 'content') assert.ok(!plan.some((step) => step.includes('TEMP B-TREE')), String(plan))
  })
}

test('to look for a path that is not there visits nothing that follows it', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree: crooked })
  const { source } = past.catalog.statements.nextVersionBefore
  const named = { generation: 1, run: 1, from: Buffer.from('a'), end: Buffer.from('b') }
  const plan = past.catalog.database.prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${source}`)
  assert.equal(
    plan.all(named)[0]!.detail,
    'SEARCH versions USING PRIMARY KEY (generation=? AND path>? AND path<?)',
  )
})

test('an entry is what was written, whatever its type and its bytes', async () => {
  using past = await PastRuns.create()
  const odd = file('t/odd', 'content', {
    ...{ mode: 0o6751, uid: 4_000_000_000, gid: 7, user: bytes('\udcfe'), group: bytes('') },
    ...{ mtimeSeconds: -5, mtimeNanoseconds: 999_999_999, ino: 2n ** 64n - 1n, dev: 2n ** 60n },
    ...{ nlink: 3, changedWhileRead: true, xattrs: new Map([['user.\xff', Buffer.from([0, 255])]]) },
  })
  const tree = {
    t: other('t', 'directory', { ancestor: true }),
    'same path': other('t/link', 'hardlink', { target: bytes('t/a'), nlink: 3 }),
    a: file('t/a', 'first'),
    odd,
    symlink: other('t/symlink', 'symlink', { target: bytes('../\udcff') }),
    device: other('t/tty', 'character-device', { device: { major: 4, minor: 64 } }),
    fifo: other('t/fifo', 'fifo'),
    socket: other('t/socket', 'socket'),
  }
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const found = [...standingEntries(past.catalog, run, { order: 'path' })]
  const expected = Object.values(tree)
    .map(({ entry }) => ({
      ...entry,
      digest: entry.digest && Buffer.from(entry.digest),
      extents: entry.extents.map((extent) => ({ ...extent, archive: run.archive!.name })),
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
  assert.deepEqual(
    found.map((entry) => ({ ...entry, digest: entry.digest && Buffer.from(entry.digest) })),
    expected,
  )
})

test('the children of a folder are its own, however much lies below them', async () => {
  using past = await PastRuns.create()
  const wide = Object.fromEntries(
    Array.from({ length: 300 }, (_, n) => [`t/wide/${String(n).padStart(3, '0')}`, { content: '' }]),
  )
  const depth = 200
  const deep = Object.fromEntries(
    Array.from({ length: depth }, (_, n) => [`t/deep${'/d'.repeat(n + 1)}`, 'folder' as const]),
  )
  const tree = { ...crooked, 't/wide': 'folder', 't/deep': 'folder', ...wide, ...deep } as const
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const children = (path: string) => paths(childEntries(past.catalog, run, bytes(path)))
  assert.deepEqual(children(''), ['t'])
  assert.deepEqual(children('t'), [
    ...['t/a', 't/a\x01', 't/a-b', 't/a.txt', 't/b', 't/deep', 't/wide', 't/\udcff'],
  ])
  assert.deepEqual(children('t/a'), ['t/a/x'])
  assert.deepEqual(children('t/wide'), Object.keys(wide))
  assert.deepEqual(children(`t/deep${'/d'.repeat(depth - 1)}`), [`t/deep${'/d'.repeat(depth)}`])
  assert.deepEqual(children(`t/deep${'/d'.repeat(depth)}`), [])
  assert.deepEqual(children('t/a/x'), [])
  assert.deepEqual(children('nowhere'), [])
})

test('children and entries are those of the run, not of the ones before and after', async () => {
  using past = await PastRuns.create()
  const tree = { t: 'folder', 't/a': 'folder', 't/a/x': { content: '1' }, 't/b': { content: '1' } } as const
  const first = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const changed = { 't/b': { content: '22' }, 't/c': { content: '333' } }
  const second = await past.add({ startedAtMs: day(2), tree: changed, gone: ['t/a'] })
  const third = await past.add({ startedAtMs: day(3), tree: { 't/a': { content: 'a file' } }, gone: ['t/c'] })
  const look = (run: Run) => paths(childEntries(past.catalog, run, bytes('t')))
  assert.deepEqual(look(first), ['t/a', 't/b'])
  assert.deepEqual(look(second), ['t/b', 't/c'])
  assert.deepEqual(look(third), ['t/a', 't/b'])
  const at = (run: Run, path: string) => {
    const entry = entryAt(past.catalog, run, bytes(path))
    return entry && `${entry.type} ${entry.size} ${entry.extents[0]?.archive ?? ''}`.trim()
  }
  const [one, two, three] = [first, second, third].map((run) => run.archive!.name)
  assert.equal(at(first, 't/b'), `file 1 ${one}`)
  assert.equal(at(second, 't/b'), `file 2 ${two}`)
  assert.equal(at(third, 't/b'), `file 2 ${two}`)
  assert.equal(at(first, 't/a'), 'directory 0')
  assert.equal(at(second, 't/a'), null)
  assert.equal(at(third, 't/a'), `file 6 ${three}`)
  assert.equal(at(third, 't/a/x'), null)
  assert.equal(at(first, 't/c'), null)
  assert.equal(at(first, 't/'), null)
})

const anything = (matches: (path: string) => boolean) => ({ matches, needle: null, prefix: null })
const found = (past: PastRuns, pattern: RegExp) =>
  [
    ...findVersions(
      past.catalog,
      'web1',
      anything((path) => pattern.test(path)),
    ),
  ].map(
    ({ path, entry, firstRun, lastRun }) =>
      `${textFromBytes(path)}: ${entry.size} in ${firstRun.id} to ${lastRun.id}`,
  )

test('every version of a path is found, with the runs in which it stood', async () => {
  using past = await PastRuns.create()
  const tree = { t: 'folder', 't/a': { content: '1' }, 't/b': { content: '1' } } as const
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2) })
  await past.add({ startedAtMs: day(3), tree: { 't/a': { content: '22' } }, gone: ['t/b'] })
  await past.add({ startedAtMs: day(4) })
  await past.add({ startedAtMs: day(5), kind: 'full', tree: { t: 'folder', 't/a': { content: '22' } } })
  assert.deepEqual(found(past, /^\/t\/[ab]$/), [
    ...['t/a: 1 in 1 to 2', 't/a: 2 in 3 to 4', 't/a: 2 in 5 to 5'],
    't/b: 1 in 1 to 2',
  ])
  assert.deepEqual(found(past, /nothing/), [])
  assert.deepEqual(
    [
      ...findVersions(
        past.catalog,
        'web2',
        anything(() => true),
      ),
    ],
    [],
  )
})

test('what stood first in a run that retention removed is found in the runs that are left', async () => {
  using past = await PastRuns.create()
  const tree = { t: 'folder', 't/a': { content: '1' }, 't/b': { content: '1' } } as const
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), tree: { 't/b': { content: '22' } } })
  await past.add({ startedAtMs: day(3) })
  await past.remove(1)
  assert.deepEqual(found(past, /^\/t\/[ab]$/), ['t/a: 1 in 2 to 3', 't/b: 2 in 2 to 3'])
  const [entry] = [
    ...findVersions(
      past.catalog,
      'web1',
      anything((path) => path === '/t/a'),
    ),
  ].map(({ entry }) => entry)
  assert.equal(entry!.extents[0]!.archive, '2026-11-01T030000Z-full.tar.zst')
})

test('of the last version of a path is told since when it is gone, and why as far as is known', async () => {
  using past = await PastRuns.create()
  const one = { content: '1' } as const
  const left = { t: 'folder', 't/back': one, 't/replaced': one, 't/stays': one } as const
  const tree = {
    ...left,
    't/deleted': 'folder',
    't/deleted/x': one,
    't/dropped': one,
    't/lost': one,
  } as const
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({
    ...{ startedAtMs: day(2), gone: ['t/back', 't/deleted'], unselected: ['t/dropped'] },
    tree: { 't/replaced': { content: '22' } },
  })
  await past.add({ startedAtMs: day(3), tree: { 't/back': { content: '1' } } })
  const ends = (path: string) =>
    [
      ...findVersions(
        past.catalog,
        'web1',
        anything((one) => one === path),
      ),
    ].map(({ gone }) => gone && `${gone.run.id} ${gone.reason}`)
  assert.deepEqual(ends('/t/back'), [null, null])
  assert.deepEqual(ends('/t/dropped'), ['2 unselected'])
  assert.deepEqual(ends('/t/deleted/x'), ['2 deleted'])
  assert.deepEqual(ends('/t/replaced'), [null, null])
  assert.deepEqual(ends('/t/stays'), [null])
  assert.deepEqual(ends('/t/lost'), [null])
  await past.add({ startedAtMs: day(4), kind: 'full', tree: left })
  assert.deepEqual(ends('/t/lost'), ['4 null'])
  assert.deepEqual(ends('/t/stays'), [null, null])
  assert.deepEqual(ends('/t/dropped'), ['2 unselected'])
  await past.remove(2)
  assert.deepEqual(ends('/t/dropped'), ['3 unselected'])
})
