import { AT_FDCWD, close, cName, errno, FileStatus, openDirectoryAt } from '../native/libc.ts'
import {
  lockFile,
  lockShared,
  makeDirectoryAt,
  openDirectoryPathAt,
  reopenDirectory,
  syncFileSystem,
} from '../native/libc-write.ts'
import type { BytePath } from '../path.ts'

/** Folders kept open at once. In deeper trees, those above are closed, and opened again from the target when needed. */
const openFoldersMax = 128

/** File systems below the target whose writing is waited for in the end. */
const fileSystemsMax = 256

/** Tries to share the target while others have it alone, which is for an instant only. */
const shareAttemptsMax = 1000

/** Mode of folders that the entries say nothing of. */
const unknownFolderMode = 0o700

/**
 * The folders below a target, as descriptors. Each is opened relative to the one above it and never through a link, so
 * that no link, wherever and whenever it was planted, leads out of the target, and paths may be of any length.
 *
 * One folder at a time: a descriptor is valid until the next call. What somebody moves into the target is in it.
 */
export class TargetTree implements Disposable {
  /** The folders of the path that was used last, the target first; -1 for one that is closed. */
  readonly #fds: number[]
  /** Their names, without that of the target. */
  readonly #names: string[] = []
  /** That path, as a whole; `null` where the last call failed. */
  #path: BytePath | null = null
  /** One descriptor for each file system that was met, by its device number. */
  readonly #fileSystems = new Map<number, number>()
  readonly #status = new FileStatus()
  readonly #name = Buffer.alloc(256)

  private constructor(fd: number) {
    this.#fds = [fd]
    this.#meetFileSystem(fd)
  }

  /** Opens the target itself, links in whose path are followed. A negative error number where it cannot be. */
  static open(target: BytePath): TargetTree | number {
    const fd = openDirectoryAt(AT_FDCWD, cName(target))
    return fd < 0 ? fd : new TargetTree(fd)
  }

  /**
   * Opens a folder below `above`, which is opened as by `open`: on the way down from it no link is followed. `make`: what is
   * missing of that way is made, for this user only. A negative error number where it cannot be.
   */
  static openBelow(above: BytePath, path: BytePath, make: boolean): TargetTree | number {
    const outer = TargetTree.open(above)
    if (path === '' || typeof outer === 'number') return outer
    using tree = outer
    const folder = tree.folder(path, make)
    const fd = folder < 0 ? folder : reopenDirectory(folder)
    return fd < 0 ? fd : new TargetTree(fd)
  }

  /**
   * The descriptor of a folder (opened as a path), or a negative error number: -ENOTDIR where something else, a link
   * included, is in the way. `make`: folders that are missing are made, for this user only.
   */
  folder(path: BytePath, make: boolean): number {
    if (path === this.#path) return this.#fds.at(-1)!
    this.#path = null
    const names = path === '' ? [] : path.split('/')
    let depth = this.#closeBeside(names)
    while (this.#fds[depth]! < 0) depth--
    for (; depth < names.length; depth++) {
      const fd = this.#openBelow(this.#fds[depth]!, names[depth]! as BytePath, make)
      if (fd < 0) {
        this.#cut(depth)
        return fd
      }
      this.#names[depth] = names[depth]!
      this.#fds[depth + 1] = fd
      this.#closeAbove(depth + 1 - openFoldersMax)
    }
    this.#path = path
    return this.#fds.at(-1)!
  }

  /** Lets others that restore to the same target know that somebody does. Ends with the tree, or with the process. */
  share(): void {
    for (let attempt = 0; attempt < shareAttemptsMax; attempt++)
      if (lockShared(this.#fds[0]!) !== -errno.EAGAIN) return
  }

  /** Does `work`, which is to be short, where nobody else restores to this target. */
  whileAlone(work: () => void): void {
    const target = this.#fds[0]!
    if (lockFile(target) < 0) return
    try {
      work()
    } finally {
      lockShared(target)
    }
  }

  /** Waits until all that was written is on disk. Negative error numbers of file systems that failed. */
  sync(): number[] {
    return [...this.#fileSystems.values()].map(syncFileSystem).filter((failure) => failure < 0)
  }

  [Symbol.dispose](): void {
    for (const fd of [...this.#fds, ...this.#fileSystems.values()]) if (fd >= 0) close(fd)
    this.#fds.length = 0
    this.#fileSystems.clear()
  }

  /** Closes what is not on the way to `names`. Returns how many of them are left. */
  #closeBeside(names: readonly string[]): number {
    let shared = 0
    while (shared < names.length && names[shared] === this.#names[shared]) shared++
    this.#cut(shared)
    return shared
  }

  #cut(depth: number): void {
    while (this.#fds.length > depth + 1) {
      const fd = this.#fds.pop()!
      if (fd >= 0) close(fd)
    }
    this.#names.length = Math.min(this.#names.length, depth)
  }

  /** The target itself stays open. */
  #closeAbove(depth: number): void {
    if (depth < 1 || this.#fds[depth]! < 0) return
    close(this.#fds[depth]!)
    this.#fds[depth] = -1
  }

  #openBelow(parent: number, name: BytePath, make: boolean): number {
    const cname = cName(name, this.#name)
    let fd = openDirectoryPathAt(parent, cname)
    if (fd === -errno.ENOENT && make) {
      const made = makeDirectoryAt(parent, cname, unknownFolderMode)
      if (made < 0 && made !== -errno.EEXIST) return made
      fd = openDirectoryPathAt(parent, cname)
    }
    if (fd >= 0) this.#meetFileSystem(fd)
    return fd
  }

  #meetFileSystem(fd: number): void {
    if (this.#status.ofDescriptor(fd) < 0 || this.#fileSystems.has(this.#status.dev)) return
    if (this.#fileSystems.size === fileSystemsMax) return
    const readable = reopenDirectory(fd)
    if (readable >= 0) this.#fileSystems.set(this.#status.dev, readable)
  }
}
