import type { Entry } from '../entry.ts'
import { ArchiveError } from '../errors.ts'
import { quotePath } from '../path.ts'
import { ArchiveReader } from '../reader.ts'

/** Archives kept open at once. Each holds the frame that was read last, at most 4 MiB, and 16 bytes for each of its frames. */
const openArchivesMax = 16

/**
 * Reads content that is spread over archives. Reads in the order of offsets, of one archive or of several in turn, come
 * to each frame once. One reading at a time. Who makes one closes it.
 */
export class ContentReader implements AsyncDisposable {
  readonly #pathOf: (archive: string) => string
  /** The one that was used last stands last. */
  readonly #readers = new Map<string, ArchiveReader>()

  /** `pathOf` finds the file of an archive by its name. */
  constructor(pathOf: (archive: string) => string) {
    this.#pathOf = pathOf
  }

  /**
   * What is stored of the content of a file, of a sparse one its map and data, in pieces that may be kept. Throws an
   * `ArchiveError` where an archive is damaged, and the error of the system where it cannot be opened or read. Does not
   * compare it with the digest.
   */
  async *read(entry: Entry): AsyncGenerator<Buffer, void, void> {
    for (const { archive, offset, length } of entry.extents) {
      if (archive === null) {
        throw new ArchiveError(
          'content-elsewhere',
          `nothing says which archive holds ${quotePath(entry.path)}`,
        )
      }
      yield* (await this.#reader(archive)).readTar(offset, length)
    }
  }

  async close(): Promise<void> {
    const readers = [...this.#readers.values()]
    this.#readers.clear()
    for (const reader of readers) await reader.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #reader(archive: string): Promise<ArchiveReader> {
    const reader = this.#readers.get(archive) ?? (await ArchiveReader.open(this.#pathOf(archive)))
    this.#readers.delete(archive)
    this.#readers.set(archive, reader)
    if (this.#readers.size > openArchivesMax) {
      const [[oldest, unused]] = this.#readers as unknown as [[string, ArchiveReader]]
      this.#readers.delete(oldest)
      await unused.close()
    }
    return reader
  }
}
