const wordOf = { activity: 0, beats: 1, syncing: 2, pathBytes: 3 } as const
const wordCount = 4
const pathOffset = wordCount * Int32Array.BYTES_PER_ELEMENT
const pathBytesShown = 4096

/** What a restore and the thread that watches it share. */
export class TargetWatchState {
  readonly buffer: SharedArrayBuffer
  readonly #words: Int32Array
  readonly #path: Buffer

  /** Without `buffer`, the restore's side of a new one. */
  constructor(buffer = new SharedArrayBuffer(pathOffset + pathBytesShown)) {
    this.buffer = buffer
    this.#words = new Int32Array(buffer, 0, wordCount)
    this.#path = Buffer.from(buffer, pathOffset)
  }

  // The restore's side.

  /** Tells where it is now: the bytes of a path, as latin1. Long ones are cut at their start. */
  approach(path: string): void {
    const shown = path.length <= pathBytesShown ? path : path.slice(-pathBytesShown)
    this.#path.latin1Write(shown, 0)
    Atomics.store(this.#words, wordOf.pathBytes, shown.length)
    Atomics.add(this.#words, wordOf.activity, 1)
  }

  /** Shows that the thread is not stuck in a system call. */
  beat(): void {
    Atomics.add(this.#words, wordOf.beats, 1)
  }

  /** All that is left is to wait until what was written is on disk. */
  beginSync(): void {
    Atomics.store(this.#words, wordOf.syncing, 1)
    Atomics.add(this.#words, wordOf.activity, 1)
  }

  // The watching side.

  /** Changes whenever the restore got on. */
  get activity(): number {
    return Atomics.load(this.#words, wordOf.activity)
  }

  get beats(): number {
    return Atomics.load(this.#words, wordOf.beats)
  }

  get isSyncing(): boolean {
    return Atomics.load(this.#words, wordOf.syncing) === 1
  }

  /** For people; approximate while the restore gets on. */
  get path(): string {
    return this.#path.toString('utf8', 0, Atomics.load(this.#words, wordOf.pathBytes))
  }
}
