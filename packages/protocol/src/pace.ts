/** Time that was not used is not saved up for longer than this. */
const creditMsMax = 1000

/**
 * How fast something may go on: what was added takes its time, and until that is over, one has to wait. Holds a timer
 * only while somebody waits.
 */
export class Pace {
  readonly #bytesPerSecond: number
  readonly #now: () => number
  /** When all that was added is paid for. */
  #paidAtMs = 0
  #timer: NodeJS.Timeout | null = null

  constructor(bytesPerSecond: number, now: () => number = () => performance.now()) {
    this.#bytesPerSecond = bytesPerSecond
    this.#now = now
  }

  get isWaiting(): boolean {
    return this.#timer !== null
  }

  add(bytes: number): void {
    const from = Math.max(this.#paidAtMs, this.#now() - creditMsMax)
    this.#paidAtMs = from + (bytes / this.#bytesPerSecond) * 1000
  }

  /** False where one may go on; else `resume` is called, once, when that is so. Calls while one waits add nothing. */
  mustWait(resume: () => void): boolean {
    if (this.#timer !== null) return true
    const waitMs = this.#paidAtMs - this.#now()
    if (waitMs <= 0) return false
    this.#timer = setTimeout(() => {
      this.#timer = null
      resume()
    }, waitMs)
    return true
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
