import { createHash } from 'node:crypto'
import type { Entry } from '../entry.ts'

/** Compares content, piece by piece, with what an entry says of it. */
export class ContentCheck {
  readonly #entry: Entry
  readonly #hash = createHash('sha256')
  #bytes = 0

  constructor(entry: Entry) {
    this.#entry = entry
  }

  /** False where it is more than was backed up by now: then there is no need to go on, which could be for ever. */
  add(piece: Uint8Array): boolean {
    this.#bytes += piece.length
    if (this.#bytes > this.#entry.size) return false
    this.#hash.update(piece)
    return true
  }

  /** What is wrong with the whole of it, for people; `null` where it is what was backed up. To be called once. */
  fault(): string | null {
    const { size, digest } = this.#entry
    if (this.#bytes > size) return `its content has more than the ${size} bytes that were backed up`
    if (this.#bytes < size) return `its content has ${this.#bytes} bytes, and ${size} were backed up`
    if (digest === null) return 'no SHA-256 was recorded that its content could be compared with'
    return this.#hash.digest().equals(digest)
      ? null
      : 'its content is not what was backed up: its SHA-256 differs'
  }
}
