import type { Entry } from '@central-backup/archive'

/**
 * The files of a batch that come after the one that is being restored, and whose content will be wanted, one at a time and
 * each at most once.
 */
export class Lookahead {
  readonly #wants: (entry: Entry) => boolean
  #batch: readonly Entry[] = []
  #at = 0
  /** Whether the entry at `#at` was found to be wanted. */
  #isFound = false

  /** `wants` may be wrong: then content is sent in vain, or asked for later. */
  constructor(wants: (entry: Entry) => boolean) {
    this.#wants = wants
  }

  begin(batch: readonly Entry[]): void {
    this.#batch = batch
    this.#at = 0
    this.#isFound = false
  }

  /** What stands before `position` of the batch does not count any more. */
  moveTo(position: number): void {
    if (position <= this.#at) return
    this.#at = position
    this.#isFound = false
  }

  /** The next file; `null` where there is none. The same again until `take`. */
  peek(): Entry | null {
    while (!this.#isFound && this.#at < this.#batch.length) {
      const entry = this.#batch[this.#at]!
      if (entry.type === 'file' && this.#wants(entry)) this.#isFound = true
      else this.#at++
    }
    return this.#batch[this.#at] ?? null
  }

  take(): void {
    this.#at++
    this.#isFound = false
  }
}
