import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { getSystemErrorName } from 'node:util'
import { describeErrno, errno } from './native/libc.ts'
import { beginWriteback, lockFile } from './native/libc-write.ts'

const openExisting = constants.O_WRONLY | constants.O_NOFOLLOW
const createNew = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** What a file is called until it is whole. */
export const partialSuffix = '.partial'

/** Bytes that are written out while more arrive, so that the fsync in the end has little left to wait for. */
const writebackBytes = 16 * 1024 * 1024

/**
 * A file that appears under its name only when it is whole and safe on disk: written as `PATH.partial`, fsynced,
 * renamed, and its folder fsynced. It never replaces a file, unless it was begun by `replace`.
 *
 * One call at a time: await each before the next, which is also what holds back a fast sender. Ends with one of
 * `commit`, `abandon`, `setAside` and `discard`; after a call that threw, only the last three are left. Errors are
 * those of the operating system; `EEXIST` where the name is taken.
 */
export class PartialFile {
  /** The path that the file will have. */
  readonly path: string
  /** Where the file is until it is committed. */
  readonly partialPath: string
  readonly #file: FileHandle
  #state: 'open' | 'busy' | 'failed' | 'ended' = 'open'
  #bytes = 0
  /** Up to here the kernel was told to write out. */
  #writebackBegun = 0
  #writeback: Promise<void> | null = null

  private constructor(path: string, file: FileHandle, bytes = 0, partialPath = path + partialSuffix) {
    this.path = path
    this.partialPath = partialPath
    this.#file = file
    this.#bytes = bytes
    this.#writebackBegun = bytes
  }

  /** Begins `PATH.partial`, readable for this user only. */
  static async create(path: string): Promise<PartialFile> {
    const file = await open(path + partialSuffix, createNew, 0o600)
    try {
      lock(file, path + partialSuffix)
      // Whoever makes the file has to hold its .partial first, so from here on nobody else can.
      if (await exists(path)) throw nameTaken(path)
      return new PartialFile(path, file)
    } catch (error) {
      await file.close()
      await unlink(path + partialSuffix)
      throw error
    }
  }

  /**
   * Goes on with a `PATH.partial` whose writer is gone: `plan` looks at it and says how much of it stays, and the rest is
   * cut off. `EBUSY` where the writer is still there, be it stopped or on its way out.
   */
  static async reopen(path: string, plan: () => Promise<{ keptBytes: number }>): Promise<PartialFile> {
    const file = await open(path + partialSuffix, openExisting)
    try {
      lock(file, path + partialSuffix)
      await requireNamed(file, path + partialSuffix)
      const { keptBytes } = await plan()
      await file.truncate(keptBytes)
      return new PartialFile(path, file, keptBytes)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Begins `PATH.REASON.partial`, which takes the place of the file at `path` when it is committed. */
  static async replace(path: string, reason: string): Promise<PartialFile> {
    const partialPath = `${path}.${reason}${partialSuffix}`
    const file = await open(partialPath, createNew, 0o600)
    return new PartialFile(path, file, 0, partialPath)
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes
  }

  /** Where `setAside` would put it. */
  asidePath(reason: string): string {
    return `${this.path}.${reason}${partialSuffix}`
  }

  /** Appends all of `bytes`, which the caller may reuse once the promise has settled. */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#exclusively(async () => {
      for (let offset = 0; offset < bytes.byteLength; ) {
        const { bytesWritten } = await this.#file.write(bytes, offset, bytes.byteLength - offset, this.#bytes)
        if (bytesWritten === 0) throw new Error('the file system took no bytes')
        offset += bytesWritten
        this.#bytes += bytesWritten
      }
      this.#writeBack()
    })
  }

  #writeBack(): void {
    const length = this.#bytes - this.#writebackBegun
    if (length < writebackBytes || this.#writeback !== null) return
    this.#writeback = beginWriteback(this.#file.fd, this.#writebackBegun, length).then(() => {
      this.#writeback = null
    })
    this.#writebackBegun = this.#bytes
  }

  /** Once nothing in the kernel uses its number, which another file may get. */
  async #close(): Promise<void> {
    await this.#writeback
    await this.#file.close()
  }

  /** Makes sure that what was written survives a power loss, before `commit`. */
  async sync(): Promise<void> {
    await this.#exclusively(() => this.#file.sync())
  }

  /** fsync, rename, fsync of the folder, in this order: a power loss leaves either the whole file or none. */
  async commit(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#file.sync()
      const replaces = this.partialPath !== this.path + partialSuffix
      if (!replaces && (await exists(this.path))) throw nameTaken(this.path)
      await rename(this.partialPath, this.path)
      // Not before: with it the lock ends, and a .partial without one is taken for that of a dead process.
      await this.#close()
      await syncFolder(dirname(this.path))
    })
    this.#state = 'ended'
  }

  /** Gives up, and leaves what was written as `PATH.partial`. Calling it again does nothing. */
  async abandon(): Promise<void> {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    // What was written is not trusted anyway, and a file that was closed before only says so.
    await this.#close().catch(() => {})
  }

  /** Gives up, and keeps what was written as `PATH.REASON.partial`. Returns that path. */
  async setAside(reason: string): Promise<string> {
    const aside = this.asidePath(reason)
    await this.abandon()
    await rename(this.partialPath, aside)
    await syncFolder(dirname(aside))
    return aside
  }

  /** Gives up, and removes what was written. */
  async discard(): Promise<void> {
    await this.abandon()
    await unlink(this.partialPath)
  }

  async #exclusively(work: () => Promise<void>): Promise<void> {
    if (this.#state !== 'open') throw new Error(`${this.partialPath}: the file is ${this.#state}`)
    this.#state = 'busy'
    try {
      await work()
      this.#endBusy('open')
    } catch (error) {
      this.#endBusy('failed')
      throw error
    }
  }

  /** Unless it was abandoned in the meantime. */
  #endBusy(state: 'open' | 'failed'): void {
    if (this.#state === 'busy') this.#state = state
  }
}

/** Makes sure that names that were made, changed or removed in a folder survive a power loss. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

function nameTaken(path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`EEXIST: file already exists, '${path}'`), { code: 'EEXIST', path })
}

/** The kernel gives the lock back when the file is closed or the process ends, however it does. */
function lock(file: FileHandle, path: string): void {
  const failure = lockFile(file.fd)
  // A file system without locks is one that has no second server on it either.
  if (failure >= 0 || failure === -errno.ENOTSUP || failure === -errno.ENOSYS) return
  throw failure === -errno.EAGAIN ? busy(path) : systemError(failure, path)
}

/** Its writer may have given it its name between the opening and the lock. */
async function requireNamed(file: FileHandle, path: string): Promise<void> {
  const [opened, named] = await Promise.all([file.stat({ bigint: true }), lstat(path, { bigint: true })])
  if (opened.ino !== named.ino || opened.dev !== named.dev) throw busy(path)
}

function busy(path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`EBUSY: somebody writes to the file, '${path}'`), { code: 'EBUSY', path })
}

function systemError(negative: number, path: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(negative)
  return Object.assign(new Error(`${describeErrno(negative)}, lock '${path}'`), { code, path })
}
