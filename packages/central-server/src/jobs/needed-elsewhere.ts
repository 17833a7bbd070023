import { ArchiveError, ArchiveReader } from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { isBridged } from '../catalog/ingest-archive.ts'
import { archivePath } from '../storage/archive-list.ts'
import { isBadSector, withStorageErrors } from '../storage/failure.ts'
import type { Repository } from '../storage/repository.ts'

/**
 * Generations of a host in whose archives a run of another generation has content. That is so only where the archive that a
 * run builds on was missing when the catalog was made anew: it may then stand in another generation, or begin one. Asked of the
 * archives, not of the catalog; where one cannot be read, it may need all others. Throws `StorageError`.
 */
export async function generationsNeededElsewhere(
  catalog: Catalog,
  repository: Repository,
  host: string,
): Promise<Set<number>> {
  const runs = catalog.archivedRuns(host)
  const needed = new Set<number>()
  const bridged = new Set(runs.filter(isBridged).map(({ generation }) => generation))
  if (bridged.size === 0) return needed
  const kept = new Set(catalog.runs(host).map(({ generation }) => generation))
  const generations = new Map(runs.map(({ archive, generation }) => [archive!.name, generation]))
  for (const run of runs.filter(({ generation }) => bridged.has(generation) && kept.has(generation))) {
    const named = (await archivesNamedBy(repository, run)) ?? generations.keys()
    for (const archive of named) {
      const generation = generations.get(archive)
      if (generation !== undefined && generation !== run.generation) needed.add(generation)
    }
  }
  return needed
}

/** Other archives that the index of a run's archive has content in; `null` where it cannot be read. */
async function archivesNamedBy(repository: Repository, run: Run): Promise<Set<string> | null> {
  const path = archivePath(repository, run.host, run.archive!.name)
  const named = new Set<string>()
  return withStorageErrors(`read ${path}`, async () => {
    try {
      await using reader = await ArchiveReader.open(path)
      for await (const { entries } of reader.batches())
        for (const { extents } of entries)
          for (const { archive } of extents) if (archive !== null) named.add(archive)
      return named
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      if (error instanceof ArchiveError || isMissing || isBadSector(error)) return null
      throw error
    }
  })
}
