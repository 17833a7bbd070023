import { closeSync, openSync, writeSync } from 'node:fs'
import { LogError } from './errors.ts'

/** A reader of standard error that is behind gets this long to catch up, until lines are lost. */
const busyMsMax = 1000
const busyPauseMs = 10

const standardError = 2

/**
 * Where a log goes, one line at a time: a file, or standard error. A disk that takes no more must neither end a session nor
 * keep the agent from ending, as pino's own destinations would: a line that cannot be written is lost, and as soon as one
 * can be again, it is told how many were.
 */
export class LogFile {
  readonly #file: string | null
  #descriptor: number
  #lost = 0
  /** The last line that was written has no end. */
  #isTorn = false

  /**
   * Opens `file` for appending, and makes it where it is missing, only for this user. `null` is standard error. Throws
   * `LogError`.
   */
  constructor(file: string | null) {
    this.#file = file
    this.#descriptor = file === null ? standardError : openLogFile(file)
  }

  /** Never throws. */
  write(line: string): void {
    const told =
      this.#lost === 0
        ? ''
        : `${JSON.stringify({ level: 'warn', msg: `${this.#lost} lines were lost here` })}\n`
    const bytes = Buffer.from(`${this.#isTorn ? '\n' : ''}${told}${line}`)
    let written = 0
    try {
      while (written < bytes.length) written += writeSome(this.#descriptor, bytes, written)
      this.#lost = 0
      this.#isTorn = false
    } catch {
      this.#lost++
      this.#isTorn ||= written > 0
    }
  }

  /** Opens the file anew, after logrotate has moved it away. Throws `LogError`, and goes on with the old one, where it cannot. */
  reopen(): void {
    if (this.#file === null) return
    const old = this.#descriptor
    this.#descriptor = openLogFile(this.#file)
    this.#isTorn = false
    closeSync(old)
  }
}

function openLogFile(file: string): number {
  try {
    return openSync(file, 'a', 0o600)
  } catch (cause) {
    throw new LogError(`Cannot open the log ${file}: ${(cause as Error).message}`, {
      hint: 'Mend the folder, or log.file in the settings. As a service, the agent may write to /var/log/backup-host.',
      cause,
    })
  }
}

function writeSome(descriptor: number, bytes: Buffer, at: number): number {
  for (let waitedMs = 0; ; waitedMs += busyPauseMs) {
    try {
      return writeSync(descriptor, bytes, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || waitedMs >= busyMsMax) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, busyPauseMs)
    }
  }
}
