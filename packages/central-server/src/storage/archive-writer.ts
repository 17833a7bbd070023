import { lstat, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ArchiveName, formatArchiveName, PartialFile, syncFolder } from '@central-backup/archive'
import { StorageError } from '../errors.ts'
import { withStorageErrors } from './failure.ts'
import { hostFolder, type Repository } from './repository.ts'

/**
 * Begins an archive as `NAME.partial`. The caller holds the host's lease and ends the writer with exactly one of
 * `commit`, `abandon`, `discard` and `setAside`. Throws `StorageError` `archive-exists` where the run's second is taken already.
 */
export async function createArchive(
  repository: Repository,
  host: string,
  name: ArchiveName,
): Promise<ArchiveWriter> {
  const folder = hostFolder(repository, host)
  const archive = formatArchiveName(name)
  const path = join(folder, archive)
  return withStorageErrors(`create ${path}`, async () => {
    await makeHostFolder(folder)
    return new ArchiveWriter(archive, await nameTakenAsExists(path, () => PartialFile.create(path)))
  })
}

/**
 * An archive that is being written: a `PartialFile` whose errors are `StorageError`. One call at a time: await each
 * before the next, which is also what holds back a fast sender. After a call that threw, only `abandon` and `setAside`
 * are left.
 */
export class ArchiveWriter {
  /** The name that the archive will have. */
  readonly name: string
  readonly #file: PartialFile

  /** For `createArchive`. */
  constructor(name: string, file: PartialFile) {
    this.name = name
    this.#file = file
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#file.bytes
  }

  /** Where the archive is until it is committed. */
  get partialPath(): string {
    return this.#file.partialPath
  }

  /** What `setAside` would make of it. */
  asidePath(reason: string): string {
    return this.#file.asidePath(reason)
  }

  /** Appends all of `bytes`, which the caller may reuse once the promise has settled. */
  async write(bytes: Uint8Array): Promise<void> {
    await withStorageErrors(`write ${this.partialPath}`, () => this.#file.write(bytes))
  }

  /**
   * Makes the archive permanent: a power loss leaves either the whole archive or none. Never replaces an archive.
   * Returns its path.
   */
  async commit(): Promise<string> {
    const { path } = this.#file
    await withStorageErrors(`finish ${path}`, () => nameTakenAsExists(path, () => this.#file.commit()))
    return path
  }

  /** Gives up, and leaves what was written as `NAME.partial`. Never throws; calling it again does nothing. */
  async abandon(): Promise<void> {
    await this.#file.abandon()
  }

  /** Gives up, and removes what was written. Never throws: what cannot be removed is left as `NAME.partial`. */
  async discard(): Promise<void> {
    await this.#file.discard().catch(() => {})
  }

  /**
   * Gives up, and keeps what was written for inspection as `NAME.REASON.partial`; `reason` is one word of small
   * letters and hyphens. Returns its path.
   */
  async setAside(reason: string): Promise<string> {
    if (!/^[a-z][a-z-]{0,31}$/.test(reason)) throw new RangeError(`not a reason: ${JSON.stringify(reason)}`)
    return withStorageErrors(`set ${this.partialPath} aside`, () => this.#file.setAside(reason))
  }
}

/** The repository itself must be there: a missing one is not made anew on the disk below its mount point. */
async function makeHostFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
    await syncFolder(dirname(folder))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT')
      throw new StorageError('not-mounted', `${dirname(folder)} is gone`, { cause: error })
    if (code !== 'EEXIST') throw error
    const stats = await lstat(folder)
    if (!stats.isDirectory()) throw new StorageError('storage-failed', `${folder} is not a folder`)
  }
}

async function nameTakenAsExists<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new StorageError('archive-exists', `${path} is there already, or its .partial`, {
      hint: 'Two runs of a host cannot begin in the same second. Look whether the clock was set back, and run again.',
      cause: error,
    })
  }
}
