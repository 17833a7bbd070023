import { posix } from 'node:path'
import {
  type BytePath,
  bytesFromText,
  ContentReader,
  type Entry,
  type EntryOrder,
  type EntryType,
  isWithin,
  quotePath,
  type RestoreSource,
  storedBytes,
  textFromBytes,
} from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { entryAt, standingEntries } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'
import { archivePath } from '../storage/archive-list.ts'
import type { Repository } from '../storage/repository.ts'

/**
 * The paths that a person named, absolute or not, each of which stood in the run; `['']`, the root, where none was named.
 * Throws `UsageError` for one that did not stand there.
 */
export function selectPaths(catalog: Catalog, run: Run, texts: readonly string[]): BytePath[] {
  if (texts.length === 0) return ['' as BytePath]
  return texts.map((text) => {
    const path = bytesFromText(posix.resolve('/', text).slice(1))
    if (path === '' || entryAt(catalog, run, path) !== null) return path
    throw new UsageError(`${quotePath(path)} did not stand in run ${run.id} of ${run.host}`, {
      hint: `backup-server find '${posix.basename(textFromBytes(path))}' --host ${run.host} tells when it did.`,
    })
  })
}

/**
 * What stood in a run at some paths and below them, with its content from the archives of the repository. The caller
 * disposes of it; until then, no iteration of it may be held open while something is written to the catalog.
 */
export class StandingSource implements RestoreSource, AsyncDisposable {
  readonly #catalog: Catalog
  readonly #run: Run
  readonly #under: readonly BytePath[]
  readonly #content: ContentReader

  constructor(catalog: Catalog, repository: Repository, run: Run, under: readonly BytePath[]) {
    this.#catalog = catalog
    this.#run = run
    this.#under = under
    this.#content = new ContentReader((archive) => archivePath(repository, run.host, archive))
  }

  entries(order: EntryOrder, types?: readonly EntryType[]): Iterable<Entry> {
    const options = { under: this.#under, order }
    return standingEntries(this.#catalog, this.#run, types === undefined ? options : { ...options, types })
  }

  entryAt(path: BytePath): Entry | null {
    return entryAt(this.#catalog, this.#run, path)
  }

  content(entry: Entry): AsyncIterable<Buffer> {
    return this.#content.read(entry)
  }

  /** Whether a path is selected, or below one that is. */
  selects(path: BytePath): boolean {
    return this.#under.some((selected) => isWithin(path, selected))
  }

  /** Content of all files that are selected, as it is stored. */
  contentBytes(): number {
    let bytes = 0
    for (const entry of this.entries('path', ['file'])) bytes += storedBytes(entry)
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#content.close()
  }
}
