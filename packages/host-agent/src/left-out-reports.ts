import type { BytePath, LeftOutReason } from '@central-backup/archive'
import { type Channel, leftOutBatchMax, leftOutMax, type MessageOf } from '@central-backup/protocol'
import { absolutePath, type Warning } from './warnings.ts'

/** Objects that are told in one message: few enough that their paths fit into it, however long. */
const batchBytesMax = 256 * 1024

type Batch = MessageOf<'left-out'>['objects']

/** Tells the server what a listing leaves out, and why; never more than `leftOutMax`. */
export class LeftOutReports {
  readonly #channel: Channel
  #batch: Batch = []
  #batchBytes = 0
  #batchSent = Promise.withResolvers<void>()
  #listed = 0
  unlisted = 0
  #sending: Promise<void> = Promise.resolve()

  constructor(channel: Channel) {
    this.#channel = channel
  }

  /** Resolves when it has left this side, or never will. */
  add(path: BytePath, reason: LeftOutReason, message: string): Promise<void> {
    if (this.#listed === leftOutMax) {
      this.unlisted++
      return Promise.resolve()
    }
    this.#listed++
    if (this.#batch.length === leftOutBatchMax || this.#batchBytes > batchBytesMax) this.#send()
    this.#batch.push({ path: absolutePath(path), reason, message })
    this.#batchBytes += path.length + message.length
    return this.#batchSent.promise
  }

  /** Resolves when all were sent. Throws what ended the session. */
  async flush(): Promise<void> {
    if (this.#batch.length > 0) this.#send()
    await this.#sending
  }

  warning(): Warning {
    const message = `${this.unlisted} more objects are left out and not listed; the counts have them all`
    return { code: 'more-left-out', path: null, message }
  }

  #send(): void {
    const objects = this.#batch
    const { resolve } = this.#batchSent
    this.#batch = []
    this.#batchBytes = 0
    this.#batchSent = Promise.withResolvers()
    this.#sending = this.#sending.then(() => this.#channel.send({ type: 'left-out', objects }))
    // Where the channel ended, whoever sends or flushes next is told so.
    this.#sending.then(resolve, resolve)
  }
}
