import { frameBytesMax, frameCompressedBytesMax } from '../limits.ts'
import { releasePages } from '../native/libc.ts'

/**
 * Room for a block of the tar stream, and for the frame that becomes of it. All threads see the same memory: buffers that
 * travel from thread to thread count as garbage of each, and make the collector run after every few blocks.
 */
export interface BlockRoom {
  readonly block: SharedArrayBuffer
  readonly frame: SharedArrayBuffer
}

/**
 * Room for blocks, for all packings of a process. It is used again and never freed, as nobody can tell when the last thread
 * has forgotten it; what is not in use takes no memory but addresses.
 */
export class BlockMemory {
  readonly #spare: BlockRoom[] = []

  /** How much of it nobody uses. */
  get spare(): number {
    return this.#spare.length
  }

  take(count: number): BlockRoom[] {
    const rooms = this.#spare.splice(0, count)
    while (rooms.length < count) {
      rooms.push({
        block: new SharedArrayBuffer(frameBytesMax),
        frame: new SharedArrayBuffer(frameCompressedBytesMax),
      })
    }
    return rooms
  }

  /** No thread may touch the room any more. Its bytes are gone. */
  giveBack(room: BlockRoom): void {
    releasePages(Buffer.from(room.block))
    releasePages(Buffer.from(room.frame))
    this.#spare.push(room)
  }
}

/** Which blocks of a packing are free to be filled, by their numbers. Its owner and its packer share the buffer. */
export class FreeBlocks {
  readonly buffer: SharedArrayBuffer
  readonly #free: Int32Array

  /** On the owner's side, with the number of blocks, all of which are free; on the other with the owner's buffer. */
  constructor(blocks: number | SharedArrayBuffer) {
    this.buffer = typeof blocks === 'number' ? new SharedArrayBuffer(4 * blocks) : blocks
    this.#free = new Int32Array(this.buffer)
    if (typeof blocks === 'number') this.#free.fill(1)
  }

  /** A block that is not free any more; `undefined` where there is none. Only the packer takes. */
  take(): number | undefined {
    for (let number = 0; number < this.#free.length; number++) {
      if (Atomics.compareExchange(this.#free, number, 1, 0) === 1) return number
    }
    return undefined
  }

  give(number: number): void {
    Atomics.store(this.#free, number, 1)
  }
}
