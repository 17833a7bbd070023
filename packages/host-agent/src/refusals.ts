import type { ProtocolError } from '@central-backup/protocol'
import type { Logger } from 'pino'

/** Lines a minute. Who reaches the port can cause refusals, so the log must not grow as fast as they like. */
const linesPerMinuteMax = 30

/** What a line of the log is about. */
interface Refused {
  message: string
  facts: object
}

/** Logs connections and logins that came to nothing, and counts those beyond the limit. */
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

  /** A connection of somebody who is not known. */
  addConnection({ code, message }: ProtocolError, address: string): void {
    this.#add({ message: `connection refused: ${message}`, facts: { code, address } })
  }

  /** A session of a server that has a certificate and has not proven to know the password. */
  addLogin({ code, message }: { code: string; message: string }, facts: object): void {
    this.#add({ message: `session failed: ${message}`, facts: { code, ...facts } })
  }

  /** Counts anew: somebody has logged in who may, and what fails from now on is worth its lines. */
  begin(): void {
    this.#lines = 0
  }

  #add({ message, facts }: Refused): void {
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
      this.#log.warn(facts, message)
    }
  }
}
