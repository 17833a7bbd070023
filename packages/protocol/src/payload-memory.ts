import { dataPayloadBytesMax } from './limits.ts'

/** A payload of less has memory of its own: so that a host with little in it takes little. */
const reusedBytesMin = 256 * 1024

/**
 * Memory for payloads of megabytes, many times a second, which is used again. To the collector, each new one is garbage
 * that makes it look through the whole heap every few messages. Nothing is left to it: what is given back is used again, or
 * freed at once. Who makes one disposes of it; what is given back after that is freed as well.
 */
export class PayloadMemory implements Disposable {
  readonly #spare: ArrayBuffer[] = []
  #isDisposed = false

  /** Memory for `length` bytes, at most `dataPayloadBytesMax`. What it holds is to be written over. */
  take(length: number): Buffer {
    if (length < reusedBytesMin) return Buffer.allocUnsafeSlow(length)
    return Buffer.from(this.#spare.pop() ?? new ArrayBuffer(dataPayloadBytesMax), 0, length)
  }

  /** Once nobody reads `payload` any more, which is empty from then on, or another one. */
  giveBack(payload: Buffer): void {
    const memory = payload.buffer as ArrayBuffer
    if (memory.byteLength === dataPayloadBytesMax && !this.#isDisposed) this.#spare.push(memory)
    else if (memory.byteLength === dataPayloadBytesMax || memory.byteLength === payload.length)
      memory.transfer(0)
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    for (const memory of this.#spare.splice(0)) memory.transfer(0)
  }
}
