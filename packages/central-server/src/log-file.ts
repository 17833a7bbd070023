import { closeSync, openSync, writeSync } from 'node:fs'
import { escapeJson } from './json-text.ts'
import { toStorageError } from './storage/failure.ts'

/**
 * The file of a log, one line of JSON at a time. A disk that takes no more must neither stop a backup nor keep it from
 * ending, as pino's own destinations would: a line that cannot be written is lost, and as soon as one can be again, it is
 * told how many were.
 */
export class LogFile {
  readonly #descriptor: number
  #lost = 0
  /** The last line that was written has no end. */
  #isTorn = false

  /** Opens `file` for appending, and makes it where it is missing, only for this user. Throws `StorageError`. */
  constructor(file: string) {
    try {
      this.#descriptor = openSync(file, 'a', 0o600)
    } catch (error) {
      throw toStorageError(error, `open the log ${file}`)
    }
  }

  /** Never throws. */
  write(line: string): void {
    const told =
      this.#lost === 0
        ? ''
        : `${JSON.stringify({ level: 'warn', msg: `${this.#lost} lines were lost here` })}\n`
    const bytes = Buffer.from(`${this.#isTorn ? '\n' : ''}${told}${escapeJson(line)}`)
    let written = 0
    try {
      while (written < bytes.length) written += writeSync(this.#descriptor, bytes, written)
      this.#lost = 0
      this.#isTorn = false
    } catch {
      this.#lost++
      this.#isTorn ||= written > 0
    }
  }

  /** Never throws. */
  close(): void {
    try {
      closeSync(this.#descriptor)
    } catch {
      // What a disk says at the end is about lines that are lost already.
    }
  }
}
