import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Entry, type Gone, textFromBytes } from '@central-backup/archive'
import { bytes, entry } from '../../archive/test/sample.ts'
import type { RunResult } from '../src/catalog/catalog.ts'
import { endInterruptedRuns, type Lease, takeLease } from '../src/catalog/lease.ts'
import { purgeRun, RunRecorder } from '../src/catalog/record-run.ts'
import { rememberedMax } from '../src/catalog/references.ts'
import { pathOfSortKey } from '../src/catalog/version-row.ts'
import { standingEntries } from '../src/catalog/versions.ts'
import { day, PastRuns, packMembers, type Tree } from './past-run.ts'

const failed: RunResult = {
  outcome: 'failed',
  kind: 'incremental',
  error: { code: 'stalled', message: 'no progress' },
  archive: null,
  contentBytes: 0,
  counts: {},
  warningCount: 0,
  warnings: [],
}

const tree = {
  t: 'folder',
  't/a': 'folder',
  't/a/x': { content: 'x' },
  't/a/y': 'folder',
  't/a/y/z': { content: 'z' },
  't/a-b': { content: 'beside' },
  't/b': { content: 'b' },
} as const

interface Row {
  path: Buffer
  first_run: number
  end_run: number | null
}

/** All versions, in order: `t/a 1-2` stood from run 1 until before run 2. */
function versions({ catalog }: PastRuns): string[] {
  const rows = catalog.database
    .prepare<[], Row>('SELECT path, first_run, end_run FROM versions ORDER BY path, first_run')
    .all()
  return rows.map(
    ({ path, first_run, end_run }) => `${textFromBytes(pathOfSortKey(path))} ${first_run}-${end_run ?? ''}`,
  )
}

function wholeTable({ catalog }: PastRuns): unknown[] {
  return catalog.database.prepare('SELECT * FROM versions ORDER BY generation, path, first_run').all()
}

/** Begins a run and writes what it says, and no end. */
function record(
  past: PastRuns,
  lease: Lease,
  what: { generation: number | null; tree?: Tree; gone?: string[] },
): number {
  const { generation, tree = {}, gone = [] } = what
  const kind = generation === null ? 'full' : 'incremental'
  const { catalog } = past
  const id = catalog.beginRun({
    ...{ host: 'web1', kind, generation, leaseToken: lease.token, startedAtMs: day(20) },
  })
  const recorder = new RunRecorder(catalog, id, { generation: generation ?? id })
  recorder.add(
    [],
    gone.map((path): Gone => ({ path: bytes(path), reason: 'deleted' })),
  )
  // A batch for each entry, as they come over a line.
  for (const entry of packMembers(tree).entries) recorder.add([entry], [])
  return id
}

test('an incremental run ends what it names, adds what it names, and leaves the rest alone', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), tree: { 't/b': { content: 'changed' }, 't/c': { content: 'new' } } })
  await past.add({ startedAtMs: day(3), tree: { 't/b': { content: 'again' } }, gone: ['t/c'] })
  assert.deepEqual(versions(past), [
    ...['t 1-', 't/a 1-', 't/a/x 1-', 't/a/y 1-', 't/a/y/z 1-', 't/a-b 1-'],
    ...['t/b 1-2', 't/b 2-3', 't/b 3-', 't/c 2-3'],
  ])
})

test('what is gone takes all below it along, and nothing beside it', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2), gone: ['t/a'] })
  assert.deepEqual(versions(past), [
    ...['t 1-', 't/a 1-2', 't/a/x 1-2', 't/a/y 1-2', 't/a/y/z 1-2', 't/a-b 1-', 't/b 1-'],
  ])
})

test('why a version ended is kept: deleted, no longer selected, or replaced by another', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({
    ...{ startedAtMs: day(2), tree: { 't/b': { content: 'changed' } } },
    ...{ gone: ['t/a-b'], unselected: ['t/a'] },
  })
  const rows = past.catalog.database
    .prepare<[], Row & { end_reason: number | null }>('SELECT * FROM versions ORDER BY path, first_run')
    .all()
  assert.deepEqual(
    rows.map(({ path, end_reason }) => [textFromBytes(pathOfSortKey(path)), end_reason]),
    [
      ...[
        ['t', null],
        ['t/a', 1],
        ['t/a/x', 1],
        ['t/a/y', 1],
        ['t/a/y/z', 1],
      ],
      ...[
        ['t/a-b', 0],
        ['t/b', null],
        ['t/b', null],
      ],
    ],
  )
})

test('a folder that became a file, and back, has a version of each time', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({
    ...{ startedAtMs: day(2), tree: { 't/a': { content: 'a file' } }, gone: ['t/a/x', 't/a/y'] },
  })
  await past.add({ startedAtMs: day(3), tree: { 't/a': 'folder', 't/a/x': { content: 'x' } } })
  assert.deepEqual(
    versions(past).filter((line) => line.startsWith('t/a')),
    ['t/a 1-2', 't/a 2-3', 't/a 3-', 't/a/x 1-2', 't/a/x 3-', 't/a/y 1-2', 't/a/y/z 1-2', 't/a-b 1-'],
  )
})

test('a path that is gone and was never there changes nothing', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const before = wholeTable(past)
  await past.add({ startedAtMs: day(2), gone: ['nowhere', 't/a/x/below a file'] })
  assert.deepEqual(wholeTable(past), before)
})

test('owners without end take no more memory than some, and each comes back as it was', async () => {
  using past = await PastRuns.create()
  using lease = takeLease(past.catalog, 'web1')
  const startedAtMs = day(1)
  const id = past.catalog.beginRun({
    ...{ host: 'web1', kind: 'full', generation: null, leaseToken: lease.token, startedAtMs },
  })
  const recorder = new RunRecorder(past.catalog, id)
  const owned = (number: number) => {
    const name = String(number).padStart(6, '0')
    return entry(name, { type: 'fifo', user: bytes(`user ${name}`), group: bytes(`group ${name}`) })
  }
  const entries = Array.from({ length: rememberedMax + 10 }, (_, number) => owned(number))
  recorder.add(entries, [])
  // One that was remembered, and is no more.
  recorder.add([{ ...owned(0), path: bytes('z') }], [])
  past.catalog.finishRun(id, { ...failed, kind: 'full' })
  const found = [...standingEntries(past.catalog, past.catalog.run(id)!, { order: 'path' })]
  assert.equal(found.length, entries.length + 1)
  for (const { path, user, group } of found) {
    const name = path === 'z' ? '000000' : path
    assert.deepEqual([user, group], [`user ${name}`, `group ${name}`])
  }
})

test('a batch that is much work leaves turns to others, and what is gone takes all below it along, however much', async () => {
  using past = await PastRuns.create()
  using lease = takeLease(past.catalog, 'web1')
  const { catalog } = past
  const begin = (generation: number | null, startedAtMs: number) => {
    const kind = generation === null ? 'full' : 'incremental'
    return catalog.beginRun({ host: 'web1', kind, generation, leaseToken: lease.token, startedAtMs })
  }
  const { signal } = new AbortController()
  const numbered = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${prefix}${String(i).padStart(6, '0')}`)
  let turns = 0
  let longestMs = 0
  let lastMs = performance.now()
  const watch = () => {
    turns++
    longestMs = Math.max(longestMs, performance.now() - lastMs)
    lastMs = performance.now()
    timer = setImmediate(watch)
  }
  let timer = setImmediate(watch)
  try {
    const full = begin(null, day(1))
    const entries = numbered('a/', 25_000).map((path) => entry(path, { type: 'fifo' }))
    const beside = entry('b', { type: 'fifo' })
    await new RunRecorder(catalog, full).addInTurns([...entries, beside], [], signal)
    catalog.finishRun(full, { ...failed, kind: 'full' })
    const next = begin(full, day(2))
    const gone = ['a', ...numbered('c', 20_000)].map(
      (path): Gone => ({ path: bytes(path), reason: 'deleted' }),
    )
    await new RunRecorder(catalog, next, { generation: full, base: full }).addInTurns([], gone, signal)
    catalog.finishRun(next, failed)
    const stood = [...standingEntries(catalog, catalog.run(next)!, { order: 'path' })]
    assert.deepEqual(
      stood.map(({ path }) => path),
      ['b'],
    )
  } finally {
    clearImmediate(timer)
  }
  assert.ok(turns > 10, `${turns} turns`)
  assert.ok(longestMs < 1000, `others waited for ${longestMs} ms`)

  const aborted = AbortSignal.abort(new Error('another has taken over'))
  const many = numbered('d', 20_000).map((path) => entry(path, { type: 'fifo' }))
  const lost = new RunRecorder(catalog, begin(null, day(3)))
  await assert.rejects(lost.addInTurns(many, [], aborted), /another has taken over/)
})

test('a full run begins a generation, and touches none before it', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const second = await past.add({ startedAtMs: day(2) })
  const before = wholeTable(past)
  const third = await past.add({ startedAtMs: day(3), kind: 'full', tree: { t: 'folder' } })
  assert.deepEqual([second.generation, third.generation], [1, 3])
  assert.deepEqual(wholeTable(past).slice(0, before.length), before)
  assert.equal(wholeTable(past).length, before.length + 1)
})

for (const { name, generation } of [
  { name: 'full', generation: null },
  { name: 'incremental', generation: 1 },
]) {
  const write = { generation, tree: { 't/b': { content: 'bb' }, 't/c': 'folder' }, gone: ['t/a'] } as const

  test(`a ${name} run that failed is undone exactly`, async () => {
    using past = await PastRuns.create()
    const base = await past.add({ startedAtMs: day(1), kind: 'full', tree })
    await past.add({ startedAtMs: day(2), tree: { 't/a-b': { content: 'changed' } } })
    const before = wholeTable(past)
    using lease = takeLease(past.catalog, 'web1')
    const id = record(past, lease, { ...write, gone: [...write.gone] })
    assert.notDeepEqual(wholeTable(past), before)
    // Until it has ended well, nobody sees anything of it.
    assert.equal([...standingEntries(past.catalog, base, { order: 'path' })].length, 7)
    purgeRun(past.catalog, id, generation ?? id)
    past.catalog.finishRun(id, failed)
    assert.deepEqual(wholeTable(past), before)
    purgeRun(past.catalog, id, generation ?? id)
    assert.deepEqual(wholeTable(past), before)
  })

  test(`a ${name} run that was interrupted is undone by the next start`, async () => {
    using past = await PastRuns.create()
    await past.add({ startedAtMs: day(1), kind: 'full', tree })
    await past.add({ startedAtMs: day(2), tree: { 't/a-b': { content: 'changed' } } })
    const before = wholeTable(past)
    using lease = takeLease(past.catalog, 'web1')
    const id = record(past, lease, { ...write, gone: [...write.gone] })
    assert.deepEqual(endInterruptedRuns(past.catalog, { isDead: () => false }), [])
    assert.notDeepEqual(wholeTable(past), before)
    assert.deepEqual(endInterruptedRuns(past.catalog, { isDead: () => true }), [id])
    assert.deepEqual(wholeTable(past), before)
    assert.equal(past.catalog.runs('web1').find((run) => run.id === id)!.error?.code, 'interrupted')
  })
}

test('what is undone together with the end of a run is undone with it or not at all', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  using lease = takeLease(past.catalog, 'web1')
  const id = record(past, lease, { generation: 1, gone: ['t/a'] })
  const written = wholeTable(past)
  const undo = () => purgeRun(past.catalog, id, 1)
  assert.throws(
    () =>
      past.catalog.finishRun(id, failed, () => {
        undo()
        throw new Error('no')
      }),
    /no/,
  )
  assert.deepEqual(wholeTable(past), written)
  past.catalog.finishRun(id, failed, undo)
  assert.deepEqual(
    versions(past).map((line) => line.split(' ')[1]),
    Array(7).fill('1-'),
  )
})

test('content in an archive that no run of the host has left is refused', async () => {
  using past = await PastRuns.create()
  const run = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  using other = takeLease(past.catalog, 'web2')
  const id = past.catalog.beginRun({
    ...{ host: 'web2', kind: 'full', leaseToken: other.token, startedAtMs: day(2) },
  })
  const { entries } = packMembers({ f: { content: 'x' } })
  const archive = run.archive!.name
  entries[0]!.extents = [{ archive, offset: 512, length: 1 }]
  assert.throws(() => new RunRecorder(past.catalog, id).add(entries, []), {
    code: 'index-invalid',
    message: /no run has left the archive 2026-11-01T030000Z-full/,
  })
})

test('content in another archive is that of the same path in the run before, or refused', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  using lease = takeLease(past.catalog, 'web1')
  const id = past.catalog.beginRun({
    ...{
      host: 'web1',
      kind: 'incremental',
      generation: full.id,
      leaseToken: lease.token,
      startedAtMs: day(2),
    },
  })
  const standing = [...standingEntries(past.catalog, full, { order: 'path' })]
  const [x, z] = ['t/a/x', 't/a/y/z'].map((path) => standing.find((entry) => entry.path === path)!)
  const add = (entry: Entry) => {
    new RunRecorder(past.catalog, id, { generation: full.id, base: full.id }).add([entry], [])
  }
  const lies: Partial<Entry>[] = [
    { extents: z!.extents },
    { extents: z!.extents, digest: z!.digest },
    { extents: x!.extents.map((extent) => ({ ...extent, offset: extent.offset + 512 })) },
    { digest: Buffer.alloc(32) },
    { path: bytes('t/new') },
  ]
  for (const lie of lies)
    assert.throws(() => add({ ...x!, ...lie }), { name: 'ArchiveError', code: 'index-invalid' })
  const before = wholeTable(past).length
  add({ ...x!, mode: 0o600 })
  assert.equal(wholeTable(past).length, before + 1)
})

test('content in pieces of several archives is kept as it is', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree: { f: { content: 'first' } } })
  using lease = takeLease(past.catalog, 'web1')
  const { entries } = packMembers({ f: { content: 'first and second' } })
  const [own] = entries[0]!.extents
  const pieces = [
    { archive: full.archive!.name, offset: 512, length: 5 },
    { ...own!, length: 11 },
  ]
  entries[0]!.extents = pieces
  const id = past.catalog.beginRun({
    ...{ host: 'web1', kind: 'incremental', generation: full.id, leaseToken: lease.token, startedAtMs: 1 },
  })
  new RunRecorder(past.catalog, id, { generation: full.id }).add(entries, [])
  const archive = { name: 'second', bytes: 1, digest: Buffer.alloc(32) }
  past.catalog.finishRun(id, { ...failed, outcome: 'complete', error: null, archive })
  const run = past.catalog.runs('web1').find((one) => one.id === id)!
  const [entry] = standingEntries(past.catalog, run, { order: 'path' })
  assert.equal(textFromBytes(entry!.path), 'f')
  assert.deepEqual(entry!.extents, [pieces[0], { ...pieces[1], archive: 'second' }])
})
