import {
  ArchiveError,
  ArchiveReader,
  headerArchivesMax,
  PartialFile,
  repackArchive,
} from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { digestOf } from '../catalog/ingest-archive.ts'
import { neededContents, neededPaths, partlyNeeded } from '../catalog/needed.ts'
import { archivePath, listArchives, removePartials } from '../storage/archive-list.ts'
import { withStorageErrors } from '../storage/failure.ts'
import type { Repository } from '../storage/repository.ts'

/** Reason of the partial file beside an archive that is being packed anew. */
const repackedReason = 'repacked'

export interface RepackResult {
  repacked: { archive: string; bytesBefore: number; bytes: number }[]
  /** Archives that were left as they are, and why. */
  refused: { archive: string; reason: string }[]
}

/**
 * Packs the archives of a host anew of whose content less than half is needed. Of runs only that retention removed longer
 * ago than the trash keeps things. What is needed stays where it is, so that nothing else changes; a crash
 * at any time leaves the old archive or the new one, and `recoverRepacks` finds out which. The caller holds the host's
 * lease. Throws `StorageError`.
 */
export async function repackArchives(
  catalog: Catalog,
  repository: Repository,
  host: string,
  removedBeforeMs: number,
): Promise<RepackResult> {
  const result: RepackResult = { repacked: [], refused: [] }
  for (const { run, storedBytes, neededBytes } of partlyNeeded(catalog, host, removedBeforeMs)) {
    const { name: archive, bytes: bytesBefore } = run.archive!
    if (neededBytes * 2 >= storedBytes) continue
    try {
      result.repacked.push({ archive, bytesBefore, bytes: await repackOne(catalog, repository, run) })
    } catch (error) {
      if (!(error instanceof ArchiveError)) throw error
      result.refused.push({ archive, reason: error.message })
    }
  }
  return result
}

/** Returns the size of the new archive. */
async function repackOne(catalog: Catalog, repository: Repository, run: Run): Promise<number> {
  const { statements } = catalog
  const path = archivePath(repository, run.host, run.archive!.name)
  const kept = statements.keptArchives.all(run.generation)
  if (kept.length > headerArchivesMax)
    throw new ArchiveError('entry-limit', `${kept.length} runs stand after it, more than an archive can name`)
  return withStorageErrors(`pack ${path} anew`, async () => {
    await using reader = await ArchiveReader.open(path)
    const file = await PartialFile.replace(path, repackedReason)
    try {
      const needed = { paths: () => neededPaths(catalog, run), contents: neededContents(catalog, run) }
      const { digest, archiveBytes, storedBytes } = await repackArchive(reader, needed, { kept }, (bytes) =>
        file.write(bytes),
      )
      await file.sync()
      catalog.durableTransaction(() =>
        statements.insertRepack.run({ run: run.id, digest, archiveBytes, storedBytes }),
      )
      await file.commit()
      finishRepack(catalog, run.id)
      return archiveBytes
    } catch (error) {
      // Its name is gone once it has been committed.
      await file.discard().catch(() => {})
      throw error
    }
  })
}

/** Finds out of each archive that was being replaced when a process died which of the two is there. The caller holds the host's lease. */
export async function recoverRepacks(catalog: Catalog, repository: Repository, host: string): Promise<void> {
  const { statements } = catalog
  const { partials } = await listArchives(repository, host)
  await removePartials(
    repository,
    host,
    partials.filter(({ reason }) => reason === repackedReason),
  )
  for (const { run, archive, digest } of statements.repacks.all(host)) {
    const found = await digestOf(archivePath(repository, host, archive)).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return null
        throw error
      },
    )
    if (found?.digest.equals(digest)) finishRepack(catalog, run)
    else catalog.transaction(() => statements.deleteRepack.run(run))
  }
}

function finishRepack(catalog: Catalog, run: number): void {
  catalog.durableTransaction(() => {
    catalog.statements.applyRepack.run(run)
    catalog.statements.deleteRepack.run(run)
  })
}
