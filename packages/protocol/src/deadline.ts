/** One time-out that can be started, moved and stopped any number of times; it holds a timer only while it runs. */
export class Deadline {
  readonly #onMissed: () => void
  #timer: NodeJS.Timeout | null = null

  constructor(onMissed: () => void) {
    this.#onMissed = onMissed
  }

  get running(): boolean {
    return this.#timer !== null
  }

  /** Starts anew, whether it runs or not. */
  start(ms: number): void {
    this.stop()
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#onMissed()
    }, ms)
  }

  /** Starts the same time again where it runs; cheap enough for every piece of a stream. */
  refresh(): void {
    this.#timer?.refresh()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
