import { Worker } from 'node:worker_threads'
import type { PackerMessage, PackerRequest } from './packer-worker.ts'

/** What becomes of the thread. After `ended` nothing follows. */
export interface PackerThreadOwner {
  receive(message: PackerMessage): void
  /** Of its own accord, or because it was ended; `error` where it broke. */
  ended(error: Error | null): void
}

/**
 * The packer's thread. It takes some 50 ms to start, so whoever knows that there will be something to pack starts it
 * beforehand and gives it to the `Packing`, which ends it. One that is not used has to be disposed.
 */
export class PackerThread implements Disposable {
  readonly #worker = new Worker(new URL(`./packer-worker${import.meta.url.slice(-3)}`, import.meta.url))
  #owner: PackerThreadOwner | null = null
  #error: Error | null = null
  #hasEnded = false

  constructor() {
    this.#worker.on('error', (error) => {
      this.#error = error instanceof Error ? error : new Error(String(error))
    })
    this.#worker.on('exit', () => {
      this.#hasEnded = true
      this.#owner?.ended(this.#error)
    })
    this.#worker.on('message', (message: PackerMessage) => this.#owner?.receive(message))
  }

  /** Gives it its work, once. That it has ended, it never tells before this returns. */
  run(request: PackerRequest, owner: PackerThreadOwner): void {
    this.#owner = owner
    if (this.#hasEnded) setImmediate(() => owner.ended(this.#error))
    else this.#worker.postMessage(request, request.baseline === null ? [] : [request.baseline])
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** The process need not wait for it: it may hang in a system call. */
  unref(): void {
    this.#worker.unref()
  }

  /** Ends it by force, which one that hangs in a system call only notices when that returns. */
  terminate(): void {
    void this.#worker.terminate()
    // `terminate` makes it count again.
    this.#worker.unref()
  }

  /** Ends a thread that has no work. */
  [Symbol.dispose](): void {
    if (this.#owner === null) this.terminate()
  }
}
