import { type Absorbed, absorbHeaders, carriedEntries, goneOf, mergeByPath, mergeGone } from './absorbed.ts'
import { type ArchiveEnd, type ArchiveHeader, type Entry, storedBytes } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { compressFrame } from './frame.ts'
import { IndexBatchEncoder } from './index-batch.ts'
import { frameBytesMax } from './limits.ts'
import { type BytePath, comparePaths, quotePath } from './path.ts'
import type { ArchiveReader } from './reader.ts'
import { RepackedFile, Tail } from './repacked-file.ts'
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

export interface RepackPlan {
  /** `null`: all that is there. */
  needed: Needed | null
  /** The archives directly before it, the oldest first, whose index it takes over. */
  absorbed: readonly Absorbed[]
  /** Archives of the runs of the generation that are to be kept, in order. */
  kept: readonly string[]
}

export interface Repacked {
  digest: Buffer
  archiveBytes: number
  /** Bytes of content that it still holds. */
  storedBytes: number
}

/**
 * Writes an archive anew with only what is needed of it, and with what is needed of those before it. What stays lies at
 * the same offsets of the tar stream, so that extents of other archives go on being right; what goes leaves filler that
 * compresses to nothing. Frames of which all is needed are copied as they are. What comes from archives before it has
 * no content, and stands behind all else in the tar stream. `write` gets the file from its first byte to its last.
 * Throws an `ArchiveError` where an archive is damaged, or lacks something that is needed: then nothing was lost yet.
 */
export async function repackArchive(
  reader: ArchiveReader,
  plan: RepackPlan,
  write: (bytes: Buffer) => Promise<void>,
): Promise<Repacked> {
  const file = new RepackedFile(write)
  if (plan.needed === null) await copyWholeTar(reader, plan, file)
  else await copyTar(reader, planSegments(reader, plan.needed, plan.absorbed), file)
  const stored = await copyIndex(reader, plan, file)
  return { ...(await file.finish()), storedBytes: stored }
}

/** Headers are held back until there are so many of them. */
const headersBytesWanted = 1024 * 1024

/** More than the header blocks of any member have: a path, a target and extended attributes at their maxima. */
export const headerBytesMax = 4 * 1024 * 1024

/** So many headers are held back where it is not known yet whether there is room: never too few for those that stood there. */
const waitingBytesMax = 2 * headerBytesMax

/** A stretch of the new tar stream: of the old one at the same place, these bytes, or filler. */
type Segment = { begin: number; end: number } & ({ kind: 'old' | 'filler' } | { kind: 'new'; bytes: Buffer })

/** All frames but those in which the tar stream ends, and behind the members the headers of those that come from elsewhere. */
async function copyWholeTar(
  reader: ArchiveReader,
  { absorbed }: RepackPlan,
  file: RepackedFile,
): Promise<void> {
  const membersEnd = reader.tarBytes - endOfArchive.length
  const ending: Buffer[] = []
  for await (const piece of reader.readTar(Math.max(0, membersEnd), endOfArchive.length)) ending.push(piece)
  if (!Buffer.concat(ending).equals(endOfArchive))
    throw unlike('its tar stream does not end in two blocks of zeros')
  const tail = new Tail(file)
  for (const { number, place } of reader.dataFrames()) {
    const { tarOffset, tarBytes } = place
    if (tarOffset + tarBytes <= membersEnd) await file.addFrame(await reader.rawFrame(number))
    else if (tarOffset < membersEnd)
      for await (const piece of reader.readTar(tarOffset, membersEnd - tarOffset)) await tail.add(piece)
  }
  for await (const entry of carriedEntries(absorbed))
    if (hasMember(entry)) await tail.add(Buffer.from(encodeEntryHeader(entry)))
  await tail.add(endOfArchive)
  await tail.end()
}

async function copyTar(
  reader: ArchiveReader,
  plan: AsyncGenerator<Segment, void, void>,
  file: RepackedFile,
): Promise<void> {
  const segments = new Segments(plan)
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
  const tail = new Tail(file)
  for (let begin = file.tarBytes; ; begin += headersBytesWanted) {
    const within = await segments.upTo(begin + headersBytesWanted)
    if (within.length === 0) return tail.end()
    for (const segment of within) {
      if (segment.kind !== 'new') throw unlike('content stands behind its end')
      await tail.add(segment.bytes)
    }
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
 * fit in, which is where they were or before, and filler up to the next content. Headers for which there is no room stand at the
 * end: those of entries that come from other archives, and those that did so when the archive was packed anew before.
 */
async function* planSegments(
  reader: ArchiveReader,
  needed: Needed,
  absorbed: readonly Absorbed[],
): AsyncGenerator<Segment, void, void> {
  const waiting = new WaitingHeaders()
  const { contents } = needed
  const late = new Set<number>()
  let at = 0
  let next = 0
  let number = 0
  const takeHeaders = (): Segment => {
    const bytes = waiting.take()
    const segment: Segment = { kind: 'new', begin: at, end: at + bytes.length, bytes }
    at = segment.end
    return segment
  }
  for await (const { entry, content } of neededEntries(reader, needed)) {
    number++
    if (!hasMember(entry)) continue
    const header = encodeEntryHeader(entry)
    if (content === null) {
      // Where the next member begins is not known before it comes, but its content is not before this.
      const room = (contents[next] ?? Number.POSITIVE_INFINITY) - headerBytesMax - at
      if (waiting.bytes >= headersBytesWanted && waiting.bytes <= room) yield takeHeaders()
      if (waiting.bytes < waitingBytesMax) waiting.add(number, entry, Buffer.from(header))
      else late.add(number)
      continue
    }
    next++
    const begin = content - header.length
    if (at > begin || (begin - at) % tarBlockBytes !== 0)
      throw unlike(`${quotePath(entry.path)} is not where its index says`)
    for (const one of waiting.shrinkTo(begin - at)) late.add(one)
    if (waiting.bytes > 0) yield takeHeaders()
    if (begin > at) yield { kind: 'filler', begin: at, end: begin }
    const end = content + storedBytes(entry) + paddingBytes(storedBytes(entry))
    yield { kind: 'old', begin, end }
    at = end
  }
  if (waiting.bytes > 0) yield takeHeaders()
  for await (const bytes of tailOf(reader, needed, absorbed, late)) {
    yield { kind: 'new', begin: at, end: at + bytes.length, bytes }
    at += bytes.length
  }
}

/** Headers of the entries that are late, by their numbers among those that are needed, and of those that come from elsewhere. */
async function* tailOf(
  reader: ArchiveReader,
  needed: Needed,
  absorbed: readonly Absorbed[],
  late: ReadonlySet<number>,
): AsyncGenerator<Buffer, void, void> {
  let number = 0
  if (late.size > 0)
    for await (const { entry } of neededEntries(reader, needed))
      if (late.has(++number)) yield Buffer.from(encodeEntryHeader(entry))
  for await (const entry of carriedEntries(absorbed))
    if (hasMember(entry)) yield Buffer.from(encodeEntryHeader(entry))
  yield endOfArchive
}

/** Headers without content that wait for a place in the tar stream. */
class WaitingHeaders {
  #headers: { number: number; hasLinks: boolean; bytes: Buffer }[] = []
  bytes = 0

  add(number: number, { type, nlink }: Entry, bytes: Buffer): void {
    this.#headers.push({ number, hasLinks: type !== 'directory' && nlink > 1, bytes })
    this.bytes += bytes.length
  }

  /**
   * Leaves only what has room, and returns the numbers of the others. Names of one object stay, if they can: they have
   * an order.
   */
  shrinkTo(room: number): number[] {
    const left: number[] = []
    for (const linked of [false, true]) {
      this.#headers = this.#headers.filter(({ number, hasLinks, bytes }) => {
        if (this.bytes <= room || hasLinks !== linked) return true
        this.bytes -= bytes.length
        left.push(number)
        return false
      })
    }
    return left
  }

  take(): Buffer {
    const bytes = Buffer.concat(this.#headers.map((header) => header.bytes))
    this.#headers = []
    this.bytes = 0
    return bytes
  }
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

async function* allEntries(reader: ArchiveReader): AsyncGenerator<NeededEntry, void, void> {
  for await (const { entries } of reader.batches())
    for (const entry of entries)
      yield { entry, content: entry.extents.find(({ archive }) => archive === null)?.offset ?? null }
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
  { needed, absorbed, kept }: RepackPlan,
  file: RepackedFile,
): Promise<number> {
  const { header, end } = await headerAndEnd(reader)
  const encoder = new IndexBatchEncoder(await absorbHeaders(header, reader.path, absorbed, kept))
  encoder.reach(file.tarBytes - endOfArchive.length)
  let stored = 0
  async function* own(): AsyncGenerator<Entry, void, void> {
    const chosen = needed === null ? allEntries(reader) : neededEntries(reader, needed)
    for await (const { entry, content } of chosen) {
      if (content !== null) stored += storedBytes(entry)
      yield entry
    }
  }
  let last: BytePath | null = null
  for await (const entry of mergeByPath([own(), carriedEntries(absorbed)])) {
    if (entry.path === last) throw unlike(`${quotePath(entry.path)} stands in it and in one before it`)
    last = entry.path
    while (!encoder.add(entry)) await file.addBatch(encoder.take())
  }
  // All that is gone stays: what is gone in a run that is needed no more is gone in those that follow.
  const gone = mergeGone([...absorbed.map(({ path }) => goneOf(path)), goneOf(reader.path)])
  for await (const one of gone) while (!encoder.addGone(one)) await file.addBatch(encoder.take())
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
