import { type FileHandle, open } from 'node:fs/promises'
import {
  type ArchiveEnd,
  type ArchiveHeader,
  type Counts,
  type Entry,
  noCounts,
  storedBytes,
} from './entry.ts'
import { ArchiveError } from './errors.ts'
import { compressFrame, decompressFrame, indexFrameMagic, unwrapSkippable, wrapSkippable } from './frame.ts'
import { scanFrames } from './frame-scan.ts'
import { decodeIndexBatch, IndexBatchEncoder, IndexSequence } from './index-batch.ts'
import { framesMax, indexBatchBytesMax } from './limits.ts'
import { SeekTableBuilder } from './seek-table.ts'
import { endOfArchive } from './tar-header.ts'

/** How what a broken run left becomes a whole archive: the file is cut at `keptBytes`, and `tail` is appended. */
export interface Finish {
  header: ArchiveHeader
  end: ArchiveEnd
  keptBytes: number
  tail: Buffer[]
}

/** The place behind an index frame. */
interface Checkpoint {
  /** Number of frames up to here. */
  frames: number
  membersEnd: number
}

/**
 * Reads what a broken run left at `path`, and plans how it becomes an archive of what came whole: every frame is looked at
 * and compared with its checksum, and what counts is what stands before the first that is damaged or cut off. Entries
 * whose members came, but whose index did not, are lost. Changes nothing. Throws an `ArchiveError`
 * (`index-incomplete`) where no entry is left, the errors of the operating system, and the reason of the signal.
 */
export async function planFinish(path: string, signal?: AbortSignal): Promise<Finish> {
  const file = await open(path, 'r')
  try {
    const found = new FoundFrames()
    for await (const { kind, bytes } of scanFrames(file)) {
      signal?.throwIfAborted()
      if (!found.take(kind, bytes)) break
    }
    return await found.finish(path, file)
  } finally {
    await file.close()
  }
}

class FoundFrames {
  readonly #sequence = new IndexSequence()
  /** Where each frame ends, in the file and in the tar stream. */
  readonly #fileEnds: number[] = [0]
  readonly #tarEnds: number[] = [0]
  readonly #counts: Counts = noCounts()
  #header: ArchiveHeader | null = null
  #checkpoint: Checkpoint | null = null
  #end: ArchiveEnd | null = null

  /** False where the frame is not what can follow here: then nothing behind it is of use. */
  take(kind: 'data' | 'index', bytes: Buffer): boolean {
    if (this.#end !== null || this.#fileEnds.length > framesMax) return false
    try {
      if (kind === 'data') this.#add(bytes, decompressFrame(bytes).length)
      else this.#takeIndex(bytes)
      return true
    } catch (error) {
      if (error instanceof ArchiveError) return false
      throw error
    }
  }

  async finish(path: string, file: FileHandle): Promise<Finish> {
    const header = this.#header
    const checkpoint = this.#checkpoint
    if (header === null || checkpoint === null) {
      throw new ArchiveError(
        'index-incomplete',
        `${path}: not a single entry came before the run was broken off`,
      )
    }
    const { frames, membersEnd } = checkpoint
    // The run ended, and only the last steps are missing: nothing has to be cut.
    if (this.#end !== null) {
      const keptBytes = this.#fileEnds[frames]!
      return { header, end: this.#end, keptBytes, tail: [this.#seekTable(frames, []).build()] }
    }

    const cut = this.#tarEnds.findIndex((tarEnd, number) => number > 0 && tarEnd > membersEnd) - 1
    const kept = cut >= 0 && cut < frames ? cut : frames
    const { mtimeMs } = await file.stat()
    const end: ArchiveEnd = {
      outcome: 'incomplete',
      counts: this.#counts,
      finishedAtMs: Math.max(0, Math.round(mtimeMs)),
      broken: true,
    }
    const tail: { bytes: Buffer; tarBytes: number }[] = []
    for (let number = kept; number < frames; number++) {
      const bytes = await readFrame(file, this.#fileEnds[number]!, this.#fileEnds[number + 1]!)
      const tarBegin = this.#tarEnds[number]!
      if (this.#tarEnds[number + 1] === tarBegin) tail.push({ bytes, tarBytes: 0 })
      else if (tarBegin < membersEnd) {
        const content = decompressFrame(bytes).subarray(0, membersEnd - tarBegin)
        tail.push({ bytes: compressFrame(content), tarBytes: content.length })
      }
    }
    const encoder = new IndexBatchEncoder(null)
    encoder.reach(membersEnd)
    tail.push(
      { bytes: compressFrame(endOfArchive), tarBytes: endOfArchive.length },
      { bytes: wrapSkippable(indexFrameMagic, compressFrame(encoder.take(end))), tarBytes: 0 },
    )
    const seekTable = this.#seekTable(kept, tail).build()
    return {
      header,
      end,
      keptBytes: this.#fileEnds[kept]!,
      tail: [...tail.map(({ bytes }) => bytes), seekTable],
    }
  }

  #takeIndex(bytes: Buffer): void {
    const batch = decodeIndexBatch(
      decompressFrame(unwrapSkippable(indexFrameMagic, bytes), indexBatchBytesMax),
    )
    const { membersEnd } = batch
    if (membersEnd !== null && membersEnd > this.#tarEnds.at(-1)!)
      throw new ArchiveError('index-invalid', 'the index is ahead of the tar stream')
    this.#sequence.accept(batch)
    this.#header ??= batch.header
    this.#end = batch.end
    for (const entry of batch.entries) count(this.#counts, entry)
    this.#counts.gone += batch.gone.length
    this.#add(bytes, 0)
    const names = batch.entries.length + batch.gone.length > 0
    if (batch.end !== null || names)
      this.#checkpoint = { frames: this.#fileEnds.length - 1, membersEnd: membersEnd ?? this.#membersEnd }
  }

  get #membersEnd(): number {
    return this.#checkpoint?.membersEnd ?? 0
  }

  #add(bytes: Buffer, contentBytes: number): void {
    this.#fileEnds.push(this.#fileEnds.at(-1)! + bytes.length)
    this.#tarEnds.push(this.#tarEnds.at(-1)! + contentBytes)
  }

  /** Of the first `kept` frames, and of what follows them. */
  #seekTable(kept: number, tail: readonly { bytes: Buffer; tarBytes: number }[]): SeekTableBuilder {
    const table = new SeekTableBuilder()
    for (let number = 0; number < kept; number++) {
      table.add(
        this.#fileEnds[number + 1]! - this.#fileEnds[number]!,
        this.#tarEnds[number + 1]! - this.#tarEnds[number]!,
      )
    }
    for (const { bytes, tarBytes } of tail) table.add(bytes.length, tarBytes)
    return table
  }
}

async function readFrame(file: FileHandle, begin: number, end: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(end - begin)
  for (let filled = 0; filled < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, begin + filled)
    if (bytesRead === 0)
      throw new ArchiveError('archive-truncated', 'the file became shorter while it was read')
    filled += bytesRead
  }
  return bytes
}

const countedAs = {
  file: 'files',
  directory: 'directories',
  symlink: 'symlinks',
  hardlink: 'hardlinks',
  fifo: 'specials',
  'character-device': 'specials',
  'block-device': 'specials',
  socket: 'sockets',
} as const

/** As the packer counts. */
function count(counts: Counts, entry: Entry): void {
  const { type, extents, changedWhileRead } = entry
  counts[countedAs[type]]++
  if (changedWhileRead) counts.changed++
  if (extents.every(({ archive }) => archive === null)) counts.contentBytes += storedBytes(entry)
}
