import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  ArchiveError,
  decodeIndexBatch,
  encodeIndexBatch,
  IndexBatchEncoder,
  indexBatchBytesMax,
} from '../src/index.ts'
import { end, entry, incremental } from './sample.ts'
import { everyKindOfGone, everyKindOfMember } from './vectors/make.ts'

const members = everyKindOfMember()
const gone = everyKindOfGone()
const entries = members.map(({ entry }) => entry)
const batch = encodeIndexBatch({ header: incremental, entries, gone, end })

test('an index batch of random bytes is refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.throws(() => decodeIndexBatch(bytes), ArchiveError)
      assert.throws(() => decodeIndexBatch(Buffer.concat([batch.subarray(0, 3), bytes])), ArchiveError)
    }),
    { numRuns: 1000 },
  )
})

test('an index batch that is cut anywhere is refused', () => {
  for (let size = 0; size < batch.length; size++)
    assert.throws(() => decodeIndexBatch(batch.subarray(0, size)), ArchiveError)
})

test('the batch that takes most memory takes no more than 160 MiB', () => {
  const xattrs = new Map(
    Array.from({ length: 4096 }, (_, i) => [
      String.fromCharCode(1 + (i >> 6), 1 + (i & 63)),
      new Uint8Array(0),
    ]),
  )
  const encoder = new IndexBatchEncoder(null)
  for (let i = 0; encoder.add(entry(`a${String.fromCharCode(0x40 + i)}`, { type: 'fifo', xattrs })); i++);
  const largest = encoder.take()
  assert.ok(largest.length > 0.95 * indexBatchBytesMax)
  const before = process.memoryUsage().rss
  assert.ok(decodeIndexBatch(largest).entries.length > 60)
  assert.ok(process.memoryUsage().rss - before < 160 * 1024 * 1024)
})
