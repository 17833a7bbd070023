import { ArchiveAssembly } from './assembly.ts'
import {
  type ArchiveEnd,
  type ArchiveHeader,
  type Entry,
  type Gone,
  type Repack,
  storedBytes,
} from './entry.ts'
import { ArchiveError } from './errors.ts'
import { compressFrame, indexFrameMagic, wrapSkippable } from './frame.ts'
import { IndexBatchEncoder } from './index-batch.ts'
import { frameBytesMax } from './limits.ts'
import { type BytePath, comparePaths, quotePath } from './path.ts'
import type { ArchiveReader } from './reader.ts'
import type { FramePlace } from './seek-table.ts'
import { fillTar } from './tar-filler.ts'
import { encodeEntryHeader, endOfArchive, paddingBytes, tarBlockBytes } from './tar-header.ts'

/** What of an archive is still needed. */
export interface Needed {
  /** Paths of the entries of its index, in path order; asked for twice. */
  paths(): Iterable<BytePath>
  /** Where content begins in its tar stream that an entry of any archive has, ascending, each once. */
  contents: Float64Array
}

export interface Repacked {
  digest: Buffer
  archiveBytes: number
  /** Bytes of content that it still holds. */
  storedBytes: number
}

/**
 * Writes an archive anew with only what is needed of it. What stays lies at the same offsets of the tar stream, so that
 * extents of other archives go on being right; what goes leaves filler that compresses to nothing. Frames of which all is needed are
 * copied as they are. `write` gets the file from its first byte to its last. Throws an `ArchiveError` where the archive is
 * damaged, or lacks something that is needed: then nothing was lost yet.
 */
export async function repackArchive(
  reader: ArchiveReader,
  needed: Needed,
  repack: Repack,
  write: (bytes: Buffer) => Promise<void>,
): Promise<Repacked> {
  const file = new RepackedFile(write)
  await copyTar(reader, needed, file)
  const stored = await copyIndex(reader, needed, repack, file)
  return { ...(await file.finish()), storedBytes: stored }
}

/** The file that is written, frame by frame. */
class RepackedFile {
  readonly #assembly = new ArchiveAssembly()
  readonly #write: (bytes: Buffer) => Promise<void>

  constructor(write: (bytes: Buffer) => Promise<void>) {
    this.#write = write
  }

  get tarBytes(): number {
    return this.#assembly.tarBytes
  }

  async addFrame(frame: Buffer): Promise<void> {
    this.#assembly.addFrame(frame)
    await this.#write(frame)
  }

  async addBatch(batch: Buffer): Promise<void> {
    const frame = wrapSkippable(indexFrameMagic, compressFrame(batch))
    this.#assembly.addIndex(frame)
    await this.#write(frame)
  }

  async finish(): Promise<{ digest: Buffer; archiveBytes: number }> {
    const { seekTable, digest, archiveBytes } = this.#assembly.finish()
    await this.#write(seekTable)
    return { digest, archiveBytes }
  }
}

/** Headers are held back until there are so many of them. */
const headersBytesWanted = 1024 * 1024

/** A stretch of the new tar stream: of the old one at the same place, these bytes, or filler. */
type Segment = { begin: number; end: number } & ({ kind: 'old' | 'filler' } | { kind: 'new'; bytes: Buffer })

async function copyTar(reader: ArchiveReader, needed: Needed, file: RepackedFile): Promise<void> {
  const segments = new Segments(planSegments(reader, needed))
  const fillers = new Map<number, Buffer>()
  for (const { number, place } of reader.dataFrames()) {
    const end = place.tarOffset + place.tarBytes
    if (place.tarOffset % tarBlockBytes !== 0) throw unlike('a frame begins within a block of tar')
    const within = await segments.upTo(end)
    if (within.length === 0) break
    const [only] = within
    const covers = only!.end - only!.begin === place.tarBytes
    if (covers && only!.kind === 'old') await file.addFrame(await reader.rawFrame(number))
    else if (covers && only!.kind === 'filler') await file.addFrame(fillerFrame(fillers, place.tarBytes))
    else await file.addFrame(compressFrame(await compose(reader, place, within)))
  }
  // What is left stands behind all content, where nothing has to be at its old place.
  let tail: Buffer[] = []
  let tailBytes = 0
  for (let begin = file.tarBytes; ; begin += headersBytesWanted) {
    const within = await segments.upTo(begin + headersBytesWanted)
    for (const segment of within) {
      if (segment.kind !== 'new') throw unlike('content stands behind its end')
      tail.push(segment.bytes)
      tailBytes += segment.bytes.length
    }
    if (within.length > 0 && tailBytes + headersBytesWanted <= frameBytesMax) continue
    if (tailBytes > 0) await file.addFrame(compressFrame(Buffer.concat(tail)))
    tail = []
    tailBytes = 0
    if (within.length === 0) return
  }
}

/** The same again and again, where a large file has gone. */
function fillerFrame(fillers: Map<number, Buffer>, tarBytes: number): Buffer {
  let frame = fillers.get(tarBytes)
  if (frame === undefined) {
    const content = Buffer.allocUnsafeSlow(tarBytes)
    fillTar(content, 0, tarBytes)
    frame = compressFrame(content)
    if (tarBytes === frameBytesMax) fillers.set(tarBytes, frame)
  }
  return frame
}

async function compose(
  reader: ArchiveReader,
  place: FramePlace,
  segments: readonly Segment[],
): Promise<Buffer> {
  const { tarOffset } = place
  const content = Buffer.allocUnsafe(segments.at(-1)!.end - tarOffset)
  for (const segment of segments) {
    const at = segment.begin - tarOffset
    if (segment.kind === 'new') content.set(segment.bytes, at)
    else if (segment.kind === 'filler') fillTar(content, at, segment.end - segment.begin)
    else {
      let copied = at
      for await (const piece of reader.readTar(segment.begin, segment.end - segment.begin)) {
        content.set(piece, copied)
        copied += piece.length
      }
    }
  }
  return content
}

/** Segments one after the other, cut where the caller wants them cut. */
class Segments {
  readonly #source: AsyncIterator<Segment, void, void>
  #left: Segment | null = null

  constructor(source: AsyncGenerator<Segment, void, void>) {
    this.#source = source
  }

  /** All that is left before an offset. */
  async upTo(end: number): Promise<Segment[]> {
    const found: Segment[] = []
    for (;;) {
      const segment = this.#left ?? (await this.#source.next()).value ?? null
      this.#left = segment
      if (segment === null || segment.begin >= end) return found
      const [before, after] = segment.end <= end ? [segment, null] : cut(segment, end)
      this.#left = after
      const last = found.at(-1)
      if (last?.kind === 'old' && before.kind === 'old' && last.end === before.begin) last.end = before.end
      else found.push(before)
      if (after !== null) return found
    }
  }
}

function cut(segment: Segment, at: number): [Segment, Segment] {
  if (segment.kind !== 'new')
    return [
      { ...segment, end: at },
      { ...segment, begin: at },
    ]
  const length = at - segment.begin
  return [
    { ...segment, end: at, bytes: segment.bytes.subarray(0, length) },
    { ...segment, begin: at, bytes: segment.bytes.subarray(length) },
  ]
}

/**
 * The new tar stream in order: members with content where they were, the headers of all other entries as early as they
 * fit in, which is where they were or before, and filler up to the next content.
 */
async function* planSegments(reader: ArchiveReader, needed: Needed): AsyncGenerator<Segment, void, void> {
  let at = 0
  let headers: Buffer[] = []
  let headersBytes = 0
  const takeHeaders = (): Segment => {
    const segment: Segment = {
      kind: 'new',
      begin: at,
      end: at + headersBytes,
      bytes: Buffer.concat(headers, headersBytes),
    }
    at = segment.end
    headers = []
    headersBytes = 0
    return segment
  }
  for await (const { entry, content } of neededEntries(reader, needed)) {
    if (!hasMember(entry)) continue
    const header = encodeEntryHeader(entry)
    if (content === null) {
      headers.push(Buffer.from(header))
      headersBytes += header.length
      if (headersBytes >= headersBytesWanted) yield takeHeaders()
      continue
    }
    const begin = content - header.length
    if (headersBytes > 0) yield takeHeaders()
    if (at > begin || (begin - at) % tarBlockBytes !== 0)
      throw unlike(`${quotePath(entry.path)} is not where its index says`)
    if (begin > at) yield { kind: 'filler', begin: at, end: begin }
    const end = content + storedBytes(entry) + paddingBytes(storedBytes(entry))
    yield { kind: 'old', begin, end }
    at = end
  }
  headers.push(endOfArchive)
  headersBytes += endOfArchive.length
  yield takeHeaders()
}

/** Sockets, and files whose content lies in another archive, stand in the index only. */
export function hasMember({ type, extents }: Entry): boolean {
  return type !== 'socket' && extents.every(({ archive }) => archive === null)
}

/** An entry that stays, and where its content lies in this archive, if it does. */
interface NeededEntry {
  entry: Entry
  content: number | null
}

async function* neededEntries(
  reader: ArchiveReader,
  { paths, contents }: Needed,
): AsyncGenerator<NeededEntry, void, void> {
  const wanted = paths()[Symbol.iterator]()
  let path = wanted.next()
  let at = 0
  for await (const { entries } of reader.batches()) {
    for (const entry of entries) {
      const content = contentOf(entry)
      if (!path.done && comparePaths(path.value, entry.path) < 0) throw lacks(path.value)
      const isWanted = !path.done && path.value === entry.path
      if (isWanted) path = wanted.next()
      if (content !== null && at < contents.length && contents[at]! < content)
        throw lacksContent(contents[at]!)
      const hasWantedContent = content !== null && contents[at] === content
      if (hasWantedContent) at++
      if (isWanted && content !== null && !hasWantedContent)
        throw unlike(`${quotePath(entry.path)} is needed, and its content is not`)
      if (isWanted || hasWantedContent) yield { entry, content }
    }
  }
  if (!path.done) throw lacks(path.value)
  if (at < contents.length) throw lacksContent(contents[at]!)
}

function contentOf({ path, extents }: Entry): number | null {
  const [extent] = extents
  if (extent === undefined || extents.every(({ archive }) => archive !== null)) return null
  if (extents.length > 1) throw unlike(`${quotePath(path)} lies in several pieces`)
  return extent.offset
}

async function copyIndex(
  reader: ArchiveReader,
  needed: Needed,
  repack: Repack,
  file: RepackedFile,
): Promise<number> {
  const { header, end } = await headerAndEnd(reader)
  const encoder = new IndexBatchEncoder({ ...header, repack })
  encoder.reach(file.tarBytes - endOfArchive.length)
  let stored = 0
  for await (const { entry, content } of neededEntries(reader, needed)) {
    if (content !== null) stored += storedBytes(entry)
    while (!encoder.add(entry)) await file.addBatch(encoder.take())
  }
  for await (const gone of goneOf(reader)) while (!encoder.addGone(gone)) await file.addBatch(encoder.take())
  await file.addBatch(encoder.take(end))
  return stored
}

async function headerAndEnd(reader: ArchiveReader): Promise<{ header: ArchiveHeader; end: ArchiveEnd }> {
  let header: ArchiveHeader | null = null
  let end: ArchiveEnd | null = null
  for await (const batch of reader.batches()) {
    header ??= batch.header
    end = batch.end
  }
  return { header: header!, end: end! }
}

/** All of it stays: what is gone in a run that is needed no more is gone in those that follow. */
async function* goneOf(reader: ArchiveReader): AsyncGenerator<Gone, void, void> {
  for await (const { gone } of reader.batches()) yield* gone
}

function lacks(path: BytePath): ArchiveError {
  return unlike(`its index lacks ${quotePath(path)}`)
}

function lacksContent(offset: number): ArchiveError {
  return unlike(`its index names no content at byte ${offset} of the tar stream`)
}

function unlike(reason: string): ArchiveError {
  return new ArchiveError('repack-refused', `the archive is not what the catalog knows of it: ${reason}`, {
    hint: 'It was left as it is. backup-server verify looks for damage, and catalog rebuild makes the catalog from the archives.',
  })
}
