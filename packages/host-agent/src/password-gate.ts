import { setTimeout as delay } from 'node:timers/promises'
import { ProtocolError } from '@central-backup/protocol'
import { verify } from 'argon2'

/** Attempts of one server that may wait for their turn; more are turned away. */
const waitingMax = 8

/** Servers whose failed attempts are remembered. Names come from certificates of our own CA, so there are few. */
const serversMax = 1000

const delayMsFirst = 250
const delayMsMax = 15_000

interface Record {
  failures: number
  waiting: number
  /** The last attempt in the queue. */
  last: Promise<unknown>
}

/**
 * Verifies passwords: one at a time in the whole process, since each takes 19 MiB or more, and the more slowly the more often
 * a server has failed. A success forgets the failures.
 */
export class PasswordGate {
  readonly #records = new Map<string, Record>()
  #verification: Promise<unknown> = Promise.resolve()
  readonly #wait: (ms: number, signal: AbortSignal) => Promise<unknown>

  /** `wait` rejects with the signal's reason; a test gives one that does not take its time. */
  constructor(
    wait = (ms: number, signal: AbortSignal): Promise<unknown> => delay(ms, undefined, { signal }),
  ) {
    this.#wait = wait
  }

  /**
   * Whether `password` is the one that `hash` (argon2id, PHC string) was made from. `server` is the name that made the
   * attempt. Throws `busy` where too many of its attempts wait already, or the signal's reason.
   */
  async verify(server: string, hash: string, password: string, signal: AbortSignal): Promise<boolean> {
    const record = this.#record(server)
    if (record.waiting >= waitingMax) throw new ProtocolError('busy', 'too many attempts to log in at once')
    signal.throwIfAborted()
    record.waiting++
    const attempt = record.last.then(() => this.#attempt(record, hash, password, signal))
    record.last = attempt.catch(() => {})
    // Who hangs up frees the place at once, and not only when the turn comes.
    const { promise: left, reject } = Promise.withResolvers<never>()
    const leave = () => reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    try {
      return await Promise.race([attempt, left])
    } finally {
      signal.removeEventListener('abort', leave)
      record.waiting--
    }
  }

  #record(server: string): Record {
    let record = this.#records.get(server)
    if (record !== undefined) return record
    if (this.#records.size >= serversMax) this.#records.clear()
    record = { failures: 0, waiting: 0, last: Promise.resolve() }
    this.#records.set(server, record)
    return record
  }

  async #attempt(record: Record, hash: string, password: string, signal: AbortSignal): Promise<boolean> {
    if (record.failures > 0) {
      await this.#wait(Math.min(delayMsMax, delayMsFirst * 2 ** (record.failures - 1)), signal)
    }
    const verification = this.#verification.then(() => {
      signal.throwIfAborted()
      return verify(hash, password)
    })
    this.#verification = verification.catch(() => {})
    const right = await verification
    record.failures = right ? 0 : record.failures + 1
    return right
  }
}
