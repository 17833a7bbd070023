/**
 * What the packer's thread and its owner share while a run goes on: counters that show that it advances, the path it
 * is at, and two words by which the owner wakes or ends it. The packer works with synchronous calls and never reads
 * its messages otherwise.
 */
import type { BytePath } from '../path.ts'

const wordOf = {
  cancelled: 0,
  returned: 1,
  waiting: 2,
  activity: 3,
  entries: 4,
  pathBytes: 5,
  batchesDone: 6,
  warningBytesDone: 7,
} as const
const wordCount = 8
const contentBytesOffset = 32
const pathOffset = 40
const pathBytesShown = 4096

export class SharedState {
  readonly buffer: SharedArrayBuffer
  readonly #words: Int32Array
  readonly #contentBytes: Float64Array
  readonly #path: Buffer

  /** Without `buffer`, the owner's side of a new one. */
  constructor(buffer = new SharedArrayBuffer(pathOffset + pathBytesShown)) {
    this.buffer = buffer
    this.#words = new Int32Array(buffer, 0, wordCount)
    this.#contentBytes = new Float64Array(buffer, contentBytesOffset, 1)
    this.#path = Buffer.from(buffer, pathOffset, pathBytesShown)
  }

  // The packer's side.

  get isCancelled(): boolean {
    return Atomics.load(this.#words, wordOf.cancelled) === 1
  }

  /** Tells where the packer is now. Long paths are cut at their start. */
  approach(path: BytePath): void {
    const shown = path.length <= pathBytesShown ? path : path.slice(-pathBytesShown)
    this.#path.latin1Write(shown, 0)
    this.#words[wordOf.pathBytes] = shown.length
    this.#words[wordOf.activity]! += 1
  }

  addContent(bytes: number): void {
    this.#contentBytes[0]! += bytes
    this.#words[wordOf.activity]! += 1
  }

  addEntry(): void {
    this.#words[wordOf.entries]! += 1
  }

  /** Blocks until `takeBack` finds something or the owner cancels. `null` where it was cancelled. */
  waitFor<T>(takeBack: () => T | undefined): T | null {
    for (;;) {
      const returned = Atomics.load(this.#words, wordOf.returned)
      if (this.isCancelled) return null
      const taken = takeBack()
      if (taken !== undefined) return taken
      Atomics.store(this.#words, wordOf.waiting, 1)
      Atomics.wait(this.#words, wordOf.returned, returned)
      Atomics.store(this.#words, wordOf.waiting, 0)
      Atomics.add(this.#words, wordOf.activity, 1)
    }
  }

  /** Blocks for so long, or less where the owner has something to say. */
  pause(ms: number): void {
    Atomics.wait(this.#words, wordOf.returned, Atomics.load(this.#words, wordOf.returned), ms)
    Atomics.add(this.#words, wordOf.activity, 1)
  }

  /** Index batches that the owner is done with. */
  get batchesDone(): number {
    return Atomics.load(this.#words, wordOf.batchesDone)
  }

  /** Of warnings that the owner is done with; wraps around at 2^32. */
  get warningBytesDone(): number {
    return Atomics.load(this.#words, wordOf.warningBytesDone)
  }

  // The owner's side.

  addWarningBytesDone(bytes: number): void {
    Atomics.add(this.#words, wordOf.warningBytesDone, bytes)
    this.wake()
  }

  /** Tells that the owner is done with another index batch. */
  addBatchDone(): void {
    Atomics.add(this.#words, wordOf.batchesDone, 1)
    this.wake()
  }

  wake(): void {
    Atomics.add(this.#words, wordOf.returned, 1)
    Atomics.notify(this.#words, wordOf.returned)
  }

  cancel(): void {
    Atomics.store(this.#words, wordOf.cancelled, 1)
    this.wake()
  }

  /** Changes whenever the packer got on. */
  get activity(): number {
    return Atomics.load(this.#words, wordOf.activity)
  }

  /** The packer waits for its owner, not for the file system. */
  get isWaiting(): boolean {
    return Atomics.load(this.#words, wordOf.waiting) === 1
  }

  get entries(): number {
    return Atomics.load(this.#words, wordOf.entries)
  }

  get contentBytes(): number {
    return this.#contentBytes[0]!
  }

  /** Approximate while the packer runs. */
  get path(): BytePath {
    return this.#path.latin1Slice(0, this.#words[wordOf.pathBytes]!) as BytePath
  }
}
