import { ProtocolError, stallMsMax } from '@central-backup/protocol'

/** Progress whose numbers stand still, or go back and forth, is none. */
export class StallWatch {
  #most = -1
  #sinceMs = 0

  /** Throws a `ProtocolError` where the counter has not risen for `stallMs`. */
  check(counter: number, stallMs = stallMsMax): void {
    const now = performance.now()
    if (counter > this.#most) {
      this.#most = counter
      this.#sinceMs = now
    } else if (now - this.#sinceMs > stallMs) {
      throw new ProtocolError(
        'stalled',
        `the agent reports progress, but has got no further for ${stallMs / 1000} s`,
      )
    }
  }
}
