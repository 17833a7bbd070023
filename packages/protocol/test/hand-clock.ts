/** Timers that run only when a test says so: deadlines are met and missed to the millisecond, on the busiest machine. */

interface HandTimer {
  ms: number
  dueMs: number
  run(): void
  refresh(): HandTimer
}

/**
 * In place of `setTimeout` and `clearTimeout` until it is disposed of. The timers of `node:test` do not do: a `refresh` of
 * theirs does nothing.
 */
export class HandClock implements Disposable {
  nowMs = 0
  readonly #timers = new Set<HandTimer>()
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout }

  constructor() {
    const set = (run: () => void, ms: number): HandTimer => {
      const timer: HandTimer = {
        ms,
        dueMs: this.nowMs + ms,
        run,
        refresh: () => {
          timer.dueMs = this.nowMs + ms
          return timer
        },
      }
      this.#timers.add(timer)
      return timer
    }
    globalThis.setTimeout = set as unknown as typeof setTimeout
    globalThis.clearTimeout = ((timer: HandTimer) => {
      this.#timers.delete(timer)
    }) as unknown as typeof clearTimeout
  }

  /** How many timers run. */
  get running(): number {
    return this.#timers.size
  }

  /** Lets so many milliseconds pass, and all happen that is due by then, in order. */
  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs + ms
    for (;;) {
      await settled()
      const [next] = [...this.#timers].filter(({ dueMs }) => dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)
      if (next === undefined) break
      this.nowMs = next.dueMs
      this.#timers.delete(next)
      next.run()
    }
    this.nowMs = endMs
  }

  [Symbol.dispose](): void {
    Object.assign(globalThis, this.#real)
  }
}

/** Once streams and promises have done what they can do without the passing of time. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
}
