import { lstat, readdir, rename, unlink, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { makeFolders, parseArchiveName, syncFolder } from '@central-backup/archive'
import { archivePath } from './archive-list.ts'
import { withStorageErrors } from './failure.ts'
import { hostFolder, type Repository } from './repository.ts'

/*
 * Archives that retention removed stay in `REPO/trash/HOST/NAME` for a while. To get one back, move it to
 * `REPO/archives/HOST/` with `prune: 'by-hand'` in the settings: the next run of the host takes it into the catalog again,
 * and `pin` keeps it.
 */

/** Moves an archive to the trash; its time of change becomes the time of its removal. One that is gone already is no error. */
export async function moveToTrash(
  repository: Repository,
  host: string,
  archive: string,
  nowMs: number,
): Promise<void> {
  const folder = hostFolder(repository, host, 'trash')
  const from = archivePath(repository, host, archive)
  await withStorageErrors(`move ${from} to ${folder}`, async () => {
    await makeFolders(folder)
    await utimes(from, nowMs / 1000, nowMs / 1000)
    await rename(from, join(folder, archive))
    await syncFolder(folder)
    await syncFolder(dirname(from))
  })
}

/** Removes what has been in the trash of a host for longer than `keepMs`. Returns the names. */
export async function emptyTrash(
  repository: Repository,
  host: string,
  keepMs: number,
  nowMs: number,
): Promise<string[]> {
  const folder = hostFolder(repository, host, 'trash')
  return withStorageErrors(`empty ${folder}`, async () => {
    const removed: string[] = []
    for (const name of await namesIn(folder)) {
      if (parseArchiveName(name) === null) continue
      const { mtimeMs } = await lstat(join(folder, name))
      if (nowMs - mtimeMs <= keepMs) continue
      await unlink(join(folder, name))
      removed.push(name)
    }
    return removed
  })
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
