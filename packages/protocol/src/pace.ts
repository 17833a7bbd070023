/** Time that was not used is not saved up for longer than this. */
const creditMsMax = 1000

/**
 * How fast something may go on: what was added takes its time, and until that is over, one has to wait. Several may share
 * one, and come in turns. Holds a timer only while somebody waits.
 */
export class Pace {
  readonly #bytesPerSecond: number
  readonly #now: () => number
  /** When all that was added is paid for. */
  #paidAtMs = 0
  #timer: NodeJS.Timeout | null = null
  /** Who is called when the time is over, in the order in which they came. */
  readonly #waiting = new Set<() => void>()

  constructor(bytesPerSecond: number, now: () => number = () => performance.now()) {
    this.#bytesPerSecond = bytesPerSecond
    this.#now = now
  }

  add(bytes: number): void {
    const from = Math.max(this.#paidAtMs, this.#now() - creditMsMax)
    this.#paidAtMs = from + (bytes / this.#bytesPerSecond) * 1000
  }

  /** False where one may go on; else `resume` is called, once, when it may be so. Calls with the same one add nothing. */
  mustWait(resume: () => void): boolean {
    if (this.#waiting.has(resume)) return true
    if (this.#paidAtMs <= this.#now()) return false
    this.#waiting.add(resume)
    this.#wait()
    return true
  }

  /** Forgets who waits. Returns whether it did. */
  leave(resume: () => void): boolean {
    const has = this.#waiting.delete(resume)
    if (this.#waiting.size === 0 && this.#timer !== null) {
      clearTimeout(this.#timer)
      this.#timer = null
    }
    return has
  }

  #wait(): void {
    if (this.#waiting.size === 0) return
    this.#timer ??= setTimeout(() => this.#resumeNext(), this.#paidAtMs - this.#now())
  }

  /** In turns: who goes on waits behind the others, and who cannot yet keeps his place. */
  #resumeNext(): void {
    this.#timer = null
    for (const resume of this.#waiting) {
      if (this.#paidAtMs > this.#now()) break
      this.#waiting.delete(resume)
      resume()
    }
    this.#wait()
  }
}
