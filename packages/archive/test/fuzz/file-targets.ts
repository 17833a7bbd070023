/** The parsers of files: frames, seek tables, maps of holes, archives that are whole, damaged or broken off. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { attempt, type FuzzTarget, require, requireEqual } from '../../../../test/fuzz/target.ts'
import { measureFrame } from '../../src/frame.ts'
import {
  ArchiveError,
  ArchiveReader,
  compressFrame,
  decompressFrame,
  frameBytesMax,
  indexFrameMagic,
  parseZstdFrame,
  planFinish,
  SeekTable,
  SparseMap,
  SparseReader,
  unwrapSkippable,
  wrapSkippable,
} from '../../src/index.ts'
import { parseSeekTableFooter, SeekTableBuilder, seekTableFooterBytes } from '../../src/seek-table.ts'
import { buildArchive, header, incremental } from '../sample.ts'
import { everyKindOfGone, everyKindOfMember } from '../vectors/make.ts'
import { checkBatch } from './index-targets.ts'

const contents = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 400 }))
    .map(([piece, times]) => Buffer.concat(Array(times).fill(piece))),
)

const frame: FuzzTarget = {
  name: 'frame',
  inputs: fc.tuple(contents, fc.integer({ min: 1, max: 19 }), fc.nat(9)).map(([content, level, kind]) => {
    const compressed = compressFrame(content, level)
    return kind === 0 ? wrapSkippable(indexFrameMagic, compressed) : compressed
  }),
  mutations: 'bytes',
  check(input) {
    const measured = attempt(ArchiveError, () => measureFrame(input))
    if (measured != null) require(measured.frameBytes <= input.length, 'a frame lies in what it was found in')
    attempt(ArchiveError, () => unwrapSkippable(indexFrameMagic, input))
    const parsed = attempt(ArchiveError, () => parseZstdFrame(input))
    const content = attempt(ArchiveError, () => decompressFrame(input))
    if (content === undefined) return false
    requireEqual(measured, { kind: 'data', frameBytes: input.length }, 'a frame is measured as it is')
    require(content.length <= frameBytesMax && content.length === parsed!.contentBytes, 'as long as it says')
    require(zstdDecompressSync(input).equals(content), 'the zstd of Node.js reads the same')
    return true
  },
}

const frameRows = fc.array(fc.tuple(fc.integer({ min: 1, max: 70_000 }), fc.nat(frameBytesMax)), {
  maxLength: 12,
})

const seekTable: FuzzTarget = {
  name: 'seek-table',
  inputs: frameRows.map((rows) => {
    const builder = new SeekTableBuilder()
    for (const [frameBytes, contentBytes] of [...rows, [50, 0] as const])
      builder.add(frameBytes, contentBytes)
    return builder.build()
  }),
  mutations: 'bytes',
  check(input) {
    attempt(ArchiveError, () => parseSeekTableFooter(input.subarray(-seekTableFooterBytes)))
    // The size that the file would have, so that this alone refuses nothing.
    let archiveBytes = input.length
    for (let at = 8; at + 8 <= input.length - seekTableFooterBytes; at += 8)
      archiveBytes += input.readUInt32LE(at)
    const table = attempt(ArchiveError, () => SeekTable.parse(input, archiveBytes))
    if (table === undefined) return false
    require(attempt(ArchiveError, () => SeekTable.parse(input, archiveBytes + 1)) ===
      undefined, 'of this size only')
    const builder = new SeekTableBuilder()
    let [fileOffset, tarOffset] = [0, 0]
    for (let number = 0; number < table.frames; number++) {
      const place = table.place(number)
      requireEqual([place.fileOffset, place.tarOffset], [fileOffset, tarOffset], 'frames without gaps')
      if (place.tarBytes > 0) {
        for (const offset of [tarOffset, tarOffset + place.tarBytes - 1])
          requireEqual(table.frameAt(offset), number, 'the frame of an offset')
      }
      builder.add(place.fileBytes, place.tarBytes)
      fileOffset += place.fileBytes
      tarOffset += place.tarBytes
    }
    requireEqual([fileOffset + input.length, tarOffset], [archiveBytes, table.tarBytes], 'all of the file')
    require(attempt(ArchiveError, () => table.frameAt(table.tarBytes)) ===
      undefined, 'nothing behind the end')
    require(builder.build().equals(input), 'it is built to itself')
    return true
  },
}

const regions = fc
  .tuple(fc.array(fc.tuple(fc.nat(9000), fc.integer({ min: 1, max: 2000 })), { maxLength: 6 }), fc.nat(9000))
  .map(([pieces, tail]) => {
    let at = 0
    const bounds = pieces.map(([hole, length]): [number, number] => {
      const start = at + hole
      at = start + length
      return [start, at]
    })
    return { bounds, size: Math.max(1, at + tail) }
  })

/** An input is the size of the file, 8 bytes, and what is stored of it. */
const sparseMap: FuzzTarget = {
  name: 'sparse-map',
  inputs: regions.map(({ bounds, size }) => {
    const map = new SparseMap(size)
    for (const [start, end] of bounds) map.add(start, end)
    const head = Buffer.alloc(8)
    head.writeBigUInt64BE(BigInt(size))
    return Buffer.concat([head, ...map.encode(), Buffer.alloc(map.dataBytes, 'data')])
  }),
  mutations: 'bytes',
  tokens: ['0\n', '512\n', '1\n', '1048577\n', '9007199254740991\n', '00', '\0', '-1\n'],
  check(input) {
    if (input.length < 8) return false
    const size = Number(input.readBigUInt64BE(0) & (2n ** 53n - 1n))
    const stored = input.subarray(8)
    const read = (pieceBytes: number) => {
      const reader = new SparseReader(size, stored.length)
      const data: (readonly [number, number])[] = []
      for (let at = 0; at < stored.length; at += pieceBytes) {
        for (const { offset, bytes } of reader.add(stored.subarray(at, at + pieceBytes))) {
          const last = data.at(-1)
          if (last !== undefined && last[1] === offset)
            data[data.length - 1] = [last[0], offset + bytes.length]
          else data.push([offset, offset + bytes.length])
        }
      }
      return { fault: reader.fault, data }
    }
    const whole = read(Math.max(1, stored.length))
    requireEqual(read(1 + (stored.length % 13)), whole, 'in pieces, it means the same')
    let last = 0
    for (const [start, end] of whole.data) {
      require(start >= last && end <= size, 'data in order, and in the file')
      last = end
    }
    if (whole.fault !== null) return false
    // A map that ended too early is told at the end of the content, by its digest.
    const dataBytes = whole.data.reduce((sum, [start, end]) => sum + end - start, 0)
    const map = new SparseMap(size)
    for (const [start, end] of whole.data) map.add(start, end)
    if (dataBytes === 0 || map.mapBytes + dataBytes !== stored.length) return false
    const again = Buffer.concat([...map.encode()])
    require(again.equals(stored.subarray(0, again.length)), 'a map has one form')
    return true
  },
}

/** A file for what is read from disk. */
class Scratch {
  #folder: string | null = null

  write(bytes: Uint8Array): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'central-backup-fuzz-'))
    const path = join(this.#folder, 'archive')
    writeFileSync(path, bytes)
    return path
  }

  remove(): void {
    if (this.#folder !== null) rmSync(this.#folder, { recursive: true, force: true })
    this.#folder = null
  }
}

async function readAll(path: string): Promise<void> {
  await using reader = await ArchiveReader.open(path)
  for await (const batch of reader.batches()) checkBatch(batch)
  let bytes = 0
  for await (const piece of reader.readTar(0, reader.tarBytes)) bytes += piece.length
  requireEqual(bytes, reader.tarBytes, 'as much tar as the seek table says')
}

async function attemptAsync<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action()
  } catch (error) {
    if (error instanceof ArchiveError) return undefined
    throw error
  }
}

const members = everyKindOfMember()
const gone = everyKindOfGone()
const archives = fc
  .record({
    from: fc.nat(members.length - 1),
    count: fc.integer({ min: 1, max: members.length }),
    frameBytes: fc.constantFrom(512, 2048, 100_000),
    batchEntries: fc.integer({ min: 1, max: 6 }),
    isFull: fc.boolean(),
  })
  .map(({ isFull, frameBytes, batchEntries, from, count }) =>
    buildArchive(linked(members.slice(from, from + count)), {
      header: isFull ? header : incremental,
      gone: isFull ? [] : gone,
      frameBytes,
      batchEntries,
    }),
  )

/** Without further names of what is not there. */
function linked(some: typeof members): typeof members {
  const paths = new Set(some.map(({ entry }) => entry.path))
  return some.filter(({ entry }) => entry.type !== 'hardlink' || paths.has(entry.target!))
}

const archiveFile = new Scratch()
const archive: FuzzTarget = {
  name: 'archive',
  inputs: archives,
  mutations: 'bytes',
  async check(input) {
    const path = archiveFile.write(input)
    return (await attemptAsync(() => readAll(path).then(() => true))) ?? false
  },
  dispose: () => archiveFile.remove(),
}

const brokenFile = new Scratch()
const brokenArchive: FuzzTarget = {
  name: 'broken-archive',
  inputs: fc
    .tuple(archives, fc.double({ min: 0, max: 1, noNaN: true }))
    .map(([bytes, part]) => bytes.subarray(0, Math.ceil(part * bytes.length))),
  mutations: 'bytes',
  async check(input) {
    const finish = await attemptAsync(() => planFinish(brokenFile.write(input)))
    if (finish === undefined) return false
    require(finish.keptBytes <= input.length, 'no more is kept than there is')
    // What was finished is an archive like any other.
    await readAll(brokenFile.write(Buffer.concat([input.subarray(0, finish.keptBytes), ...finish.tail])))
    return true
  },
  dispose: () => brokenFile.remove(),
}

export const fileTargets: readonly FuzzTarget[] = [frame, seekTable, sparseMap, archive, brokenArchive]
