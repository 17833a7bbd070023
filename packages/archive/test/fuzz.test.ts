import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { unwrapSkippable } from '../src/frame.ts'
import {
  ArchiveError,
  ArchiveReader,
  comparePaths,
  compressFrame,
  decodeIndexBatch,
  decompressFrame,
  encodeIndexBatch,
  frameBytesMax,
  type IndexBatch,
  IndexBatchEncoder,
  indexBatchBytesMax,
  isSafePath,
  SeekTable,
  storedBytes,
} from '../src/index.ts'
import { parseSeekTableFooter, seekTableFooterBytes } from '../src/seek-table.ts'
import { buildArchive, end, entry, incremental } from './sample.ts'
import { everyKindOfGone, everyKindOfMember } from './vectors/make.ts'

const directory = mkdtempSync(join(tmpdir(), 'archive-fuzz-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const interesting = [0, 1, 0x7f, 0x80, 0xc0, 0xc1, 0xc6, 0xc9, 0xcf, 0xd4, 0xdb, 0xdd, 0xdf, 0xff]

/** One change: `where` and `from` are parts of the length, so that it fits any input. */
const change = fc.record({
  kind: fc.constantFrom('set', 'flip', 'fill', 'insert', 'remove', 'copy', 'cut'),
  where: fc.double({ min: 0, max: 1, noNaN: true }),
  from: fc.double({ min: 0, max: 1, noNaN: true }),
  size: fc.integer({ min: 1, max: 12 }),
  value: fc.oneof(fc.constantFrom(...interesting), fc.nat(255)),
})
const changes = fc.array(change, { minLength: 1, maxLength: 4 })

function mutate(
  original: Buffer,
  list: readonly (typeof change extends fc.Arbitrary<infer T> ? T : never)[],
): Buffer {
  let bytes = Buffer.from(original)
  for (const { kind, where, from, size, value } of list) {
    const at = Math.floor(where * bytes.length)
    const source = Math.floor(from * bytes.length)
    const head = bytes.subarray(0, at)
    if (kind === 'cut') bytes = Buffer.from(head)
    else if (kind === 'insert') bytes = Buffer.concat([head, Buffer.alloc(size, value), bytes.subarray(at)])
    else if (kind === 'remove') bytes = Buffer.concat([head, bytes.subarray(at + size)])
    else if (at < bytes.length) {
      if (kind === 'set') bytes[at] = value
      if (kind === 'flip') bytes[at]! ^= 1 << (value & 7)
      if (kind === 'fill') bytes.fill(value, at, Math.min(at + size, bytes.length))
      if (kind === 'copy') bytes.copy(bytes, at, source, source + size)
    }
  }
  return bytes
}

/** Runs what may refuse its input; any error but an `ArchiveError` fails the test. */
function tolerate(action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error
  }
}

function checkBatch({ header, entries, gone }: IndexBatch): void {
  for (const [i, entry] of entries.entries()) {
    assert.ok(isSafePath(entry.path))
    assert.ok(i === 0 || comparePaths(entries[i - 1]!.path, entry.path) < 0)
    assert.ok(entry.type !== 'hardlink' || isSafePath(entry.target!))
    const total = entry.extents.reduce((sum, { length }) => sum + length, 0)
    assert.equal(total, entry.type === 'file' ? storedBytes(entry) : 0)
    assert.equal(entry.digest?.length ?? 0, entry.type === 'file' ? 32 : 0)
  }
  for (const [i, { path, reason }] of gone.entries()) {
    assert.ok(isSafePath(path))
    assert.ok(i === 0 || comparePaths(gone[i - 1]!.path, path) < 0)
    assert.ok(reason === 'deleted' || reason === 'unselected')
  }
  if (header !== null) assert.equal(header.base === null, header.kind === 'full')
}

const members = everyKindOfMember()
const gone = everyKindOfGone()
const archive = buildArchive(members, { header: incremental, gone, frameBytes: 2048, batchEntries: 3 })
const entries = members.map(({ entry }) => entry)
const batch = encodeIndexBatch({ header: incremental, entries, gone, end })
const frame = compressFrame(Buffer.from('some text that compresses, compresses, compresses\n'.repeat(30)))
const tableBytes = parseSeekTableFooter(archive.subarray(-seekTableFooterBytes))
const table = archive.subarray(-tableBytes)

test('a mutated index batch is refused, or is valid by every rule and encodes to what it decodes to', () => {
  fc.assert(
    fc.property(changes, (changes) => {
      tolerate(() => {
        const decoded = decodeIndexBatch(mutate(batch, changes))
        checkBatch(decoded)
        assert.deepEqual(decodeIndexBatch(encodeIndexBatch(decoded)), decoded)
      })
    }),
    { numRuns: 4000 },
  )
})

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

test('a mutated frame is refused, or holds no more than a frame may', () => {
  fc.assert(
    fc.property(changes, (changes) => {
      tolerate(() => assert.ok(decompressFrame(mutate(frame, changes)).length <= frameBytesMax))
    }),
    { numRuns: 3000 },
  )
})

test('a mutated seek table is refused, or accounts for every byte of the file', () => {
  fc.assert(
    fc.property(changes, (changes) => {
      const bytes = mutate(table, changes)
      tolerate(() => {
        parseSeekTableFooter(bytes.subarray(-seekTableFooterBytes))
        const parsed = SeekTable.parse(bytes, archive.length)
        const last = parsed.place(parsed.frames - 1)
        assert.equal(last.fileOffset + last.fileBytes + bytes.length, archive.length)
        assert.equal(last.tarOffset, parsed.tarBytes)
        if (parsed.tarBytes > 0) parsed.place(parsed.frameAt(parsed.tarBytes - 1))
      })
      tolerate(() => unwrapSkippable(0x184d2a5e, bytes))
    }),
    { numRuns: 3000 },
  )
})

test('a mutated archive is refused, or read to its end', async () => {
  const path = join(directory, 'mutated.tar.zst')
  let refused = 0
  const runs = 400
  await fc.assert(
    fc.asyncProperty(changes, async (changes) => {
      writeFileSync(path, mutate(archive, changes))
      try {
        await using reader = await ArchiveReader.open(path)
        for await (const batch of reader.batches()) checkBatch(batch)
        let bytes = 0
        for await (const piece of reader.readTar(0, reader.tarBytes)) bytes += piece.length
        assert.equal(bytes, reader.tarBytes)
      } catch (error) {
        if (!(error instanceof ArchiveError)) throw error
        refused++
      }
    }),
    { numRuns: runs },
  )
  assert.ok(refused > runs / 2, `${refused} of ${runs} refused`)
})
