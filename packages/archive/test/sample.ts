import { createHash } from 'node:crypto'
import {
  ArchiveAssembly,
  type ArchiveEnd,
  type ArchiveHeader,
  type BytePath,
  bytesFromText,
  comparePaths,
  compressFrame,
  type Entry,
  encodeEntryHeader,
  endOfArchive,
  frameBytesMax,
  type Gone,
  IndexBatchEncoder,
  indexFrameMagic,
  paddingBytes,
  SparseMap,
  wrapSkippable,
} from '../src/index.ts'

/** Entries and archives for tests, made in the simplest way there is: all in memory, without the packer. */

export interface Member {
  entry: Entry
  content: Buffer
}

/** A path or name from text, in which `\udc80` to `\udcff` are bytes that are not UTF-8. */
export function bytes(text: string): BytePath {
  return bytesFromText(text)
}

/** An entry with the given fields; all others are those of an empty file of root. */
export function entry(path: string, fields: Partial<Entry> = {}): Entry {
  return {
    path: bytes(path),
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    user: bytes('root'),
    group: bytes('root'),
    size: 0,
    storedSize: null,
    mtimeSeconds: 1_700_000_000,
    mtimeNanoseconds: 123_456_789,
    ctimeSeconds: 1_700_000_001,
    ctimeNanoseconds: 987_654_321,
    ino: 4711,
    dev: 2049,
    nlink: 1,
    target: null,
    device: null,
    xattrs: null,
    flags: null,
    project: 0,
    digest: null,
    extents: [],
    changedWhileRead: false,
    ancestor: false,
    ...fields,
  }
}

export function file(path: string, content: Uint8Array | string = '', fields: Partial<Entry> = {}): Member {
  const buffer = typeof content === 'string' ? Buffer.from(content) : Buffer.from(content)
  const digest = createHash('sha256').update(buffer).digest()
  return { entry: entry(path, { size: buffer.length, digest, ...fields }), content: buffer }
}

/** A sparse file of `size` bytes whose data is at the given places, which are whole blocks of tar. */
export function sparseFile(
  path: string,
  size: number,
  data: readonly (readonly [offset: number, bytes: string | Uint8Array])[],
  fields: Partial<Entry> = {},
): Member {
  const map = new SparseMap(size)
  const content = data.map(([offset, bytes]) => {
    map.add(offset, offset + bytes.length)
    return typeof bytes === 'string' ? Buffer.from(bytes) : Buffer.from(bytes)
  })
  const stored = Buffer.concat([...map.encode(), ...content])
  return file(path, stored, { size, storedSize: stored.length, ...fields })
}

export function other(path: string, type: Entry['type'], fields: Partial<Entry> = {}): Member {
  return { entry: entry(path, { type, ...fields }), content: Buffer.alloc(0) }
}

export const header: ArchiveHeader = {
  host: 'web1',
  kind: 'full',
  base: null,
  startedAtMs: Date.UTC(2026, 10, 21, 3),
  software: 'central-backup 0.1.0',
  paths: ['/etc', '/home/caf\udce9'],
  exclude: ['**/node_modules', '*.tmp'],
  repack: null,
}

/** That of the run after `header`. */
export const incremental: ArchiveHeader = {
  ...header,
  kind: 'incremental',
  base: '2026-11-21T030000Z-full.tar.zst',
  startedAtMs: Date.UTC(2026, 10, 22, 3),
}

export const end: ArchiveEnd = {
  outcome: 'complete',
  counts: {
    files: 1,
    directories: 2,
    symlinks: 3,
    hardlinks: 4,
    specials: 5,
    sockets: 6,
    unchanged: 7,
    gone: 8,
    excluded: 9,
    changed: 10,
    vanished: 11,
    unreadable: 12,
    attributes: 13,
    contentBytes: 2 ** 53 - 1,
  },
  finishedAtMs: Date.UTC(2026, 10, 21, 3, 5),
  broken: false,
}

/** All that comes out of an iterable. */
export async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of iterable) found.push(item)
  return found
}

/** The tar stream of the members, whose entries get their extents on the way. */
export function buildTar(members: readonly Member[]): Buffer {
  const pieces: Buffer[] = []
  let offset = 0
  const write = (piece: Buffer) => {
    pieces.push(piece)
    offset += piece.length
  }
  for (const { entry, content } of members) {
    const elsewhere = entry.extents.some(({ archive }) => archive !== null)
    if (entry.type === 'socket' || elsewhere) continue
    write(Buffer.from(encodeEntryHeader(entry)))
    if (content.length > 0) entry.extents = [{ archive: null, offset, length: content.length }]
    write(content)
    write(Buffer.alloc(paddingBytes(content.length)))
  }
  write(endOfArchive)
  return Buffer.concat(pieces)
}

export interface BuildOptions {
  /** Tar stream in a data frame. */
  frameBytes?: number
  /** Entries in an index batch; each index frame stands after the data frame that completes its last entry. */
  batchEntries?: number
  /** In path order. */
  gone?: readonly Gone[]
  header?: ArchiveHeader
  end?: ArchiveEnd
}

/** A whole archive of the members, which stand in path order. */
export function buildArchive(members: readonly Member[], options: BuildOptions = {}): Buffer {
  return buildArchiveAround(buildTar(members), members, options)
}

/** An archive with any tar stream, whose index has the members as they are. */
export function buildArchiveAround(
  tar: Buffer,
  members: readonly Member[],
  options: BuildOptions = {},
): Buffer {
  const { frameBytes = frameBytesMax, batchEntries = Number.POSITIVE_INFINITY } = options
  const assembly = new ArchiveAssembly()
  const pieces: Buffer[] = []
  let written = 0
  const writeTarUpTo = (offset: number) => {
    while (written < offset) {
      const frame = compressFrame(tar.subarray(written, written + frameBytes))
      written += frameBytes
      assembly.addFrame(frame)
      pieces.push(frame)
    }
  }
  const writeIndex = (batch: Buffer) => {
    const frame = wrapSkippable(indexFrameMagic, compressFrame(batch))
    assembly.addIndex(frame)
    pieces.push(frame)
  }
  const encoder = new IndexBatchEncoder(options.header ?? header)
  const gone = [...(options.gone ?? [])]
  const addGoneBefore = (path: BytePath | null) => {
    while (gone.length > 0 && (path === null || comparePaths(gone[0]!.path, path) < 0)) {
      if (!encoder.addGone(gone.shift()!)) throw new Error('a batch has no room for a path that is gone')
    }
  }
  let batched = 0
  for (const { entry } of members) {
    addGoneBefore(entry.path)
    if (batched === batchEntries || !encoder.add(entry)) {
      writeIndex(encoder.take())
      batched = 0
      if (!encoder.add(entry)) throw new Error('an entry does not fit into an empty batch')
    }
    batched++
    for (const { archive, offset, length } of entry.extents) {
      if (archive !== null) continue
      writeTarUpTo(offset + length)
      encoder.reach(offset + length + paddingBytes(length))
    }
  }
  addGoneBefore(null)
  writeTarUpTo(tar.length)
  writeIndex(encoder.take(options.end ?? end))
  return Buffer.concat([...pieces, assembly.finish().seekTable])
}
