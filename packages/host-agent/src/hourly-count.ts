const hourMs = 3_600_000

/** How often something happened in the last hour, by name; not more than was let through is remembered. */
export class HourlyCount {
  readonly #times = new Map<string, number[]>()
  readonly #now: () => number

  /** `now` is a clock that never goes back, in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** In how many milliseconds one more is possible where `max` are in an hour; 0 for now. */
  waitMs(name: string, max: number): number {
    const times = this.#recent(name)
    const first = times.at(-max)
    return first === undefined ? 0 : first + hourMs - this.#now()
  }

  add(name: string): void {
    this.#times.set(name, [...this.#recent(name), this.#now()])
  }

  #recent(name: string): number[] {
    const from = this.#now() - hourMs
    return (this.#times.get(name) ?? []).filter((time) => time > from)
  }
}
