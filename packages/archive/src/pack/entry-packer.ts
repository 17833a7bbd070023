import { constants } from 'node:fs'
import { type Counts, type Entry, type EntryType, type Gone, storedBytes } from '../entry.ts'
import { checkEntryLimits } from '../entry-limits.ts'
import { ArchiveError } from '../errors.ts'
import { close, describeErrno, errno, FileStatus, openFileAt, readLinkAt } from '../native/libc.ts'
import { OwnerNames } from '../native/owner-names.ts'
import type { BytePath } from '../path.ts'
import { encodeEntryHeader, paddingBytes } from '../tar-header.ts'
import { AttributeReader } from './attributes.ts'
import { FileContent, PackingCancelled } from './file-content.ts'
import type { HardLinks } from './hard-links.ts'
import type { PackerSinks } from './sinks.ts'
import type { Found } from './visitor.ts'

/** How long a run waits for files that others have leases on, and how often it looks. */
const leaseWaitMsMax = 60_000
const leaseLookMs = 10

/** Told of what cannot be packed. */
export interface EntryProblems {
  unreadable(path: BytePath, message: string): void
  /** What was listed is not there any more. */
  vanished(found: Found, before: Entry | null, message: string): void
}

/** The type of an object as its mode says it; `null` for kinds that Linux does not have. */
export function typeOf(mode: number): EntryType | null {
  switch (mode & constants.S_IFMT) {
    case constants.S_IFREG:
      return 'file'
    case constants.S_IFDIR:
      return 'directory'
    case constants.S_IFLNK:
      return 'symlink'
    case constants.S_IFSOCK:
      return 'socket'
    case constants.S_IFIFO:
      return 'fifo'
    case constants.S_IFCHR:
      return 'character-device'
    case constants.S_IFBLK:
      return 'block-device'
    default:
      return null
  }
}

/** Makes an entry of an object that was found: reads what there is of it, into the tar stream and into the index. */
export class EntryPacker {
  readonly #sinks: PackerSinks
  /** Those of the run. */
  readonly #counts: Counts
  readonly #problems: EntryProblems
  readonly #listOnly: boolean
  readonly #hardLinks: HardLinks
  readonly #opened = new FileStatus()
  readonly #owners = new OwnerNames()
  readonly #content: FileContent
  readonly #attributes: AttributeReader
  #leaseWaitMs = leaseWaitMsMax

  constructor(
    sinks: PackerSinks,
    run: { counts: Counts; hardLinks: HardLinks; problems: EntryProblems; listOnly: boolean },
  ) {
    this.#sinks = sinks
    this.#counts = run.counts
    this.#problems = run.problems
    this.#listOnly = run.listOnly
    this.#hardLinks = run.hardLinks
    this.#content = new FileContent(sinks.blocks, sinks.state, {
      changed: ({ path }, message) => this.#reportObject('changed', path, message),
      // No problem with the path: it was looked at, and does not stand as it did.
      unreadable: ({ path }, message) => this.#reportObject('unreadable', path, message),
    })
    this.#attributes = new AttributeReader(({ path }, message) => {
      this.#reportObject('attributes', path, message)
    })
  }

  /** `before`: what stood there in the run before, where that is something else. */
  pack(found: Found, before: Entry | null): void {
    switch (found.status.mode & constants.S_IFMT) {
      case constants.S_IFREG:
        if (this.#listOnly) this.#packFileUnread(found)
        else this.#packFile(found, before)
        break
      case constants.S_IFDIR:
        this.#packFolder(found)
        break
      case constants.S_IFLNK:
        this.#packLink(found, before)
        break
      case constants.S_IFSOCK:
        this.#packSocket(found)
        break
      case constants.S_IFIFO:
        this.#packSpecial(found, 'fifo')
        break
      case constants.S_IFCHR:
        this.#packSpecial(found, 'character-device')
        break
      case constants.S_IFBLK:
        this.#packSpecial(found, 'block-device')
        break
      default:
        this.#problems.unreadable(found.path, 'an object of a kind that is not known')
    }
  }

  #packFolder(found: Found): void {
    const entry = this.#entry(found, 'directory', found.status)
    if (!this.#listOnly && !found.sealed) this.#attributes.ofFolder(entry, found.directory, found.name)
    this.#counts.directories++
    this.#writeEntry(entry)
  }

  #packSocket(found: Found): void {
    const entry = this.#entry(found, 'socket', found.status)
    this.#readNamed(entry, found)
    this.#counts.sockets++
    this.#index(entry)
  }

  #packSpecial(found: Found, type: EntryType): void {
    const entry = this.#entry(found, type, found.status)
    if (this.#packHardLink(entry)) return
    this.#readNamed(entry, found)
    if (type !== 'fifo') entry.device = { major: found.status.deviceMajor, minor: found.status.deviceMinor }
    this.#counts.specials++
    this.#writeEntry(entry)
  }

  #packLink(found: Found, before: Entry | null): void {
    const target = readLinkAt(found.directory, found.name)
    if (typeof target === 'number') {
      const message = `cannot read the link: ${describeErrno(target)}`
      if (target === -errno.ENOENT || target === -errno.EINVAL)
        this.#problems.vanished(found, before, message)
      else this.#problems.unreadable(found.path, message)
      return
    }
    const entry = this.#entry(found, 'symlink', found.status)
    if (this.#packHardLink(entry)) return
    this.#readNamed(entry, found)
    entry.target = target
    this.#counts.symlinks++
    this.#writeEntry(entry)
  }

  #packFileUnread(found: Found): void {
    const entry = this.#entry(found, 'file', found.status)
    if (this.#packHardLink(entry)) return
    entry.size = found.status.size
    if (!this.#isWithinLimits(entry)) return
    this.#countFile(entry)
    this.#index(entry)
  }

  #packFile(found: Found, before: Entry | null): void {
    const fd = this.#openFile(found)
    if (fd < 0) {
      const message = `cannot open the file: ${describeErrno(fd)}`
      const replaced = fd === -errno.ENOENT || fd === -errno.ELOOP || fd === -errno.ENXIO
      if (replaced) this.#problems.vanished(found, before, message)
      else this.#problems.unreadable(found.path, message)
      return
    }
    try {
      const status = this.#opened
      const failure = status.ofDescriptor(fd)
      if (failure < 0)
        this.#problems.unreadable(found.path, `cannot look at the file: ${describeErrno(failure)}`)
      else if ((status.mode & constants.S_IFMT) !== constants.S_IFREG) {
        this.#problems.vanished(found, before, 'the file was replaced by something else while it was opened')
      } else this.#packOpenFile(found, fd, status, before)
    } finally {
      close(fd)
    }
  }

  /**
   * Who has a lease on a file, as file servers do, is asked by the first attempt to give it back, and loses it after some time
   * if he does not (fcntl(2), F_SETLEASE).
   */
  #openFile({ directory, name }: Found): number {
    let fd = openFileAt(directory, name)
    while (fd === -errno.EAGAIN && this.#leaseWaitMs > 0) {
      const { state } = this.#sinks
      if (state.isCancelled) throw new PackingCancelled()
      state.pause(leaseLookMs)
      this.#leaseWaitMs -= leaseLookMs
      fd = openFileAt(directory, name)
    }
    return fd
  }

  /** The attributes come from the open file, so that they and the content are of one object. */
  #packOpenFile(found: Found, fd: number, status: FileStatus, before: Entry | null): void {
    const entry = this.#entry(found, 'file', status)
    if (this.#packHardLink(entry)) return
    entry.size = status.size
    const map = this.#content.mapHoles(entry, fd, status.allocatedBytes)
    if (!this.#isWithinLimits(entry)) return
    this.#attributes.ofOpen(entry, fd)
    // Only its attributes have changed.
    if (this.#content.isThatOf(before, entry, fd, map)) {
      entry.digest = before.digest
      entry.extents = before.extents
      this.#counts.files++
      this.#index(entry)
      return
    }
    this.#sinks.blocks.write(encodeEntryHeader(entry))
    const offset = this.#sinks.blocks.offset
    entry.digest = this.#content.copy(entry, fd, map)
    const stored = storedBytes(entry)
    if (stored > 0) entry.extents = [{ archive: null, offset, length: stored }]
    this.#sinks.blocks.writeZeros(paddingBytes(stored))
    this.#content.noticeChange(entry, fd)
    this.#countFile(entry)
    this.#index(entry)
  }

  /** Notes a path that stood in the run before and does not any more. */
  writeGone(gone: Gone): void {
    this.#sinks.index.addGone(gone)
    this.#sendIndexIfFull()
  }

  #readNamed(entry: Entry, { directory, name }: Found): void {
    if (!this.#listOnly) this.#attributes.ofName(entry, directory, name)
  }

  #reportObject(code: 'changed' | 'unreadable' | 'attributes', path: BytePath, message: string): void {
    this.#counts[code]++
    this.#sinks.warn({ code, path, message })
  }

  #countFile(entry: Entry): void {
    this.#counts.files++
    this.#counts.contentBytes += storedBytes(entry)
  }

  /** Writes a further name of an object that was packed before. False where this is the first. */
  #packHardLink(entry: Entry): boolean {
    if (entry.nlink < 2) return false
    const first = this.#hardLinks.firstNameOf(entry)
    this.#hardLinks.meet(entry, entry.path)
    if (first === null) return false
    entry.type = 'hardlink'
    entry.target = first
    this.#counts.hardlinks++
    this.#writeEntry(entry)
    return true
  }

  /** What the format cannot hold must not begin in the tar stream either. */
  #isWithinLimits(entry: Entry): boolean {
    try {
      checkEntryLimits(entry)
      return true
    } catch (error) {
      if (!(error instanceof ArchiveError)) throw error
      if (entry.type !== 'hardlink' && entry.nlink > 1) this.#hardLinks.forget(entry)
      this.#problems.unreadable(entry.path, error.message)
      return false
    }
  }

  #writeEntry(entry: Entry): void {
    if (!this.#isWithinLimits(entry)) return
    if (!this.#listOnly) this.#sinks.blocks.write(encodeEntryHeader(entry))
    this.#index(entry)
  }

  #index(entry: Entry): void {
    this.#sinks.index.add(entry, this.#sinks.blocks.offset)
    this.#sendIndexIfFull()
  }

  #sendIndexIfFull(): void {
    const { blocks, index } = this.#sinks
    if (!index.isFull) return
    blocks.flush()
    index.send()
  }

  #entry(found: Found, type: EntryType, status: FileStatus): Entry {
    return {
      path: found.path,
      type,
      mode: status.mode & 0o7777,
      uid: status.uid,
      gid: status.gid,
      user: this.#owners.user(status.uid),
      group: this.#owners.group(status.gid),
      size: 0,
      storedSize: null,
      mtimeSeconds: status.mtimeSeconds,
      mtimeNanoseconds: status.mtimeNanoseconds,
      ctimeSeconds: status.ctimeSeconds,
      ctimeNanoseconds: status.ctimeNanoseconds,
      ino: status.ino,
      dev: status.dev,
      nlink: status.nlink,
      target: null,
      device: null,
      xattrs: null,
      flags: null,
      project: 0,
      digest: null,
      extents: [],
      changedWhileRead: false,
      ancestor: found.ancestor,
      ...(found.mountPoint && { mountPoint: true }),
    }
  }
}
