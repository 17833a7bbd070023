import {
  ArchiveError,
  type Finish,
  formatArchiveName,
  PartialFile,
  partialSuffix,
  planFinish,
} from '@central-backup/archive'
import { archivePath, removePartials, type StoredPartial } from './archive-list.ts'
import { isBadSector, withStorageErrors } from './failure.ts'
import type { Repository } from './repository.ts'

/** What became of a partial archive. */
export type FinishedPartial = 'archive' | 'busy' | 'nothing-usable' | 'set-aside' | 'unreadable'

/**
 * Makes an archive of what a broken run left, up to the last entry that came whole. `busy` where its writer still is
 * there; what holds no entry is removed, and what is not the archive that its name says is set aside. `unreadable`, and
 * left as it is, where the disk cannot give all of it. The caller holds the host's lease. Reads all of the file; throws
 * `StorageError`, and the reason of the signal, and then leaves it as it was, or so that it can be called again.
 */
export async function finishPartial(
  repository: Repository,
  host: string,
  partial: StoredPartial,
  signal: AbortSignal,
): Promise<FinishedPartial> {
  const path = archivePath(repository, host, partial.archive)
  return withStorageErrors(`finish ${path}${partialSuffix}`, async () => {
    let finish: Finish | undefined
    const plan = async () => {
      finish = await planFinish(path + partialSuffix, signal)
      return finish
    }
    let file: PartialFile
    try {
      file = await PartialFile.reopen(path, plan)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EBUSY') return 'busy'
      if (isBadSector(error)) return 'unreadable'
      if (!(error instanceof ArchiveError)) throw error
      await removePartials(repository, host, [partial])
      return 'nothing-usable'
    }
    try {
      const { header, tail } = finish!
      if (header.host !== host || formatArchiveName(header) !== partial.archive) {
        await file.setAside('foreign')
        return 'set-aside'
      }
      for (const bytes of tail) await file.write(bytes)
      await file.commit()
      return 'archive'
    } finally {
      await file.abandon()
    }
  })
}
