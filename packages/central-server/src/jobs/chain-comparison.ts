import { ArchiveError, ArchiveReader, quotePath } from '@central-backup/archive'
import { Catalog, type Run } from '../catalog/catalog.ts'
import { catalogDamaged } from '../catalog/failure.ts'
import { RetoldVersions } from '../catalog/retold-versions.ts'
import { CatalogError } from '../errors.ts'
import { archivePath } from '../storage/archive-list.ts'
import { describeBadSector, isBadSector, withStorageErrors } from '../storage/failure.ts'
import type { Repository } from '../storage/repository.ts'

/** An archive whose index cannot be read, so that what it needs of those before it is not known. */
export interface UnreadableArchive {
  run: Run
  reason: string
  /** The disk could not give it, which may be otherwise the next time; else it is damaged or missing. */
  mayPass: boolean
}

/**
 * Compares what the catalog has of the archives of a host with what their indexes say, before anything is thrown away
 * because of the catalog. What an archive holds is needed by its own index and by those after it, so only these are
 * read. What has been compared once is not compared again: the caller holds the host's lease, and nobody else changes
 * it.
 */
export class ChainComparison {
  readonly #catalog: Catalog
  readonly #repository: Repository
  readonly #host: string
  /** By generation, the run from which on it has been compared. */
  readonly #compared = new Map<number, number>()

  constructor(catalog: Catalog, repository: Repository, host: string) {
    this.#catalog = catalog
    this.#repository = repository
    this.#host = host
  }

  /**
   * Compares what began in the runs of a generation from one on, and where it ends. `chain`: all of its runs that have left
   * archives, in order. Returns the last archive that cannot be read, if there is one: what is before it was not compared.
   * Throws `catalog-damaged` where they differ, and `StorageError`, also for want of room in the folder for temporary files.
   */
  async compare(chain: readonly Run[], from: number): Promise<UnreadableArchive | null> {
    const { generation } = chain[0]!
    if ((this.#compared.get(generation) ?? Number.POSITIVE_INFINITY) <= from) return null
    using retold = new RetoldVersions(this.#catalog, this.#host, this.#catalog.archivedRuns(this.#host))
    let unreadable: UnreadableArchive | null = null
    for (const run of chain.filter(({ id }) => id >= from)) {
      const fault = await this.#retell(retold, run)
      if (fault !== null) unreadable = { run, ...fault }
    }
    const first = unreadable === null ? from : unreadable.run.id + 1
    // A connection of its own: the heartbeat of the lease is written in between.
    const watched = { hosts: [this.#host] }
    using own = this.#catalog.isAlone
      ? null
      : new Catalog(this.#catalog.file, { now: this.#catalog.now, watched })
    const { signal } = new AbortController()
    const part = { generation, from: first }
    for await (const difference of retold.differences(own ?? this.#catalog, signal, part))
      throw catalogDamaged(
        this.#catalog.file,
        `what it has of ${quotePath(difference.path)} of ${this.#host} from run ${difference.firstRun} on is not what the archives say, so nothing of ${this.#host} is removed`,
      )
    this.#compared.set(generation, first)
    return unreadable
  }

  /** Returns why the index cannot be read; `null` if it can. */
  async #retell(retold: RetoldVersions, run: Run): Promise<Omit<UnreadableArchive, 'run'> | null> {
    const path = archivePath(this.#repository, run.host, run.archive!.name)
    return withStorageErrors(`read ${path}`, async () => {
      try {
        await using reader = await ArchiveReader.open(path)
        for await (const batch of reader.batches()) retold.add(run, batch)
        return null
      } catch (error) {
        const lasting = (reason: string) => ({ reason, mayPass: false })
        if (isBadSector(error)) return { reason: describeBadSector(path), mayPass: true }
        if (error instanceof ArchiveError) return lasting(error.message)
        // An index that no catalog can take in, as with a path that stands in it twice.
        if (error instanceof CatalogError && error.code === 'catalog-damaged')
          return lasting(`${path}: its index cannot be taken into a catalog`)
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return lasting(`${path} is missing`)
        throw error
      }
    })
  }
}
