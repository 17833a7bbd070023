import type { ProtocolError } from '@central-backup/protocol'
import type { Logger } from 'pino'

/** Lines a minute. Anybody who reaches the port can cause a refusal, so the log must not grow as fast as they like. */
const linesPerMinuteMax = 30

/** Logs connections that came to nothing, and counts those beyond the limit. */
export class RefusalLog {
  readonly #log: Pick<Logger, 'warn'>
  readonly #nowMs: () => number
  #minute = 0
  #lines = 0
  #unlisted = 0

  /** `nowMs` is a clock that never goes back. */
  constructor(log: Pick<Logger, 'warn'>, nowMs: () => number = () => performance.now()) {
    this.#log = log
    this.#nowMs = nowMs
  }

  add(error: ProtocolError, address: string): void {
    const minute = Math.floor(this.#nowMs() / 60_000)
    if (minute !== this.#minute) {
      if (this.#unlisted > 0)
        this.#log.warn({ count: this.#unlisted }, `${this.#unlisted} more connections were refused`)
      this.#minute = minute
      this.#lines = 0
      this.#unlisted = 0
    }
    if (this.#lines === linesPerMinuteMax) this.#unlisted++
    else {
      this.#lines++
      this.#log.warn({ code: error.code, address }, `connection refused: ${error.message}`)
    }
  }
}
