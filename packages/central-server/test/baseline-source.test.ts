import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  comparePaths,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  indexBatchBytesMax,
  indexFrameMagic,
  textFromBytes,
  unwrapSkippable,
} from '@central-backup/archive'
import { bytes, file } from '../../archive/test/sample.ts'
import { Baseline } from '../src/catalog/baseline-source.ts'
import type { Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import { RunRecorder } from '../src/catalog/record-run.ts'
import { day, PastRuns, packMembers, type Tree } from './past-run.ts'

/** The frames of a baseline, each as the entries in it. `between` is called after each. */
function readFrames(past: PastRuns, run: Run, between: () => void = () => {}): Entry[][] {
  const baseline = new Baseline(past.catalog, run)
  const frames: Entry[][] = []
  for (let frame = baseline.next(); frame !== null; frame = baseline.next()) {
    const batch = decodeIndexBatch(
      decompressFrame(unwrapSkippable(indexFrameMagic, frame), indexBatchBytesMax),
    )
    assert.deepEqual([batch.header, batch.gone, batch.end], [null, [], null])
    frames.push(batch.entries)
    between()
  }
  assert.equal(baseline.next(), null)
  return frames
}

const names = (frames: readonly Entry[][]) => frames.flat().map(({ path }) => textFromBytes(path))

test('a baseline is what stood in the run, in path order, each entry with the archive of its content', async () => {
  using past = await PastRuns.create()
  const tree = { t: 'folder', 't/a': { content: '1' }, 't/a-b': { content: '22' }, 't/b': 'folder' } as const
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  const next = await past.add({ startedAtMs: day(2), tree: { 't/a': { content: '333' } }, gone: ['t/b'] })
  await past.add({ startedAtMs: day(3), gone: ['t'] })
  assert.deepEqual(names(readFrames(past, full)), ['t', 't/a', 't/a-b', 't/b'])
  const frames = readFrames(past, next)
  assert.deepEqual(
    frames.flat().map(({ path, size, extents }) => [textFromBytes(path), size, extents[0]?.archive]),
    [
      ['t', 0, undefined],
      ['t/a', 3, next.archive!.name],
      ['t/a-b', 2, full.archive!.name],
    ],
  )
  assert.deepEqual(readFrames(past, past.catalog.runs('web1')[0]!), [])
})

test('what the run that it is for writes meanwhile does not show in it', async () => {
  using past = await PastRuns.create()
  const many = Object.fromEntries(
    Array.from({ length: 9000 }, (_, n) => [`f${String(n).padStart(4, '0')}`, { content: '' }]),
  )
  const base = await past.add({ startedAtMs: day(1), kind: 'full', tree: many })
  using lease = takeLease(past.catalog, 'web1')
  const id = past.catalog.beginRun({
    ...{ host: 'web1', kind: 'incremental', generation: base.id, leaseToken: lease.token, startedAtMs: 1 },
  })
  const recorder = new RunRecorder(past.catalog, id, { generation: base.id })
  const changes: Tree[] = [
    { e: { content: '' }, f0000: { content: 'changed' } },
    { f5555: { content: 'changed' }, f8999x: { content: '' } },
    { z: { content: '' } },
  ]
  const frames = readFrames(past, base, () => {
    const { entries } = packMembers(changes.shift() ?? {})
    recorder.add(entries, [{ path: bytes('f8000'), reason: 'deleted' }])
  })
  assert.ok(frames.length >= 3)
  assert.deepEqual(names(frames), Object.keys(many))
  assert.ok(frames.flat().every(({ size }) => size === 0))
})

test('entries that fill a frame by their size go on in the next', async () => {
  using past = await PastRuns.create()
  const long = (n: number) => `${n}/${`${'x'.repeat(250)}/`.repeat(60)}file`
  const tree = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [long(n), file(long(n), 'x')]))
  using lease = takeLease(past.catalog, 'web1')
  const id = past.catalog.beginRun({
    ...{ host: 'web1', kind: 'full', leaseToken: lease.token, startedAtMs: 1 },
  })
  const { entries } = packMembers(tree)
  new RunRecorder(past.catalog, id).add(entries, [])
  const archive = { name: 'a', bytes: 1, digest: Buffer.alloc(32) }
  past.catalog.finishRun(id, {
    ...{ outcome: 'complete', kind: 'full', error: null, archive, contentBytes: 0, counts: {} },
    ...{ warningCount: 0, warnings: [] },
  })
  const frames = readFrames(past, past.catalog.runs('web1')[0]!)
  assert.ok(frames.length > 1, `${frames.length} frames`)
  assert.deepEqual(
    frames.flat().map(({ path }) => path),
    entries.map(({ path }) => path).toSorted(comparePaths),
  )
})
