import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ArchiveError } from '../src/errors.ts'
import { frameBytesMax, framesMax } from '../src/limits.ts'
import { parseSeekTableFooter, SeekTable, SeekTableBuilder, seekTableFooterBytes } from '../src/seek-table.ts'

/** Sizes in the file and in the tar stream; the last frame is one of the index. */
const frames = fc
  .array(
    fc.tuple(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.oneof(fc.constant(0), fc.integer({ min: 1, max: frameBytesMax })),
    ),
    {
      maxLength: 40,
    },
  )
  .map((rows) => [...rows, [50, 0] as [number, number]])

function build(rows: readonly (readonly [number, number])[]): { table: Buffer; archiveBytes: number } {
  const builder = new SeekTableBuilder()
  for (const [frameBytes, contentBytes] of rows) builder.add(frameBytes, contentBytes)
  const table = builder.build()
  return { table, archiveBytes: table.length + rows.reduce((sum, [frameBytes]) => sum + frameBytes, 0) }
}

function code(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    assert.ok(error instanceof ArchiveError, String(error))
    return error.code
  }
  return 'none'
}

test('the bytes are those of the zstd seekable format', () => {
  const { table } = build([
    [0x11223344 & 0x3fffff, 1024],
    [226, 0],
  ])
  assert.equal(
    table.toString('hex'),
    [
      '5e2a4d18',
      '19000000',
      '44332200',
      '00040000',
      'e2000000',
      '00000000',
      '02000000',
      '00',
      'b1ea928f',
    ].join(''),
  )
})

test('every byte of the tar stream is found in the frame that holds it', () => {
  fc.assert(
    fc.property(frames, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (rows, where) => {
      const { table, archiveBytes } = build(rows)
      const parsed = SeekTable.parse(table, archiveBytes)
      assert.equal(parsed.frames, rows.length)
      assert.equal(
        parsed.tarBytes,
        rows.reduce((sum, [, contentBytes]) => sum + contentBytes, 0),
      )
      if (parsed.tarBytes === 0) return
      const offset = Math.floor(where * parsed.tarBytes)
      const place = parsed.place(parsed.frameAt(offset))
      assert.ok(place.tarOffset <= offset && offset < place.tarOffset + place.tarBytes)
    }),
  )
})

test('the first and the last byte of each frame are found in it, and none before or behind all', () => {
  const { table, archiveBytes } = build([
    [9, 0],
    [10, 100],
    [9, 0],
    [9, 0],
    [11, 1],
    [12, 200],
    [9, 0],
  ])
  const parsed = SeekTable.parse(table, archiveBytes)
  assert.deepEqual(
    [0, 99, 100, 101, 300].map((offset) => parsed.frameAt(offset)),
    [1, 1, 4, 5, 5],
  )
  assert.deepEqual(parsed.place(5), { fileOffset: 48, fileBytes: 12, tarOffset: 101, tarBytes: 200 })
  assert.deepEqual([...parsed.indexFrames()], [0, 2, 3, 6])
  for (const offset of [-1, 301, Number.NaN])
    assert.equal(
      code(() => parsed.frameAt(offset)),
      'range-invalid',
    )
})

test('a table grows as needed', () => {
  const rows = Array.from({ length: 5000 }, (_, i) => [i + 1, 4096] as const)
  const { table, archiveBytes } = build([...rows, [50, 0]])
  assert.deepEqual(SeekTable.parse(table, archiveBytes).place(4999), {
    fileOffset: (4999 * 5000) / 2,
    fileBytes: 5000,
    tarOffset: 4999 * 4096,
    tarBytes: 4096,
  })
})

test('tables that cannot be true are refused', () => {
  const parse = (rows: [number, number][], change?: (table: Buffer) => void, more = 0) => {
    const { table, archiveBytes } = build(rows)
    change?.(table)
    return code(() => SeekTable.parse(table, archiveBytes + more))
  }
  assert.equal(
    parse([
      [10, 100],
      [50, 0],
    ]),
    'none',
  )
  assert.equal(parse([]), 'seek-table-invalid', 'no frames')
  assert.equal(parse([[10, 100]]), 'seek-table-invalid', 'no index at the end')
  assert.equal(
    parse([
      [0, 100],
      [50, 0],
    ]),
    'seek-table-invalid',
    'a frame of no bytes',
  )
  assert.equal(
    parse([
      [10, frameBytesMax + 1],
      [50, 0],
    ]),
    'seek-table-invalid',
    'too much content',
  )
  assert.equal(
    parse([
      [5_000_000, 100],
      [50, 0],
    ]),
    'seek-table-invalid',
    'a frame that is too large',
  )
  assert.equal(
    parse([
      [10, 100],
      [3_000_000, 0],
    ]),
    'seek-table-invalid',
    'an index frame that is too large',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      undefined,
      1,
    ),
    'archive-truncated',
    'a gap in the file',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      undefined,
      -1,
    ),
    'archive-truncated',
    'a file that is too short',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      (table) => table.writeUInt8(0x80, table.length - 5),
    ),
    'seek-table-invalid',
    'checksums',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      (table) => table.writeUInt32LE(3, table.length - 9),
    ),
    'seek-table-invalid',
    'count',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      (table) => table.writeUInt32LE(0, table.length - 4),
    ),
    'not-an-archive',
    'magic',
  )
  assert.equal(
    parse(
      [
        [10, 100],
        [50, 0],
      ],
      (table) => table.writeUInt32LE(1, 4),
    ),
    'frame-invalid',
    'size',
  )
})

test('a footer that promises more frames than allowed is refused before the table is read', () => {
  const footer = build([
    [10, 100],
    [50, 0],
  ]).table.subarray(-seekTableFooterBytes)
  assert.equal(parseSeekTableFooter(footer), 8 + 16 + 9)
  footer.writeUInt32LE(framesMax + 1, 0)
  assert.equal(
    code(() => parseSeekTableFooter(footer)),
    'seek-table-invalid',
  )
  assert.equal(
    code(() => parseSeekTableFooter(Buffer.alloc(0))),
    'not-an-archive',
  )
})
