import { ArchiveError } from './errors.ts'
import { seekTableMagic, skippableHeaderBytes, unwrapSkippable, writeSkippableHeader } from './frame.ts'
import { frameBytesMax, frameCompressedBytesMax, framesMax, indexFrameBytesMax } from './limits.ts'

/**
 * The seek table of zstd's seekable format, version 0.1.0 (contrib/seekable_format in zstd's sources), without its
 * column of checksums: one row of 8 bytes for each frame before it, and a footer of 9 bytes, in a skippable frame.
 */

const rowBytes = 8
const footerMagic = 0x8f92eab1

/** What a file must end in: number of frames, a descriptor, a magic number. */
export const seekTableFooterBytes = 9

/** Size of the whole skippable frame for a number of frames before it. */
export function seekTableBytes(frames: number): number {
  return skippableHeaderBytes + frames * rowBytes + seekTableFooterBytes
}

/** Gathers the rows of the frames of an archive, in their order. */
export class SeekTableBuilder {
  #rows = Buffer.allocUnsafeSlow(1024 * rowBytes)
  #frames = 0

  get frames(): number {
    return this.#frames
  }

  /** Sizes of a frame in the file and of its content; the content of a skippable frame is 0 bytes. */
  add(frameBytes: number, contentBytes: number): void {
    const at = this.#frames * rowBytes
    if (at === this.#rows.length) {
      const grown = Buffer.allocUnsafeSlow(2 * at)
      this.#rows.copy(grown)
      this.#rows = grown
    }
    this.#rows.writeUInt32LE(frameBytes, at)
    this.#rows.writeUInt32LE(contentBytes, at + 4)
    this.#frames++
  }

  /** The skippable frame. */
  build(): Buffer {
    const size = seekTableBytes(this.#frames)
    const table = Buffer.allocUnsafeSlow(size)
    writeSkippableHeader(table, seekTableMagic, size - skippableHeaderBytes)
    this.#rows.copy(table, skippableHeaderBytes, 0, this.#frames * rowBytes)
    table.writeUInt32LE(this.#frames, size - 9)
    table[size - 5] = 0
    table.writeUInt32LE(footerMagic, size - 4)
    return table
  }
}

/** Where a frame lies: in the file, and its content in the tar stream. */
export interface FramePlace {
  fileOffset: number
  fileBytes: number
  tarOffset: number
  /** 0 for an index frame. */
  tarBytes: number
}

/**
 * Reads how large the seek table is from the last `seekTableFooterBytes` of a file. Throws an `ArchiveError`
 * (`not-an-archive`) where they are no footer.
 */
export function parseSeekTableFooter(footer: Buffer): number {
  if (footer.length !== seekTableFooterBytes || footer.readUInt32LE(5) !== footerMagic) {
    throw new ArchiveError('not-an-archive', 'the file does not end in a seek table', {
      hint: 'It is no archive of central-backup, or it was cut off. What is there can be tried with zstd -dc | tar -x.',
    })
  }
  if (footer[4] !== 0) throw invalid(`its descriptor is 0x${footer[4]!.toString(16)}, and only 0 is known`)
  const frames = footer.readUInt32LE(0)
  if (frames > framesMax) throw invalid(`it has ${frames} frames, at most ${framesMax} are allowed`)
  return seekTableBytes(frames)
}

/** The seek table of an archive, ready for look-ups. Takes 16 bytes of memory a frame. */
export class SeekTable {
  readonly frames: number
  /** Size of the tar stream. */
  readonly tarBytes: number
  /** Starts of the frames and, last, the end of the last one. */
  readonly #fileOffsets: Float64Array
  readonly #tarOffsets: Float64Array

  private constructor(fileOffsets: Float64Array, tarOffsets: Float64Array) {
    this.frames = fileOffsets.length - 1
    this.tarBytes = tarOffsets[this.frames]!
    this.#fileOffsets = fileOffsets
    this.#tarOffsets = tarOffsets
  }

  /**
   * Reads the skippable frame that ends an archive of `archiveBytes`, and checks that its rows are possible frames,
   * that they fill the file up to the table exactly, and that the last one is an index frame. Throws an `ArchiveError`.
   */
  static parse(bytes: Uint8Array, archiveBytes: number): SeekTable {
    const payload = unwrapSkippable(seekTableMagic, bytes)
    const footer = payload.subarray(Math.max(0, payload.length - seekTableFooterBytes))
    if (parseSeekTableFooter(footer) !== bytes.length) throw invalid('it has not as many rows as frames')
    const frames = (payload.length - seekTableFooterBytes) / rowBytes
    if (frames === 0) throw invalid('it is empty')

    const fileOffsets = new Float64Array(frames + 1)
    const tarOffsets = new Float64Array(frames + 1)
    for (let i = 0; i < frames; i++) {
      const frameBytes = payload.readUInt32LE(i * rowBytes)
      const contentBytes = payload.readUInt32LE(i * rowBytes + 4)
      const frameMax = contentBytes === 0 ? indexFrameBytesMax : frameCompressedBytesMax
      if (frameBytes === 0 || frameBytes > frameMax || contentBytes > frameBytesMax) {
        throw invalid(`frame ${i} cannot have ${frameBytes} bytes with ${contentBytes} bytes of content`)
      }
      fileOffsets[i + 1] = fileOffsets[i]! + frameBytes
      tarOffsets[i + 1] = tarOffsets[i]! + contentBytes
    }
    if (fileOffsets[frames]! + bytes.length !== archiveBytes) {
      const sum = fileOffsets[frames]! + bytes.length
      const message = `the file has ${archiveBytes} bytes, its seek table says ${sum}`
      const hint = 'The file was cut or put together from pieces. Take it from another copy.'
      throw new ArchiveError('archive-truncated', message, { hint })
    }
    if (tarOffsets[frames] !== tarOffsets[frames - 1]) throw invalid('no index frame stands before it')
    return new SeekTable(fileOffsets, tarOffsets)
  }

  /** The place of frame `number`, counted from 0. */
  place(number: number): FramePlace {
    const fileOffset = this.#fileOffsets[number]!
    const tarOffset = this.#tarOffsets[number]!
    return {
      fileOffset,
      fileBytes: this.#fileOffsets[number + 1]! - fileOffset,
      tarOffset,
      tarBytes: this.#tarOffsets[number + 1]! - tarOffset,
    }
  }

  /** The number of the data frame that holds a byte of the tar stream, which `offset` must lie in. */
  frameAt(offset: number): number {
    if (!(offset >= 0 && offset < this.tarBytes)) {
      throw new ArchiveError(
        'range-invalid',
        `byte ${offset} is outside a tar stream of ${this.tarBytes} bytes`,
      )
    }
    // The last frame that begins at or before the offset: index frames, which are empty, never are that.
    let low = 0
    let high = this.frames
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#tarOffsets[middle]! <= offset) low = middle
      else high = middle
    }
    return low
  }

  /** The numbers of the index frames, in order. */
  *indexFrames(): Generator<number, void, void> {
    for (let i = 0; i < this.frames; i++) if (this.#tarOffsets[i] === this.#tarOffsets[i + 1]) yield i
  }
}

function invalid(reason: string): ArchiveError {
  return new ArchiveError('seek-table-invalid', `the seek table is not valid: ${reason}`, {
    hint: 'The archive is damaged; its content can still be read with zstd -dc | tar -x.',
  })
}
