import { type Entry, inodeFlagsMask } from '../entry.ts'
import { xattrNameBytesMax, xattrsBytesMax, xattrsMax } from '../limits.ts'
import { close, describeErrno, errno, FileStatus, openDirectoryAt } from '../native/libc.ts'
import { type AttributePlace, getFlags, getProject, getXattr, listXattrs } from '../native/libc-attributes.ts'
import { textFromBytes } from '../path.ts'

/** What a file system says that has nothing of the kind; it is as good as an empty answer. */
const notSupported = new Set(
  [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EINVAL].map((number) => -number),
)

/** What is told of an object of which some attributes could not be read; once an object. */
export type AttributesLost = (entry: Entry, message: string) => void

/**
 * Adds to entries what `stat` does not tell: extended attributes, inode flags, project. What cannot be read is told and left
 * out. The names of hard links have none of it: their first name does.
 */
export class AttributeReader {
  readonly #lost: AttributesLost
  readonly #place: AttributePlace = { fd: -1, name: null }
  readonly #opened = new FileStatus()

  constructor(lost: AttributesLost) {
    this.#lost = lost
  }

  /** Of an open file or directory. */
  ofOpen(entry: Entry, fd: number): void {
    this.#place.fd = fd
    this.#place.name = null
    const failures = [this.#readXattrs(entry), this.#readFlags(entry, fd)].filter((one) => one !== null)
    if (failures.length > 0) this.#lost(entry, failures.join('; '))
  }

  /** Of a folder that has a name in an open one. Without its inode flags where it cannot be opened. */
  ofFolder(entry: Entry, folder: number, name: Buffer): void {
    const fd = openDirectoryAt(folder, name)
    const opened = this.#opened
    const same =
      fd >= 0 && opened.ofDescriptor(fd) === 0 && opened.ino === entry.ino && opened.dev === entry.dev
    // Where another folder has the name by now, the walk will tell.
    if (same) this.ofOpen(entry, fd)
    else if (fd < 0) this.ofName(entry, folder, name)
    if (fd >= 0) close(fd)
  }

  /** Of what has a name in an open folder, links included. It has no inode flags then. */
  ofName(entry: Entry, folder: number, name: Buffer): void {
    this.#place.fd = folder
    this.#place.name = name
    const failure = this.#readXattrs(entry)
    if (failure !== null) this.#lost(entry, failure)
  }

  #readXattrs(entry: Entry): string | null {
    const names = listXattrs(this.#place)
    if (typeof names === 'number') {
      // Who has taken its place by now has no attributes that are asked for.
      if (notSupported.has(names) || names === -errno.ENOENT) return null
      return `cannot list its extended attributes: ${describeErrno(names)}`
    }
    if (names.length === 0) return null
    const xattrs = new Map<string, Uint8Array>()
    let failure: string | null = null
    let left = xattrsBytesMax
    for (const name of names) {
      const text = name.latin1Slice(0, name.length - 1)
      const value = getXattr(this.#place, name)
      if (typeof value === 'number') {
        // It was removed in between.
        if (value !== -errno.ENODATA && value !== -errno.ENOENT) {
          failure = `cannot read its extended attribute ${shown(text)}: ${describeErrno(value)}`
        }
      } else if (
        text === '' ||
        text.length > xattrNameBytesMax ||
        text.length + value.length > left ||
        xattrs.size === xattrsMax
      ) {
        failure = `its extended attribute ${shown(text)} does not fit into an archive`
      } else {
        left -= text.length + value.length
        xattrs.set(text, value)
      }
    }
    if (xattrs.size > 0) entry.xattrs = xattrs
    return failure
  }

  #readFlags(entry: Entry, fd: number): string | null {
    const flags = getFlags(fd)
    if (flags < 0) {
      return notSupported.has(flags) ? null : `cannot read its inode flags: ${describeErrno(flags)}`
    }
    entry.flags = flags & inodeFlagsMask
    const project = getProject(fd)
    if (project >= 0) entry.project = project
    else if (!notSupported.has(project)) return `cannot read its project: ${describeErrno(project)}`
    return null
  }
}

function shown(name: string): string {
  return JSON.stringify(textFromBytes(name as Parameters<typeof textFromBytes>[0]))
}
