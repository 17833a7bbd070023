import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { SparseMap, SparseReader, sparseRegionsMax } from '../src/index.ts'

/** Regions of data in ascending order, of any length and anywhere, and the size of their file. */
const layout = fc
  .record({
    pieces: fc.array(
      fc.record({
        hole: fc.oneof(fc.nat(2000), fc.nat(2 ** 40), fc.constant(512)),
        data: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.constant(512)),
      }),
      { maxLength: 30 },
    ),
    tail: fc.oneof(fc.constant(0), fc.nat(2000), fc.nat(2 ** 40)),
  })
  .map(({ pieces, tail }) => {
    let at = 0
    const regions = pieces.map(({ hole, data }) => {
      const start = at + hole
      at = start + data
      return [start, at] as const
    })
    return { regions, size: at + tail }
  })
  .filter(({ size }) => size > 0)

function mapOf(size: number, regions: Iterable<readonly [number, number]>, regionsMax?: number): SparseMap {
  const map = new SparseMap(size, regionsMax)
  for (const [start, end] of regions) map.add(start, end)
  return map
}

function rangesOf(map: SparseMap): { offset: number; length: number }[] {
  const cursor = map.cursor()
  const ranges = []
  for (let range = cursor.take(2 ** 53); range !== null; range = cursor.take(2 ** 53)) ranges.push(range)
  return ranges
}

/** What is stored of a file whose bytes are those of `byteAt`. */
function storedOf(map: SparseMap): Buffer {
  const data = rangesOf(map).map(({ offset, length }) =>
    Buffer.from(Array.from({ length }, (_, i) => byteAt(offset + i))),
  )
  return Buffer.concat([...map.encode(), ...data])
}

function byteAt(offset: number): number {
  return 1 + (offset % 251)
}

/** Feeds a reader, cut into pieces of `pieceBytes`. */
function read(size: number, stored: Buffer, pieceBytes: number, storedSize = stored.length) {
  const reader = new SparseReader(size, storedSize)
  const placed = []
  for (let at = 0; at < stored.length; at += pieceBytes)
    placed.push(...reader.add(stored.subarray(at, at + pieceBytes)))
  return { fault: reader.fault, placed }
}

test('what a map was told is data, is data; it has whole blocks, and its size in the tar stream is as it says', () => {
  fc.assert(
    fc.property(layout, ({ size, regions }) => {
      const map = mapOf(size, regions)
      const ranges = rangesOf(map)
      for (const [start, end] of regions) {
        const within = ranges.some(({ offset, length }) => offset <= start && offset + length >= end)
        assert.ok(within, `${start} to ${end}`)
      }
      for (const [i, { offset, length }] of ranges.entries()) {
        assert.equal(offset % 512, 0)
        assert.ok(length % 512 === 0 || (i === ranges.length - 1 && offset + length === size))
        if (i > 0) assert.ok(offset - ranges[i - 1]!.offset - ranges[i - 1]!.length >= 512)
      }
      assert.equal(
        ranges.reduce((sum, { length }) => sum + length, 0),
        map.dataBytes,
      )
      assert.equal(Buffer.concat([...map.encode()]).length, map.mapBytes)
      assert.equal(map.mapBytes % 512, 0)
    }),
  )
})

test('map and data, cut anywhere, are put where they came from, and nothing else is', () => {
  fc.assert(
    fc.property(layout, fc.integer({ min: 1, max: 3000 }), ({ size, regions }, pieceBytes) => {
      const map = mapOf(size, regions)
      const { fault, placed } = read(size, storedOf(map), pieceBytes)
      assert.equal(fault, null)
      let total = 0
      let last = 0
      for (const { offset, bytes } of placed) {
        assert.ok(offset >= last)
        last = offset + bytes.length
        total += bytes.length
        for (const [i, byte] of bytes.entries()) assert.equal(byte, byteAt(offset + i))
      }
      assert.equal(total, map.dataBytes)
      assert.ok(last <= size)
    }),
    { numRuns: 200 },
  )
})

test('the map is the decimal text that GNU tar writes', () => {
  const text = (map: SparseMap) =>
    Buffer.concat([...map.encode()])
      .toString('latin1')
      .replace(/\0+$/, '')
  assert.equal(text(mapOf(2 ** 40, [])), '1\n1099511627776\n0\n')
  assert.equal(text(mapOf(5000, [[4096, 5000]])), '1\n4096\n904\n')
  assert.equal(
    text(
      mapOf(100_000, [
        [0, 1],
        [8192, 12_288],
      ]),
    ),
    '3\n0\n512\n8192\n4096\n100000\n0\n',
  )
})

test('where a map has too many regions, its smallest holes become data until it fits', () => {
  const regions = Array.from({ length: 10_000 }, (_, i) => {
    const start = i * 2 ** 20 + (i % 2) * (2 ** 20 - 8192)
    return [start, start + 4096] as const
  })
  const size = 10_001 * 2 ** 20
  const map = mapOf(size, regions, 8000)
  // Of 8,000 half are left, by all 3,999 small holes and one large one; the 2,000 that came then are as they were.
  assert.equal(map.regions, 6000)
  assert.equal(map.dataBytes, (10_000 + 3999) * 4096 + 2 ** 21 - 12_288)
  const { fault, placed } = read(size, storedOf(map), 2 ** 20)
  assert.equal(fault, null)
  assert.ok(placed.length >= 5000)
})

test('where all holes are of one size, no more of them become data than must', () => {
  const map = new SparseMap(2 ** 40, 100)
  for (let i = 0; i < 101; i++) map.add(i * 2 ** 30, i * 2 ** 30 + 4096)
  assert.equal(map.regions, 51)
  assert.equal(map.dataBytes, 101 * 4096 + 50 * (2 ** 30 - 4096))
})

test('a map of any number of regions takes bounded memory and time', () => {
  const regions = 3 * sparseRegionsMax
  const map = new SparseMap(regions * 8192)
  for (let i = 0; i < regions; i++) map.add(i * 8192, i * 8192 + 4096)
  assert.ok(map.regions <= sparseRegionsMax)
  assert.equal(map.mapBytes % 512, 0)
})

/** Maps that no writer makes, with what is stored behind them. */
const hostile: Record<string, [size: number, map: string, dataBytes: number]> = {
  'no pieces': [1024, '0\n', 0],
  'a number of pieces that is too large': [2 ** 50, `${sparseRegionsMax + 2}\n`, 0],
  'fewer pieces than it says': [1024, '2\n0\n512\n', 512],
  'more pieces than it says': [1024, '1\n0\n512\n1024\n0\n', 512],
  'regions that overlap': [4096, '3\n0\n1024\n512\n1024\n4096\n0\n', 2048],
  'regions that touch': [4096, '3\n0\n512\n512\n512\n4096\n0\n', 1024],
  'regions out of order': [4096, '3\n2048\n512\n0\n512\n4096\n0\n', 1024],
  'an empty region in its middle': [4096, '3\n0\n0\n512\n512\n4096\n0\n', 512],
  'a region that does not begin on a block': [4096, '2\n100\n512\n4096\n0\n', 512],
  'a region that does not end on a block': [4096, '2\n0\n100\n4096\n0\n', 100],
  'an end before that of the file': [4096, '2\n0\n512\n2048\n0\n', 512],
  'an end behind that of the file': [4096, '2\n0\n512\n8192\n0\n', 512],
  'data behind the end of the file': [4096, '1\n3584\n1024\n', 1024],
  'a negative number': [4096, '2\n0\n512\n-4096\n0\n', 512],
  'a number beyond 53 bits': [Number.MAX_SAFE_INTEGER, '1\n9007199254740993\n0\n', 0],
  'a number of a thousand digits': [4096, `${'9'.repeat(1000)}\n`, 0],
  'a leading zero': [4096, '2\n00\n512\n4096\n0\n', 512],
  'an empty line': [4096, '2\n\n0\n512\n4096\n0\n', 512],
  'a space': [4096, '2\n 0\n512\n4096\n0\n', 512],
  'hexadecimal numbers': [4096, '1\n0x1000\n0\n', 0],
  'less data than it says': [4096, '2\n0\n1024\n4096\n0\n', 512],
  'more data than it says': [4096, '2\n0\n512\n4096\n0\n', 1024],
  'something behind it': [4096, '2\n0\n512\n4096\n0\nmore', 512],
}

for (const [what, [size, map, dataBytes]] of Object.entries(hostile)) {
  test(`a map with ${what} is refused, however it is cut`, () => {
    const text = Buffer.from(map, 'latin1')
    const padding = (512 - (text.length % 512)) % 512
    const stored = Buffer.concat([text, Buffer.alloc(padding + dataBytes)])
    for (const pieceBytes of [1, 7, 512, stored.length]) {
      const { fault, placed } = read(size, stored, pieceBytes)
      assert.ok(fault !== null)
      assert.deepEqual(placed, [])
    }
  })
}

test('what is no map at all is refused, or reads as one whose data lies in the file', () => {
  const digits = fc.string({ unit: fc.constantFrom('0', '1', '5', '9', '\n', '512\n', '\0'), maxLength: 60 })
  fc.assert(
    fc.property(digits, fc.nat(10_000), fc.integer({ min: 1, max: 2 ** 50 }), (text, rest, size) => {
      const stored = Buffer.concat([Buffer.from(text, 'latin1'), Buffer.alloc(rest)])
      const { fault, placed } = read(size, stored, 100)
      if (fault === null) for (const { offset, bytes } of placed) assert.ok(offset + bytes.length <= size)
    }),
    { numRuns: 1000 },
  )
})
