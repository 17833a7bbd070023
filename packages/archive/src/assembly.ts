import { createHash } from 'node:crypto'
import { ArchiveError } from './errors.ts'
import { indexFrameMagic, parseZstdFrame, unwrapSkippable } from './frame.ts'
import { frameBytesMax, framesMax, indexBatchBytesMax, tarBytesMax } from './limits.ts'
import { SeekTableBuilder } from './seek-table.ts'

/** What is known of an archive when its last frame has come. */
export interface AssembledArchive {
  /** The bytes that end the file. */
  seekTable: Buffer
  /** SHA-256 of the whole file, seek table included. */
  digest: Buffer
  /** Size of the whole file, seek table included. */
  archiveBytes: number
  /** Size of the tar stream. */
  tarBytes: number
}

/**
 * Follows the frames of an archive from the first to the last, on either side of a connection, and knows in the end
 * what the file is. Does no input or output: the caller writes the bytes that it has given to `addFrame` and `addIndex`,
 * in that order, and `seekTable` after them.
 */
export class ArchiveAssembly {
  readonly #hash = createHash('sha256')
  readonly #rows = new SeekTableBuilder()
  #archiveBytes = 0
  #tarBytes = 0
  #endsInIndex = false
  #finished = false

  /** Bytes of the file so far. */
  get archiveBytes(): number {
    return this.#archiveBytes
  }

  /** Bytes of the tar stream so far. */
  get tarBytes(): number {
    return this.#tarBytes
  }

  /** Takes a data frame. Throws an `ArchiveError` and stays as it is where `bytes` are not exactly one. */
  addFrame(bytes: Uint8Array): void {
    const { contentBytes } = parseZstdFrame(bytes, frameBytesMax)
    // The seek table tells index frames by their empty content.
    if (contentBytes === 0) {
      throw new ArchiveError('frame-invalid', 'a data frame of an archive cannot be empty')
    }
    if (this.#tarBytes + contentBytes > tarBytesMax) {
      throw new ArchiveError('frame-too-large', `an archive holds at most ${tarBytesMax} bytes of tar stream`)
    }
    this.#append(bytes, contentBytes)
    this.#endsInIndex = false
  }

  /**
   * Takes an index frame as it stands in the file, its skippable header included. Looks at the frame, not at the batch
   * in it. Throws an `ArchiveError` and stays as it is where `bytes` are not exactly one.
   */
  addIndex(bytes: Uint8Array): void {
    parseZstdFrame(unwrapSkippable(indexFrameMagic, bytes), indexBatchBytesMax)
    this.#append(bytes, 0)
    this.#endsInIndex = true
  }

  /** Ends the archive, once. The last frame must have been one of the index. */
  finish(): AssembledArchive {
    if (!this.#endsInIndex) throw new ArchiveError('assembly-order', 'an archive ends in an index frame')
    if (this.#finished) throw outOfTurn()
    this.#finished = true
    const seekTable = this.#rows.build()
    this.#hash.update(seekTable)
    this.#archiveBytes += seekTable.length
    return {
      seekTable,
      digest: this.#hash.digest(),
      archiveBytes: this.#archiveBytes,
      tarBytes: this.#tarBytes,
    }
  }

  #append(bytes: Uint8Array, contentBytes: number): void {
    if (this.#finished) throw outOfTurn()
    if (this.#rows.frames === framesMax) {
      throw new ArchiveError('frame-too-large', `an archive has at most ${framesMax} frames`)
    }
    this.#hash.update(bytes)
    this.#rows.add(bytes.length, contentBytes)
    this.#archiveBytes += bytes.length
    this.#tarBytes += contentBytes
  }
}

function outOfTurn(): ArchiveError {
  return new ArchiveError('assembly-order', 'the archive has been finished')
}
