import { lstat, rename, unlink, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type ArchiveName,
  parseArchiveName,
  parsePartialName,
  partialSuffix,
  syncFolder,
} from '@central-backup/archive'
import { StorageError } from '../errors.ts'
import { withStorageErrors } from './failure.ts'
import { namesIfThere } from './if-there.ts'
import { hostFolder, type Repository } from './repository.ts'

export interface StoredArchive extends ArchiveName {
  name: string
  bytes: number
}

/** What a run left that did not end well. */
export interface StoredPartial {
  name: string
  /** The name that the archive would have had. */
  archive: string
  /** Why it was set aside; `null` where the run ended before it could say. */
  reason: string | null
  bytes: number
  /** When it was last written to. */
  modifiedAtMs: number
}

/** Path of an archive of a host, whether it is there or not. Throws where a name is none and might lead elsewhere. */
export function archivePath(repository: Repository, host: string, archive: string): string {
  if (parseArchiveName(archive) === null) {
    throw new StorageError('archive-name', `${JSON.stringify(archive)} is not the name of an archive`)
  }
  return join(hostFolder(repository, host), archive)
}

/**
 * What the repository holds of a host, each list in the order of the names, which is that of time. Files that have
 * another kind of name, links and folders are not listed. A host without a folder has nothing.
 */
export async function listArchives(
  repository: Repository,
  host: string,
): Promise<{ archives: StoredArchive[]; partials: StoredPartial[] }> {
  const folder = hostFolder(repository, host)
  return withStorageErrors(`list ${folder}`, async () => {
    const archives: StoredArchive[] = []
    const partials: StoredPartial[] = []
    for (const name of (await namesIfThere(folder)).sort()) {
      const parsed = parseArchiveName(name)
      const partial = parsePartialName(name)
      if (parsed === null && partial === null) continue
      const stats = await lstat(join(folder, name))
      if (!stats.isFile()) continue
      if (parsed !== null) archives.push({ name, bytes: stats.size, ...parsed })
      if (partial !== null)
        partials.push({ name, bytes: stats.size, modifiedAtMs: stats.mtimeMs, ...partial })
    }
    return { archives, partials }
  })
}

/** Whether a run of the host that began in the same second, of whatever kind, has left an archive or a part of one. */
export async function isSecondTaken(
  repository: Repository,
  host: string,
  startedAtMs: number,
): Promise<boolean> {
  const folder = hostFolder(repository, host)
  const second = Math.floor(startedAtMs / 1000) * 1000
  return withStorageErrors(`list ${folder}`, async () => {
    const names = await namesIfThere(folder)
    return names.some((name) => {
      const archive = parsePartialName(name)?.archive ?? name
      return parseArchiveName(archive)?.startedAtMs === second
    })
  })
}

/** The partials that nobody has touched for `keepMs`, and so has looked at if anybody wanted to. */
export function planStalePartials(
  partials: readonly StoredPartial[],
  keepMs: number,
  nowMs: number,
): StoredPartial[] {
  return partials.filter((partial) => nowMs - partial.modifiedAtMs > keepMs)
}

/** Removes partials of a host. The caller holds the host's lease, so that none of them is being written. */
export async function removePartials(
  repository: Repository,
  host: string,
  partials: readonly StoredPartial[],
): Promise<void> {
  if (partials.length === 0) return
  const folder = hostFolder(repository, host)
  await withStorageErrors(`remove partial archives in ${folder}`, async () => {
    for (const { name } of partials) {
      if (parsePartialName(name) === null) throw new Error(`${JSON.stringify(name)} is no partial archive`)
      await unlink(join(folder, name))
    }
    await syncFolder(folder)
  })
}

/** Removes archives of a host for good; one that is gone already is no error. The caller holds the host's lease. */
export async function removeArchives(
  repository: Repository,
  host: string,
  archives: readonly string[],
): Promise<void> {
  if (archives.length === 0) return
  const folder = hostFolder(repository, host)
  await withStorageErrors(`remove archives in ${folder}`, async () => {
    for (const archive of archives) {
      await unlink(archivePath(repository, host, archive)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      })
    }
    await syncFolder(folder)
  })
}

/**
 * Gives an archive, or the partial file `name` of one, that has no place among those of its host a name of its own,
 * under which it stays for a time to be looked at. Returns that name. The caller holds the host's lease.
 */
export async function setArchiveAside(
  repository: Repository,
  host: string,
  { archive, name }: { archive: string; name: string },
  reason: string,
  nowMs: number,
): Promise<string> {
  const path = join(hostFolder(repository, host), name)
  const aside = `${archive}.${reason}${partialSuffix}`
  await withStorageErrors(`set ${path} aside`, async () => {
    await utimes(path, nowMs / 1000, nowMs / 1000)
    await rename(path, join(hostFolder(repository, host), aside))
    await syncFolder(hostFolder(repository, host))
  })
  return aside
}
