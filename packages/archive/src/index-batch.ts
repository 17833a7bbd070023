import {
  ArchiveTable,
  archiveBytesMax,
  checkArchiveName,
  readArchiveNames,
  writeArchiveNames,
} from './archive-table.ts'
import type { ArchiveEnd, ArchiveHeader, Entry, Gone } from './entry.ts'
import { checkEntryLimits } from './entry-limits.ts'
import { ArchiveError } from './errors.ts'
import {
  endBytesMax,
  expectKey,
  headerBytesMax,
  readEnd,
  readHeader,
  writeEnd,
  writeHeader,
} from './index-header.ts'
import { type IndexKind, readRow, rowBytesMax, writeRow } from './index-row.ts'
import { batchArchivesMax, indexBatchBytesMax, tarBytesMax } from './limits.ts'
import { MsgpackReader, MsgpackWriter } from './msgpack.ts'
import { type BytePath, comparePaths, isSafePath, isWithin, pathBytesMax, quotePath } from './path.ts'

/** The index of an archive comes in batches: msgpack, at most `indexBatchBytesMax` each, entries in path order. */
export interface IndexBatch {
  /** In the first batch of an index only. */
  header: ArchiveHeader | null
  entries: Entry[]
  /** In path order, of an incremental run only. */
  gone: Gone[]
  /**
   * Where the tar stream has the end of the last member that this batch or one before it has an entry of: what comes first
   * is whole there. `null` in what is no part of an archive.
   */
  membersEnd: number | null
  /** In the last batch of an index only. */
  end: ArchiveEnd | null
}

const version = 1

/** The number of a reason is its place here: only ever add to the end. */
const goneReasons: readonly Gone['reason'][] = ['deleted', 'unselected']

/** Keys of a batch, and the beginnings of its array and maps. */
const mapBytesMax = 96

const rowsBytesInitial = 256 * 1024

/**
 * Builds batches row by row. The entries come in the order of `comparePaths` and are not kept: what is held is the
 * batch itself. Use: `add` until it returns false, `take`, and again; `take(end)` for the last one.
 */
export class IndexBatchEncoder {
  readonly #rows = new MsgpackWriter(rowsBytesInitial)
  readonly #gone = new MsgpackWriter(1024)
  readonly #archives = new ArchiveTable()
  #header: ArchiveHeader | null
  #headerBytes: number
  #count = 0
  #goneCount = 0
  #membersEnd: number | null = null

  /** `header` goes into the first batch. */
  constructor(header: ArchiveHeader | null) {
    this.#header = header
    this.#headerBytes = header === null ? 0 : headerBytesMax(header)
  }

  /** Nothing was added since the last `take`. */
  get isEmpty(): boolean {
    return this.#count + this.#goneCount === 0
  }

  /** Size of the batch as it is, to some hundred bytes. */
  get sizeBytes(): number {
    return this.#rows.length + this.#gone.length + this.#archives.bytes + this.#headerBytes
  }

  /**
   * Adds an entry; false where the batch has no room for it and has to be taken first. Throws an `ArchiveError`
   * (`entry-limit`) for an entry that no index can hold.
   */
  add(entry: Entry): boolean {
    checkEntryLimits(entry)
    const rowBytes = rowBytesMax(entry)
    let added = rowBytes
    const newArchives = this.#archives.missingFrom(entry.extents)
    for (const name of newArchives) {
      checkArchiveName(name)
      added += archiveBytesMax(name)
    }
    if (this.sizeBytes + added > indexBatchBytesMax - endBytesMax - mapBytesMax) return false
    if (this.#archives.names.length + newArchives.size > batchArchivesMax) {
      if (newArchives.size > batchArchivesMax) throw tooManyArchives(entry, newArchives.size)
      return false
    }
    this.#rows.reserve(rowBytes)
    writeRow(this.#rows, entry, this.#archives)
    this.#count++
    return true
  }

  /** Adds a path that is gone; false where the batch has no room for it and has to be taken first. */
  addGone({ path, reason }: Gone): boolean {
    const rowBytes = 8 + path.length
    if (this.sizeBytes + rowBytes > indexBatchBytesMax - endBytesMax - mapBytesMax) return false
    this.#gone.reserve(rowBytes)
    this.#gone.array(2)
    this.#gone.byteString(path)
    this.#gone.integer(goneReasons.indexOf(reason))
    this.#goneCount++
    return true
  }

  /** Notes that all members of what was added end at or before this offset of the tar stream. */
  reach(membersEnd: number): void {
    this.#membersEnd = membersEnd
  }

  /** The batch, in a buffer that nothing else uses; a new one begins. */
  take(end: ArchiveEnd | null = null): Buffer {
    const header = this.#header
    const { names } = this.#archives
    const writer = new MsgpackWriter(this.sizeBytes + endBytesMax + mapBytesMax)
    const hasGone = this.#goneCount > 0
    const membersEnd = this.#membersEnd
    const keys = [header !== null, names.length > 0, hasGone, membersEnd !== null, end !== null]
    writer.map(2 + keys.filter(Boolean).length)
    writer.text('v')
    writer.integer(version)
    if (header !== null) {
      writer.text('header')
      writeHeader(writer, header)
    }
    if (names.length > 0) {
      writer.text('archives')
      writeArchiveNames(writer, names)
    }
    writer.text('entries')
    writer.array(this.#count)
    writer.raw(this.#rows.written)
    if (hasGone) {
      writer.text('gone')
      writer.array(this.#goneCount)
      writer.raw(this.#gone.written)
    }
    if (membersEnd !== null) {
      writer.text('membersEnd')
      writer.integer(membersEnd)
    }
    if (end !== null) {
      writer.text('end')
      writeEnd(writer, end)
    }
    this.#begin()
    const batch = Buffer.allocUnsafeSlow(writer.length)
    batch.set(writer.written)
    return batch
  }

  #begin(): void {
    this.#rows.clear()
    this.#gone.clear()
    this.#archives.clear()
    this.#goneCount = 0
    this.#header = null
    this.#headerBytes = 0
    this.#count = 0
  }
}

/** One batch at once. Throws an `ArchiveError` where it would be larger than `indexBatchBytesMax`. */
export function encodeIndexBatch(
  batch: Omit<IndexBatch, 'membersEnd'> & Partial<Pick<IndexBatch, 'membersEnd'>>,
): Buffer {
  const encoder = new IndexBatchEncoder(batch.header)
  if (batch.membersEnd != null) encoder.reach(batch.membersEnd)
  for (const entry of batch.entries) {
    if (encoder.add(entry)) continue
    throw new ArchiveError(
      'entry-limit',
      `${batch.entries.length} entries do not fit into one batch of the index`,
    )
  }
  for (const one of batch.gone) {
    if (encoder.addGone(one)) continue
    throw new ArchiveError(
      'entry-limit',
      `${batch.gone.length} paths that are gone do not fit into one batch of the index`,
    )
  }
  return encoder.take(batch.end)
}

/**
 * Reads a batch and checks it against every rule of the format, so that what comes out can be trusted to be what its
 * types say, with safe paths in strictly ascending order. Throws an `ArchiveError`. Digests and values of extended
 * attributes are views of `bytes`. `kind` is `listing` for what a dry run sends: entries without their content. `order` is
 * `any` for entries that do not stand in an archive, but are streamed in another order.
 */
export function decodeIndexBatch(
  bytes: Uint8Array,
  kind: IndexKind = 'archive',
  order: 'ascending' | 'any' = 'ascending',
): IndexBatch {
  if (bytes.length > indexBatchBytesMax) {
    throw new ArchiveError('index-invalid', `a batch of ${bytes.length} bytes is over ${indexBatchBytesMax}`)
  }
  const reader = new MsgpackReader(bytes)
  let keysLeft = reader.map('batch') - 2
  readVersion(reader)
  let header: ArchiveHeader | null = null
  if (reader.key('header')) {
    header = readHeader(reader)
    keysLeft--
  }
  let archives: string[] = []
  if (reader.key('archives')) {
    archives = readArchiveNames(reader)
    keysLeft--
  }
  expectKey(reader, 'entries')
  const entries = readEntries(reader, archives, kind, order === 'ascending')
  let gone: Gone[] = []
  if (reader.key('gone')) {
    gone = readGone(reader)
    keysLeft--
  }
  let membersEnd: number | null = null
  if (reader.key('membersEnd')) {
    membersEnd = reader.unsigned(tarBytesMax, 'membersEnd')
    keysLeft--
  }
  let end: ArchiveEnd | null = null
  if (reader.key('end')) {
    end = readEnd(reader)
    keysLeft--
  }
  if (keysLeft !== 0 || !reader.isAtEnd) throw reader.error('the batch ends here')
  return { header, entries, gone, membersEnd, end }
}

/**
 * The entries of a batch that has nothing else, one at a time, so that no more than one of them takes memory: `null` after
 * the last. Checks, errors and views are those of `decodeIndexBatch`, each where its entry is read.
 */
export function entriesOfBatch(bytes: Uint8Array): () => Entry | null {
  const reader = new MsgpackReader(bytes)
  let keysLeft = reader.map('batch') - 2
  readVersion(reader)
  let archives: string[] = []
  if (reader.key('archives')) {
    archives = readArchiveNames(reader)
    keysLeft--
  }
  expectKey(reader, 'entries')
  let left = reader.array(indexBatchBytesMax, 'entries')
  let previous = '' as BytePath
  return () => {
    if (left-- > 0) {
      const entry = readRow(reader, archives, 'archive')
      if (comparePaths(entry.path, previous) <= 0) throw outOfOrder(entry.path, previous)
      previous = entry.path
      return entry
    }
    if (keysLeft !== 0 || !reader.isAtEnd) throw reader.error('the batch ends here')
    return null
  }
}

function readVersion(reader: MsgpackReader): void {
  expectKey(reader, 'v')
  const found = reader.unsigned(Number.MAX_SAFE_INTEGER, 'version')
  if (found === version) return
  const message = `the index is of version ${found}; this program knows version ${version}`
  const hint = 'A newer release made this archive: read it with that one, or extract it with tar.'
  throw new ArchiveError('index-invalid', message, { hint })
}

function readEntries(
  reader: MsgpackReader,
  archives: readonly string[],
  kind: IndexKind,
  ascending: boolean,
): Entry[] {
  const count = reader.array(indexBatchBytesMax, 'entries')
  const entries: Entry[] = []
  let previous = '' as BytePath
  for (let i = 0; i < count; i++) {
    const entry = readRow(reader, archives, kind)
    if (ascending && comparePaths(entry.path, previous) <= 0) throw outOfOrder(entry.path, previous)
    previous = entry.path
    entries.push(entry)
  }
  return entries
}

function readGone(reader: MsgpackReader): Gone[] {
  const count = reader.array(indexBatchBytesMax, 'gone')
  const gone: Gone[] = []
  let previous = '' as BytePath
  for (let i = 0; i < count; i++) {
    if (reader.array(2, 'gone') !== 2) throw reader.error('gone: a path and a reason expected')
    const path = reader.byteString(pathBytesMax, 'path') as BytePath
    if (!isSafePath(path)) throw reader.error(`path: ${quotePath(path)} is no path for an archive`)
    if (comparePaths(path, previous) <= 0) throw outOfOrder(path, previous)
    previous = path
    gone.push({ path, reason: goneReasons[reader.unsigned(goneReasons.length - 1, 'reason')]! })
  }
  return gone
}

/**
 * Checks that batches, each of which `decodeIndexBatch` has taken, make one index together: the header in the first
 * and the end in the last, paths that ascend from each to the next, and nothing gone where nothing stood before. What is
 * gone ends all below it, which is some work: so it is named once, but in an archive that has taken over others.
 */
export class IndexSequence {
  #batches = 0
  #ended = false
  #full = false
  #mayGoAgain = false
  #last = '' as BytePath
  #lastGone = '' as BytePath

  accept(batch: IndexBatch): void {
    if (this.#ended) throw outOfTurn('a batch follows the one that ends it')
    if ((batch.header !== null) !== (this.#batches === 0)) {
      throw outOfTurn(this.#batches === 0 ? 'it begins without a header' : 'a header stands in its middle')
    }
    this.#full ||= batch.header?.kind === 'full'
    this.#mayGoAgain ||= batch.header != null && batch.header.repack !== null
    if (this.#full && batch.gone.length > 0) throw outOfTurn('it is of a full run, and names what is gone')
    const first = batch.entries[0]
    if (first !== undefined && comparePaths(first.path, this.#last) <= 0) {
      throw outOfOrder(first.path, this.#last)
    }
    this.#last = batch.entries.at(-1)?.path ?? this.#last
    const firstGone = batch.gone[0]
    if (firstGone !== undefined && comparePaths(firstGone.path, this.#lastGone) <= 0) {
      throw outOfOrder(firstGone.path, this.#lastGone)
    }
    for (const { path } of batch.gone) {
      if (!this.#mayGoAgain && this.#lastGone !== '' && isWithin(path, this.#lastGone))
        throw outOfTurn(`${quotePath(path)} is gone with ${quotePath(this.#lastGone)}, and named again`)
      this.#lastGone = path
    }
    this.#ended = batch.end !== null
    this.#batches++
  }

  /** Throws an `ArchiveError` (`index-incomplete`) where the last batch has not been accepted. */
  finish(): void {
    if (this.#ended) return
    const message = `the index ends after ${this.#batches} batches without its last one`
    const hint = 'The run that made the archive was broken off. What is there can be extracted with tar.'
    throw new ArchiveError('index-incomplete', message, { hint })
  }
}

function outOfTurn(reason: string): ArchiveError {
  return new ArchiveError('index-invalid', `the index is not valid: ${reason}`)
}

function outOfOrder(path: BytePath, previous: BytePath): ArchiveError {
  const message = `the index is out of order: ${quotePath(path)} follows ${quotePath(previous)}`
  return new ArchiveError('index-order', message)
}

function tooManyArchives(entry: Entry, found: number): ArchiveError {
  const message = `${quotePath(entry.path)} lies in pieces in ${found} archives; at most ${batchArchivesMax} can be named`
  return new ArchiveError('entry-limit', message)
}
