import { ArchiveError, headerOf } from '@central-backup/archive'
import { archivePath, listArchives } from './archive-list.ts'
import { isBadSector, withStorageErrors } from './failure.ts'
import type { Repository } from './repository.ts'

/**
 * Names of archives of a host that others which are there have taken over, by their headers: such a file, if it is there
 * still or again, is not to be read. Opens all archives of the host; those that cannot be read say nothing.
 */
export async function listAbsorbed(repository: Repository, host: string): Promise<Set<string>> {
  const absorbed = new Set<string>()
  const { archives } = await listArchives(repository, host)
  for (const { name } of archives) {
    const path = archivePath(repository, host, name)
    const names = await withStorageErrors(`read ${path}`, async () => {
      try {
        return (await headerOf(path)).repack?.absorbed ?? []
      } catch (error) {
        if (error instanceof ArchiveError || isBadSector(error)) return []
        throw error
      }
    })
    for (const one of names) absorbed.add(one)
  }
  return absorbed
}
