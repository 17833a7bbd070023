import { createHash } from 'node:crypto'
import { type Entry, storedBytes } from '../entry.ts'
import { type PlacedData, SparseReader } from '../sparse-map.ts'

/** Compares what is stored of a file, piece by piece, with what its entry says of it, and tells where it belongs. */
export class ContentCheck {
  readonly #entry: Entry
  readonly #hash = createHash('sha256')
  readonly #sparse: SparseReader | null
  #bytes = 0
  #placed: readonly PlacedData[] = []

  constructor(entry: Entry) {
    this.#entry = entry
    this.#sparse = entry.storedSize === null ? null : new SparseReader(entry.size, entry.storedSize)
  }

  /**
   * False where it is more than was backed up by now, or cannot be what was: then there is no need to go on, which could
   * be for ever.
   */
  add(piece: Buffer): boolean {
    const offset = this.#bytes
    this.#bytes += piece.length
    this.#placed = []
    if (this.#bytes > storedBytes(this.#entry)) return false
    this.#hash.update(piece)
    this.#placed = this.#sparse === null ? [{ offset, bytes: piece }] : this.#sparse.add(piece)
    return this.#faultOfMap === null
  }

  /** The content that the last `add` took, and where in the file it belongs; all other places in a sparse file are holes. */
  get placed(): readonly PlacedData[] {
    return this.#placed
  }

  /** What is wrong with the whole of it, for people; `null` where it is what was backed up. To be called once. */
  fault(): string | null {
    const { digest } = this.#entry
    const stored = storedBytes(this.#entry)
    if (this.#bytes > stored) return `its content has more than the ${stored} bytes that were backed up`
    if (this.#faultOfMap !== null) return this.#faultOfMap
    if (this.#bytes < stored) return `its content has ${this.#bytes} bytes, and ${stored} were backed up`
    if (digest === null) return 'no SHA-256 was recorded that its content could be compared with'
    return this.#hash.digest().equals(digest)
      ? null
      : 'its content is not what was backed up: its SHA-256 differs'
  }

  get #faultOfMap(): string | null {
    return this.#sparse?.fault ?? null
  }
}
