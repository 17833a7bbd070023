import { constants } from 'node:fs'
import { type ArchiveEnd, type Counts, type Entry, type EntryType, noCounts, storedBytes } from '../entry.ts'
import { checkEntryLimits } from '../entry-limits.ts'
import { ArchiveError } from '../errors.ts'
import {
  close,
  describeErrno,
  errno,
  FileStatus,
  openDirectoryAt,
  openFileAt,
  readLinkAt,
  readNames,
} from '../native/libc.ts'
import type { Mount } from '../native/mounts.ts'
import { OwnerNames } from '../native/owner-names.ts'
import type { BytePath } from '../path.ts'
import { encodeEntryHeader, endOfArchive, paddingBytes } from '../tar-header.ts'
import { AttributeReader } from './attributes.ts'
import { Baseline, isUnchanged, type NextBaselineEntry } from './baseline.ts'
import type { BlockWriter } from './block-writer.ts'
import { FileContent, PackingCancelled } from './file-content.ts'
import { HardLinks } from './hard-links.ts'
import type { IndexWriter } from './index-writer.ts'
import type { LeftOutReason } from './left-out.ts'
import { LeftOutMounts } from './left-out-mounts.ts'
import type { Selection } from './rules.ts'
import { Selectivity } from './selectivity.ts'
import type { SharedState } from './shared-state.ts'
import { type Found, type Visitor, type WalkProblem, walk } from './walk.ts'

export type PackWarningCode =
  | 'vanished'
  | 'unreadable'
  | 'changed'
  | 'attributes'
  | 'mounts-left-out'
  | 'not-mounted'
  | LeftOutReason

/** Something in the tree that did not come whole. */
export interface PackWarning {
  code: PackWarningCode
  path: BytePath
  message: string
}

export interface PackOptions {
  listOnly?: boolean
  baseline?: NextBaselineEntry | null
}

export interface Packed {
  counts: Counts
  /** Anything but folders stood in the selection, changed or not. */
  hasFiles: boolean
}

export interface PackerSinks {
  blocks: BlockWriter
  index: IndexWriter
  state: SharedState
  warn(warning: PackWarning): void
}

/**
 * Walks a selection and turns it into tar stream and index, with synchronous calls: for a thread of its own.
 * What changes, vanishes or cannot be read is told to `warn` and counted, and never ends the run.
 * With `listOnly`, no content is read and the index alone is written. With a baseline, only what differs from it is.
 */
export function packSelection(selection: Selection, sinks: PackerSinks, options: PackOptions): Packed {
  const { listOnly = false, baseline = null } = options
  const packer = new Packer(selection, sinks, listOnly, baseline)
  walk(selection, packer)
  packer.finish()
  if (!listOnly) sinks.blocks.write(endOfArchive)
  sinks.blocks.flush()
  return { counts: packer.counts, hasFiles: packer.hasFiles }
}

/** False where that cannot be told. */
function isEmptyFolder({ directory, name }: Found): boolean {
  const fd = openDirectoryAt(directory, name)
  if (fd < 0) return false
  const names = readNames(fd)
  close(fd)
  return typeof names !== 'number' && names.length === 0
}

/** The type of an object as its mode says it; `null` for kinds that Linux does not have. */
function typeOf(mode: number): EntryType | null {
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

class Packer implements Visitor {
  readonly counts = noCounts()
  /** Anything but folders was visited. */
  hasFiles = false
  readonly #selectivity: Selectivity
  readonly #leftOutMounts = new LeftOutMounts()
  readonly #sinks: PackerSinks
  readonly #listOnly: boolean
  readonly #baseline: Baseline | null
  readonly #opened = new FileStatus()
  readonly #owners = new OwnerNames()
  readonly #hardLinks = new HardLinks()
  readonly #content: FileContent
  readonly #attributes: AttributeReader

  constructor(
    selection: Selection,
    sinks: PackerSinks,
    listOnly: boolean,
    baseline: NextBaselineEntry | null,
  ) {
    this.#selectivity = new Selectivity(selection)
    this.#sinks = sinks
    this.#listOnly = listOnly
    this.#content = new FileContent(sinks.blocks, sinks.state, {
      changed: ({ path }, message) => this.#reportObject('changed', path, message),
      // Not `problem`: the path was looked at, and does not stand as it did.
      unreadable: ({ path }, message) => this.#reportObject('unreadable', path, message),
    })
    this.#attributes = new AttributeReader(({ path }, message) => {
      this.#reportObject('attributes', path, message)
    })
    this.#baseline =
      baseline === null ? null : new Baseline(baseline, (entry, left) => this.#recordGone(entry, left))
  }

  /** To be called when the walk has ended. */
  finish(): void {
    this.#baseline?.finish()
    const warning = this.#leftOutMounts.warning()
    if (warning !== null && !this.#listOnly) this.#sinks.warn(warning)
  }

  approach(path: BytePath): void {
    if (this.#sinks.state.isCancelled) throw new PackingCancelled()
    this.#sinks.state.approach(path)
  }

  problem(kind: WalkProblem, path: BytePath, message: string): void {
    this.counts[kind]++
    if (kind === 'unreadable') this.#baseline?.keep(path)
    this.#sinks.warn({ code: kind, path, message })
  }

  leftOut(path: BytePath, reason: LeftOutReason, detail: () => string, mount: Mount | null): void {
    this.counts.excluded++
    // What patterns leave out, they tell of any path.
    if (reason !== 'excluded') this.#baseline?.leave(path)
    if (this.#listOnly) this.#sinks.warn({ code: reason, path, message: detail() })
    else this.#leftOutMounts.add(path, reason, mount)
  }

  visit(found: Found): void {
    this.#sinks.state.addEntry()
    const type = typeOf(found.status.mode)
    this.hasFiles ||= type !== null && type !== 'directory' && type !== 'socket'
    const before = this.#baseline?.at(found.path) ?? null
    if (before !== null && type === 'directory' && this.#isUnmounted(found, before)) return
    if (before !== null && type !== null && this.#stands(found, type, before)) this.counts.unchanged++
    else this.#pack(found, before)
  }

  /**
   * Whether the file system that stood in a folder in the run before is missing: nobody has removed what was on it, so
   * it stands as it did, and the run is incomplete. Where a mount only changes what can be seen there, nothing is known
   * of what was there before.
   */
  #isUnmounted(found: Found, before: Entry): boolean {
    const { path, mountPoint } = found
    const wasMountPoint = before.mountPoint === true
    if (mountPoint === wasMountPoint || !this.#baseline!.hasBelow(path)) return false
    if (mountPoint || !isEmptyFolder(found)) {
      this.#baseline!.leave(path)
      return false
    }
    this.#baseline!.keep(path)
    const message =
      'its file system is not mounted, and what was on it stands as it did; if it is gone for good, exclude the path, take it out of paths, or run --full'
    this.counts.unreadable++
    this.#sinks.warn({ code: 'not-mounted', path, message })
    return true
  }

  /** Whether an object is what it was in the run before, hard links included. */
  #stands(found: Found, type: EntryType, before: Entry): boolean {
    if (before.ancestor !== found.ancestor || (before.mountPoint === true) !== found.mountPoint) return false
    const { status, path } = found
    // Neither is ever a hard link: folders have one name, and every name of a socket is an entry of its own.
    if (type === 'directory' || type === 'socket' || status.nlink < 2)
      return isUnchanged(before, type, status)
    const first = this.#hardLinks.firstNameOf(status)
    const same =
      first === null
        ? isUnchanged(before, type, status)
        : isUnchanged(before, 'hardlink', status) && before.target === first
    if (same) this.#hardLinks.meet(status, path)
    return same
  }

  #pack(found: Found, before: Entry | null): void {
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
        this.problem('unreadable', found.path, 'an object of a kind that is not known')
    }
  }

  #packFolder(found: Found): void {
    const entry = this.#entry(found, 'directory', found.status)
    if (!this.#listOnly && !found.sealed) this.#attributes.ofFolder(entry, found.directory, found.name)
    this.counts.directories++
    this.#writeEntry(entry)
  }

  #packSocket(found: Found): void {
    const entry = this.#entry(found, 'socket', found.status)
    this.#readNamed(entry, found)
    this.counts.sockets++
    this.#index(entry)
  }

  #packSpecial(found: Found, type: EntryType): void {
    const entry = this.#entry(found, type, found.status)
    if (this.#packHardLink(entry)) return
    this.#readNamed(entry, found)
    if (type !== 'fifo') entry.device = { major: found.status.deviceMajor, minor: found.status.deviceMinor }
    this.counts.specials++
    this.#writeEntry(entry)
  }

  #packLink(found: Found, before: Entry | null): void {
    const target = readLinkAt(found.directory, found.name)
    if (typeof target === 'number') {
      const message = `cannot read the link: ${describeErrno(target)}`
      if (target === -errno.ENOENT || target === -errno.EINVAL) this.#vanished(found, before, message)
      else this.problem('unreadable', found.path, message)
      return
    }
    const entry = this.#entry(found, 'symlink', found.status)
    if (this.#packHardLink(entry)) return
    this.#readNamed(entry, found)
    entry.target = target
    this.counts.symlinks++
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
    const fd = openFileAt(found.directory, found.name)
    if (fd < 0) {
      const message = `cannot open the file: ${describeErrno(fd)}`
      const replaced = fd === -errno.ENOENT || fd === -errno.ELOOP || fd === -errno.ENXIO
      if (replaced) this.#vanished(found, before, message)
      else this.problem('unreadable', found.path, message)
      return
    }
    try {
      const status = this.#opened
      const failure = status.ofDescriptor(fd)
      if (failure < 0)
        this.problem('unreadable', found.path, `cannot look at the file: ${describeErrno(failure)}`)
      else if ((status.mode & constants.S_IFMT) !== constants.S_IFREG) {
        this.#vanished(found, before, 'the file was replaced by something else while it was opened')
      } else this.#packOpenFile(found, fd, status, before)
    } finally {
      close(fd)
    }
  }

  /** What was listed is not there any more: the run has nothing of it, as if it had not been listed. */
  #vanished({ path }: Found, before: Entry | null, message: string): void {
    if (before !== null) this.#baseline!.drop(before)
    this.problem('vanished', path, message)
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
      this.counts.files++
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

  /** `left`: the innermost path that this run leaves out and that held it. */
  #recordGone(entry: Entry, left: BytePath | null): void {
    this.counts.gone++
    const reason = this.#selectivity.selects(entry, left) ? 'deleted' : 'unselected'
    this.#sinks.index.addGone({ path: entry.path, reason })
    this.#sendIndexIfFull()
  }

  #readNamed(entry: Entry, { directory, name }: Found): void {
    if (!this.#listOnly) this.#attributes.ofName(entry, directory, name)
  }

  #reportObject(code: 'changed' | 'unreadable' | 'attributes', path: BytePath, message: string): void {
    this.counts[code]++
    this.#sinks.warn({ code, path, message })
  }

  #countFile(entry: Entry): void {
    this.counts.files++
    this.counts.contentBytes += storedBytes(entry)
  }

  /** Writes a further name of an object that was packed before. False where this is the first. */
  #packHardLink(entry: Entry): boolean {
    if (entry.nlink < 2) return false
    const first = this.#hardLinks.firstNameOf(entry)
    this.#hardLinks.meet(entry, entry.path)
    if (first === null) return false
    entry.type = 'hardlink'
    entry.target = first
    this.counts.hardlinks++
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
      this.problem('unreadable', entry.path, error.message)
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

/** The outcome of a packing. `missing` is the number of named paths that could not be packed at all. */
export function outcomeOf({ counts, hasFiles }: Packed, missing: number): ArchiveEnd['outcome'] {
  if (!hasFiles) return 'failed'
  if (counts.unreadable > 0 || missing > 0) return 'incomplete'
  return counts.changed > 0 || counts.vanished > 0 ? 'complete-with-changes' : 'complete'
}
