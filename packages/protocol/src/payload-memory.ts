import { dataPayloadBytesMax } from './limits.ts'

/**
 * Memory for payloads of megabytes, many times a second, which is used again. To the collector, each new one is garbage
 * that makes it look through the whole heap every few messages; this it does not count as anybody's.
 */
export class PayloadMemory {
  readonly #spare: SharedArrayBuffer[] = []

  /** Memory for `length` bytes, at most `dataPayloadBytesMax`. What it holds is to be written over. */
  take(length: number): Buffer {
    return Buffer.from(this.#spare.pop() ?? new SharedArrayBuffer(dataPayloadBytesMax), 0, length)
  }

  /** Once nobody reads `payload` any more. One that is not from here is the collector's. */
  giveBack(payload: Buffer): void {
    const memory: ArrayBufferLike = payload.buffer
    if (memory instanceof SharedArrayBuffer) this.#spare.push(memory)
  }
}
