import { frameBytesMax } from '../limits.ts'
import { addressOf } from '../native/libc.ts'

/** Not that of `Buffer`, which looks at its arguments for longer than it takes to fill a few hundred bytes. */
const fillZeros = Uint8Array.prototype.fill

/** Gets an empty block of `frameBytesMax` bytes, blocking until there is one; takes a full one. */
export interface BlockExchange {
  take(): Buffer
  give(block: Buffer, length: number): void
}

/**
 * The tar stream, cut into blocks. Small pieces are copied in; the content of files is read into `free` directly and
 * then counted by `advance`.
 */
export class BlockWriter {
  readonly #exchange: BlockExchange
  #block: Buffer
  #address: number
  #used = 0
  #emitted = 0

  constructor(exchange: BlockExchange) {
    this.#exchange = exchange
    this.#block = exchange.take()
    this.#address = addressOf(this.#block)
  }

  /** Offset in the tar stream of the next byte. */
  get offset(): number {
    return this.#emitted + this.#used
  }

  /** Bytes of the stream that lie in blocks already given away. */
  get emitted(): number {
    return this.#emitted
  }

  /** The block that is being filled; what may be written begins at `position` and ends at its end. */
  get block(): Buffer {
    return this.#block
  }

  get position(): number {
    return this.#used
  }

  /** Where `position` lies in memory: it does not move until `advance`. */
  get address(): number {
    return this.#address + this.#used
  }

  /** Counts `length` bytes that were put at `position`. Never leaves a full block, so there is always room. */
  advance(length: number): void {
    this.#used += length
    if (this.#used === frameBytesMax) this.flush()
  }

  write(bytes: Uint8Array): void {
    // Nearly always: no view is made for a header.
    if (bytes.length < frameBytesMax - this.#used) {
      this.#block.set(bytes, this.#used)
      this.#used += bytes.length
      return
    }
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + frameBytesMax - this.#used)
      this.#block.set(piece, this.#used)
      at += piece.length
      this.advance(piece.length)
    }
  }

  writeZeros(count: number): void {
    for (let left = count; left > 0; ) {
      const length = Math.min(left, frameBytesMax - this.#used)
      fillZeros.call(this.#block, 0, this.#used, this.#used + length)
      left -= length
      this.advance(length)
    }
  }

  /** Gives away what the block holds so far, if anything. */
  flush(): void {
    if (this.#used === 0) return
    this.#exchange.give(this.#block, this.#used)
    this.#emitted += this.#used
    this.#used = 0
    this.#block = this.#exchange.take()
    this.#address = addressOf(this.#block)
  }
}
