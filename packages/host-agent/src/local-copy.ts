import { constants } from 'node:fs'
import { mkdir, open, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { PartialFile, parseArchiveName, parsePartialName, syncFolder } from '@central-backup/archive'

/** Where copies go, and how many of them stay. */
export interface LocalCopyFolder {
  directory: string
  keep: number
}

/**
 * A copy of the archive on the host itself: the bytes that the server gets. A copy that cannot be written costs the
 * copy and never the run, so no method but `create` throws; `failure` tells what went wrong.
 */
export class LocalCopy {
  readonly name: string
  readonly #folder: LocalCopyFolder
  readonly #file: PartialFile
  #failure: Error | null = null

  private constructor(folder: LocalCopyFolder, name: string, file: PartialFile) {
    this.#folder = folder
    this.name = name
    this.#file = file
  }

  /** Begins `NAME.partial` in the folder, which is made where it is missing. Throws errors of the operating system. */
  static async create(folder: LocalCopyFolder, name: string): Promise<LocalCopy> {
    await mkdir(folder.directory, { recursive: true, mode: 0o700 })
    await checkPrivate(folder.directory)
    return new LocalCopy(folder, name, await PartialFile.create(join(folder.directory, name)))
  }

  /** Why there will be no copy; `null` while all is well. */
  get failure(): Error | null {
    return this.#failure
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#attempt(() => this.#file.write(bytes))
  }

  /** Makes the copy permanent and removes the oldest beyond the number to keep. To be called when the server has its own. */
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

/** Removes the oldest archives beyond `keep`. Other files in the folder are none of its business. */
async function rotate({ directory, keep }: LocalCopyFolder): Promise<void> {
  const archives = (await readdir(directory)).filter((name) => parseArchiveName(name) !== null).sort()
  for (const name of archives.slice(0, -keep)) await unlink(join(directory, name))
  await syncFolder(directory)
}

/** Removes what runs that were killed left behind. To be called at start-up, before any session. */
export async function removeStaleCopies(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const stale = names.filter((name) => parsePartialName(name) !== null)
  for (const name of stale) await unlink(join(directory, name))
  return stale
}
