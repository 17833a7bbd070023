import { type BytePath, bufferFromBytePath } from '@central-backup/archive'
import type { Channel } from '@central-backup/protocol'

export interface Warning {
  code: string
  /** Without leading `/`; `null` where it is about no path. */
  path: BytePath | null
  message: string
}

/** Warnings of a session that are told one by one; what comes after is only counted. */
const listedMax = 1000

/** Tells the server what did not come whole, one message at a time and never more than `listedMax`. */
export class Warnings {
  readonly #channel: Channel
  #listed = 0
  #unlisted = 0
  #sending: Promise<void> = Promise.resolve()

  constructor(channel: Channel) {
    this.#channel = channel
  }

  add({ code, path, message }: Warning): void {
    if (this.#listed === listedMax) {
      this.#unlisted++
      return
    }
    this.#listed++
    this.#send(code, path === null ? null : absolutePath(path), message)
  }

  /** Resolves when all were sent. Throws what ended the session. */
  async flush(): Promise<void> {
    if (this.#unlisted > 0) {
      this.#send(
        'more-warnings',
        null,
        `${this.#unlisted} more warnings are not listed; the counts have them all`,
      )
      this.#unlisted = 0
    }
    await this.#sending
  }

  #send(code: string, path: Buffer | null, message: string): void {
    this.#sending = this.#sending.then(() => this.#channel.send({ type: 'warning', code, path, message }))
    // The channel ended: whoever sends or flushes next is told so.
    this.#sending.catch(() => {})
  }
}

/** A path as it travels: bytes, with its leading `/`. */
export function absolutePath(path: BytePath): Buffer {
  return bufferFromBytePath(`/${path}` as BytePath)
}
