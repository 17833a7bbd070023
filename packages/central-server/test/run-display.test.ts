import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeEnd } from '../src/cli/run-display.ts'
import type { HostResult } from '../src/jobs/run-report.ts'

const good: HostResult = {
  host: 'web1',
  run: 7,
  kind: 'incremental',
  outcome: 'complete',
  startedAtMs: 1000,
  finishedAtMs: 3500,
  error: null,
  archive: { name: '2026-11-21T030000Z-incremental.tar.zst', bytes: 4096, digest: '00' },
  counts: { files: 2, directories: 1, unchanged: 123_456, gone: 3 },
  contentBytes: 5000,
  warningCount: 0,
  warnings: [],
  localCopy: null,
}

test('the end of an incremental run tells what was packed, what stands as it did, and what is gone', () => {
  assert.deepEqual(describeEnd(good), [
    'web1: complete: 2 files, 5 kB in 2.5s; archive 2026-11-21T030000Z-incremental.tar.zst, 4.1 kB',
    'web1: 123,456 unchanged, 3 gone',
  ])
})

test('an incremental run that found nothing new says so in the same words', () => {
  const [first, second] = describeEnd({
    ...good,
    counts: { files: 0, unchanged: 10, gone: 0 },
    contentBytes: 0,
  })
  assert.match(first!, /^web1: complete: 0 files, 0 B in /)
  assert.equal(second, 'web1: 10 unchanged, 0 gone')
})

test('a full run has nothing to compare with', () => {
  const lines = describeEnd({ ...good, kind: 'full', counts: { files: 2 } })
  assert.equal(lines.length, 1)
  assert.ok(!lines[0]!.includes('unchanged'))
})

test('what went wrong with single files follows, and so does a local copy that was not made', () => {
  const counts = { ...good.counts, changed: 1, vanished: 0, unreadable: 2000 }
  const localCopy = { kept: false, name: 'x', error: 'disk \u001b[31mfull' }
  const lines = describeEnd({ ...good, outcome: 'incomplete', counts, localCopy })
  assert.equal(lines.length, 4)
  assert.match(lines[0]!, /^web1: incomplete: /)
  assert.equal(lines[2], 'web1: 1 changed, 2,000 unreadable')
  assert.match(lines[3]!, /^web1: no local copy: disk /)
  assert.ok(!lines[3]!.includes('\u001b'))
})

test('an incremental run that failed tells why, and nothing that could be taken for a result', () => {
  const error = Object.assign(new Error('no progress'), { hint: 'Look at the disk.' })
  assert.deepEqual(describeEnd({ ...good, outcome: 'failed', error, archive: null }), [
    'web1: failed: no progress',
    'web1: hint: Look at the disk.',
  ])
})
