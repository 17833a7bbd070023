import { constants } from 'node:fs'
import { lstat, open, readdir, statfs, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import {
  makeFolders,
  PartialFile,
  parseArchiveName,
  parsePartialName,
  syncFolder,
} from '@central-backup/archive'

/** Where copies go, and which of them stay. */
export interface LocalCopyFolder {
  directory: string
  /** The newest so many stay. */
  keep: number
  /** And all that are not older than so many days: else a server could push them out by runs of next to nothing. */
  keepDays: number
  /** Where less of the file system is free, no copy is written. */
  minFreePercent: number
}

const dayMs = 86_400_000

/** The free space is looked at when so much more was written. */
const bytesBetweenLooks = 64 * 1024 * 1024

/**
 * A copy of the archive on the host itself: the bytes that the server gets. A copy that cannot be written costs the
 * copy and never the run, so no method but `create` throws; `failure` tells what went wrong.
 */
export class LocalCopy {
  readonly name: string
  readonly #folder: LocalCopyFolder
  readonly #file: PartialFile
  #failure: Error | null = null
  #bytesSinceLook = 0

  private constructor(folder: LocalCopyFolder, name: string, file: PartialFile) {
    this.#folder = folder
    this.name = name
    this.#file = file
  }

  /** Begins `NAME.partial` in the folder, which is made where it is missing. Throws errors of the operating system. */
  static async create(folder: LocalCopyFolder, name: string): Promise<LocalCopy> {
    await makeFolders(folder.directory)
    await checkPrivate(folder.directory)
    await removeAbandoned(folder.directory)
    await checkRoom(folder)
    return new LocalCopy(folder, name, await PartialFile.create(join(folder.directory, name)))
  }

  /** Why there will be no copy; `null` while all is well. */
  get failure(): Error | null {
    return this.#failure
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#attempt(async () => {
      this.#bytesSinceLook += bytes.length
      if (this.#bytesSinceLook >= bytesBetweenLooks) {
        this.#bytesSinceLook = 0
        await checkRoom(this.#folder)
      }
      await this.#file.write(bytes)
    })
  }

  /** Makes the copy permanent and removes the oldest of those that need not stay. To be called when the server has its own. */
  async keep(): Promise<void> {
    await this.#attempt(() => this.#file.commit())
    await this.#attempt(() => rotate(this.#folder))
  }

  /** Removes what was written. Calling it after `keep` does nothing. */
  async discard(): Promise<void> {
    try {
      await this.#file.discard()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#failure ??= error as Error
    }
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    if (this.#failure !== null) return
    try {
      await work()
    } catch (error) {
      this.#failure = error as Error
    }
  }
}

/** Others could read or plant archives otherwise. */
async function checkPrivate(directory: string): Promise<void> {
  const folder = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const { mode, uid } = await folder.stat()
    if ((mode & 0o077) !== 0 || uid !== process.geteuid!()) {
      throw new Error(
        `${directory} must belong to the user of backup-host and be closed to others: chmod 700 ${directory}`,
      )
    }
  } finally {
    await folder.close()
  }
}

async function checkRoom({ directory, minFreePercent }: LocalCopyFolder): Promise<void> {
  const { blocks, bavail } = await statfs(directory)
  // Some file systems do not tell.
  if (blocks === 0 || (bavail / blocks) * 100 >= minFreePercent) return
  const percent = Math.floor((bavail / blocks) * 100)
  throw new Error(
    `${percent} % of the file system of ${directory} are free, and min_free_percent keeps ${minFreePercent}`,
  )
}

/**
 * Removes the oldest archives beyond `keep` that are older than `keepDays`. Their age is that of the file: the time in the name
 * is the server's word. Other files in the folder are none of its business.
 */
async function rotate({ directory, keep, keepDays }: LocalCopyFolder): Promise<void> {
  const archives: { name: string; mtimeMs: number }[] = []
  for (const name of await readdir(directory)) {
    if (parseArchiveName(name) === null) continue
    const { mtimeMs } = await lstat(join(directory, name))
    archives.push({ name, mtimeMs })
  }
  archives.sort((a, b) => a.mtimeMs - b.mtimeMs || (a.name < b.name ? -1 : 1))
  const oldMs = Date.now() - keepDays * dayMs
  for (const { name, mtimeMs } of archives.slice(0, -keep))
    if (keepDays === 0 || mtimeMs < oldMs) await unlink(join(directory, name))
  await syncFolder(directory)
}

/** Removes what runs of this agent began and could not remove, as on a disk that had failed; not what another is writing. */
async function removeAbandoned(directory: string): Promise<string[]> {
  const removed: string[] = []
  for (const name of await readdir(directory)) {
    const partial = parsePartialName(name)
    if (partial?.reason !== null) continue
    try {
      const file = await PartialFile.reopen(join(directory, partial.archive), async () => ({ keptBytes: 0 }))
      await file.discard()
      removed.push(name)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EBUSY' && code !== 'ENOENT') throw error
    }
  }
  return removed
}

/** Removes what runs that were killed left behind, and returns the names. To be called at start-up. */
export async function removeStaleCopies(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  if (names.length === 0) return []
  const removed = await removeAbandoned(directory)
  const setAside = names.filter((name) => (parsePartialName(name)?.reason ?? null) !== null)
  for (const name of setAside) await unlink(join(directory, name))
  return [...removed, ...setAside]
}
