import { ArchiveAssembly } from './assembly.ts'
import { compressFrame, indexFrameMagic, wrapSkippable } from './frame.ts'
import { frameBytesMax } from './limits.ts'

/** An archive that is written, frame by frame. */
export class RepackedFile {
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

/** The end of a tar stream, in pieces of less than a frame, as frames of its own. */
export class Tail {
  readonly #file: RepackedFile
  #pieces: Buffer[] = []
  #bytes = 0

  constructor(file: RepackedFile) {
    this.#file = file
  }

  async add(piece: Buffer): Promise<void> {
    const room = frameBytesMax - this.#bytes
    this.#pieces.push(piece.subarray(0, room))
    this.#bytes += Math.min(room, piece.length)
    if (piece.length < room) return
    await this.end()
    if (piece.length > room) await this.add(piece.subarray(room))
  }

  async end(): Promise<void> {
    if (this.#bytes > 0) await this.#file.addFrame(compressFrame(Buffer.concat(this.#pieces)))
    this.#pieces = []
    this.#bytes = 0
  }
}
