import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import type { Entry } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { decompressFrame, indexFrameMagic, unwrapSkippable } from './frame.ts'
import { decodeIndexBatch, type IndexBatch, IndexSequence } from './index-batch.ts'
import { indexBatchBytesMax } from './limits.ts'
import { quotePath } from './path.ts'
import { type FramePlace, parseSeekTableFooter, SeekTable, seekTableFooterBytes } from './seek-table.ts'
import { SparseReader } from './sparse-map.ts'

/**
 * Reads an archive file from any place in it. Trusts nothing in the file: whatever is wrong with it becomes an
 * `ArchiveError` that names the file, and no more than one frame and the seek table are held in memory.
 * Who opens a reader closes it.
 */
export class ArchiveReader {
  /** As it was given to `open`. */
  readonly path: string
  readonly archiveBytes: number
  readonly #file: FileHandle
  readonly #table: SeekTable
  /** The data frame that was read last: reads in sequence, or of small files side by side, decompress it once. */
  #cached: { number: number; content: Buffer } | undefined

  private constructor(path: string, file: FileHandle, archiveBytes: number, table: SeekTable) {
    this.path = path
    this.archiveBytes = archiveBytes
    this.#file = file
    this.#table = table
  }

  /**
   * Opens the file and reads its seek table. Rejects with an `ArchiveError` where the file is no whole archive, and with
   * the error of the system where it cannot be opened or read.
   */
  static async open(path: string): Promise<ArchiveReader> {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      const table = await readSeekTable(file, size)
      return new ArchiveReader(path, file, size, table)
    } catch (error) {
      await file.close()
      throw inFile(path, error)
    }
  }

  /** Size of the tar stream. */
  get tarBytes(): number {
    return this.#table.tarBytes
  }

  /**
   * The index, batch after batch, checked to be one whole index. Where the run was broken off and the last batch is
   * missing, an `ArchiveError` (`index-incomplete`) follows the batches that are there.
   */
  async *batches(): AsyncGenerator<IndexBatch, void, void> {
    const sequence = new IndexSequence()
    for (const number of this.#table.indexFrames()) {
      yield await this.#inFile(async () => {
        const { fileOffset, fileBytes } = this.#table.place(number)
        const frame = unwrapSkippable(indexFrameMagic, await readExactly(this.#file, fileOffset, fileBytes))
        const batch = decodeIndexBatch(decompressFrame(frame, indexBatchBytesMax))
        sequence.accept(batch)
        return batch
      })
    }
    await this.#inFile(() => sequence.finish())
  }

  /**
   * `length` bytes of the tar stream from `offset` on, in pieces that are views of frames and may be kept. Reads only the
   * frames that hold them. Throws an `ArchiveError` (`range-invalid`) where they are not all there.
   */
  async *readTar(offset: number, length: number): AsyncGenerator<Buffer, void, void> {
    const end = offset + length
    if (!(offset >= 0 && length >= 0 && end <= this.tarBytes)) {
      const message = `bytes ${offset} to ${end} are not in a tar stream of ${this.tarBytes} bytes`
      throw inFile(this.path, new ArchiveError('range-invalid', message))
    }
    for (let at = offset; at < end; ) {
      const number = this.#table.frameAt(at)
      const { tarOffset } = this.#table.place(number)
      const content = await this.#frame(number)
      const piece = content.subarray(at - tarOffset, Math.min(content.length, end - tarOffset))
      at += piece.length
      yield piece
    }
  }

  /**
   * What is stored of the content of a file (of a sparse one, its map and data), whose extents all lie in this archive,
   * compared with its digest, and the map with the size: an `ArchiveError` (`content-damaged`) follows the last piece where
   * it is not what was recorded. Throws one of `content-elsewhere`
   * before the first piece where an extent lies in another archive.
   */
  async *readContent(entry: Entry): AsyncGenerator<Buffer, void, void> {
    const elsewhere = entry.extents.find(({ archive }) => archive !== null)
    if (elsewhere !== undefined) {
      const message = `the content of ${quotePath(entry.path)} lies in the archive ${elsewhere.archive}`
      throw inFile(this.path, new ArchiveError('content-elsewhere', message))
    }
    const hash = createHash('sha256')
    const sparse = entry.storedSize === null ? null : new SparseReader(entry.size, entry.storedSize)
    for (const { offset, length } of entry.extents) {
      for await (const piece of this.readTar(offset, length)) {
        hash.update(piece)
        sparse?.add(piece)
        yield piece
      }
    }
    const sameDigest = entry.digest === null || hash.digest().equals(entry.digest)
    const fault = sameDigest ? (sparse?.fault ?? null) : 'its SHA-256 differs'
    if (fault === null) return
    const message = `the content of ${quotePath(entry.path)} is not what was backed up: ${fault}`
    throw inFile(
      this.path,
      new ArchiveError('content-damaged', message, { hint: 'Take the file from another run.' }),
    )
  }

  /** The places of the data frames, in order, each with its number. */
  *dataFrames(): Generator<{ number: number; place: FramePlace }, void, void> {
    for (let number = 0; number < this.#table.frames; number++) {
      const place = this.#table.place(number)
      if (place.tarBytes > 0) yield { number, place }
    }
  }

  /** A frame as it stands in the file. */
  async rawFrame(number: number): Promise<Buffer> {
    const { fileOffset, fileBytes } = this.#table.place(number)
    return this.#inFile(() => readExactly(this.#file, fileOffset, fileBytes))
  }

  async close(): Promise<void> {
    this.#cached = undefined
    await this.#file.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #frame(number: number): Promise<Buffer> {
    if (this.#cached?.number === number) return this.#cached.content
    const { fileOffset, fileBytes, tarBytes } = this.#table.place(number)
    const content = await this.#inFile(async () => {
      const content = decompressFrame(await readExactly(this.#file, fileOffset, fileBytes), tarBytes)
      if (content.length === tarBytes) return content
      const message = `frame ${number} holds ${content.length} bytes, its row of the seek table says ${tarBytes}`
      throw new ArchiveError('seek-table-invalid', message)
    })
    this.#cached = { number, content }
    return content
  }

  async #inFile<T>(action: () => T | Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      throw inFile(this.path, error)
    }
  }
}

async function readSeekTable(file: FileHandle, archiveBytes: number): Promise<SeekTable> {
  const footerOffset = Math.max(0, archiveBytes - seekTableFooterBytes)
  const footer = await readExactly(file, footerOffset, archiveBytes - footerOffset)
  const tableBytes = parseSeekTableFooter(footer)
  if (tableBytes > archiveBytes) {
    const message = `the file has ${archiveBytes} bytes, its seek table alone has ${tableBytes}`
    throw new ArchiveError('archive-truncated', message, { hint: 'The beginning of the file is missing.' })
  }
  return SeekTable.parse(await readExactly(file, archiveBytes - tableBytes, tableBytes), archiveBytes)
}

async function readExactly(file: FileHandle, position: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(size)
  for (let filled = 0; filled < size; ) {
    const { bytesRead } = await file.read(bytes, filled, size - filled, position + filled)
    if (bytesRead === 0) {
      throw new ArchiveError(
        'archive-truncated',
        `the file ends at byte ${position + filled}, in the middle of something`,
      )
    }
    filled += bytesRead
  }
  return bytes
}

function inFile(path: string, error: unknown): unknown {
  if (!(error instanceof ArchiveError)) return error
  return new ArchiveError(error.code, `${path}: ${error.message}`, { hint: error.hint, cause: error })
}
