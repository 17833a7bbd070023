import { constants } from 'node:fs'
import type { EntryType } from '../entry.ts'
import {
  close,
  errno,
  FileStatus,
  openDirectoryAt,
  openFileAt,
  readLinkAt,
  readNames,
} from '../native/libc.ts'
import { type AttributePlace, getFlags, getProject, getXattr, listXattrs } from '../native/libc-attributes.ts'
import type { BytePath } from '../path.ts'

/** What stands at a name before something is restored there. */
export interface Standing {
  /** `null` for a kind that is not known. Never `hardlink`: the file system knows of no first name. */
  type: EntryType | null
  mode: number
  uid: number
  gid: number
  size: number
  mtimeSeconds: number
  mtimeNanoseconds: number
  dev: number
  ino: number | bigint
  nlink: number
  device: { major: number; minor: number }
  /** Of a symbolic link. */
  target: BytePath | null
  /**
   * A directory that holds nothing, and that something else is wanted in place of: it is not looked into otherwise. One
   * that cannot be read counts as holding something.
   */
  empty: boolean
  /** What a status does not tell, where it was looked at. */
  closer: CloserLook | null
  /** It was found to have another name, which the file system does not tell from this one. */
  underOtherName: boolean
}

/** `null` for what could not be read, and for what objects of the kind do not have. */
export interface CloserLook {
  xattrs: ReadonlyMap<string, Uint8Array> | null
  flags: number | null
  project: number | null
}

const typeOfFormat = new Map<number, EntryType>([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
  [constants.S_IFCHR, 'character-device'],
  [constants.S_IFBLK, 'block-device'],
])

const status = new FileStatus()

/**
 * What stands at a name in a folder where something of type `wanted` belongs, no link being followed: `null` for
 * nothing, or a negative error number.
 */
export function standingAt(directory: number, name: Buffer, wanted: EntryType): Standing | null | number {
  const failure = status.ofName(directory, name)
  if (failure < 0) return failure === -errno.ENOENT ? null : failure
  const standing = toStanding(status)
  if (standing.type === 'symlink') {
    const target = readLinkAt(directory, name)
    if (typeof target !== 'number') standing.target = target
  }
  if (standing.type === 'directory' && wanted !== 'directory') standing.empty = isEmpty(directory, name)
  return standing
}

/** Adds to `standing` what a status does not tell of it. Costs some microseconds. */
export function lookCloser(directory: number, name: Buffer, standing: Standing): void {
  const fd = openToLook(directory, name, standing.type)
  if (fd < 0) {
    standing.closer = { xattrs: xattrsAt({ fd: directory, name }), flags: null, project: null }
    return
  }
  standing.closer = closerLookOf(fd)
  close(fd)
}

/** The same of an open file or directory. */
export function closerLookOf(fd: number): CloserLook {
  const flags = getFlags(fd)
  const project = getProject(fd)
  return {
    xattrs: xattrsAt({ fd, name: null }),
    flags: flags < 0 ? null : flags,
    project: project < 0 ? null : project,
  }
}

function openToLook(directory: number, name: Buffer, type: Standing['type']): number {
  if (type === 'file') return openFileAt(directory, name)
  return type === 'directory' ? openDirectoryAt(directory, name) : -1
}

function xattrsAt(place: AttributePlace): CloserLook['xattrs'] {
  const names = listXattrs(place)
  if (typeof names === 'number') return null
  const xattrs = new Map<string, Uint8Array>()
  for (const name of names) {
    const value = getXattr(place, name)
    if (typeof value !== 'number') xattrs.set(name.latin1Slice(0, name.length - 1), value)
  }
  return xattrs
}

/** What a descriptor is open on, but for what is in it; or a negative error number. */
export function standingOf(fd: number): Standing | number {
  const failure = status.ofDescriptor(fd)
  return failure < 0 ? failure : toStanding(status)
}

function toStanding({ mode, deviceMajor, deviceMinor, ...rest }: FileStatus): Standing {
  return {
    type: typeOfFormat.get(mode & constants.S_IFMT) ?? null,
    mode: mode & 0o7777,
    uid: rest.uid,
    gid: rest.gid,
    size: rest.size,
    mtimeSeconds: rest.mtimeSeconds,
    mtimeNanoseconds: rest.mtimeNanoseconds,
    dev: rest.dev,
    ino: rest.ino,
    nlink: rest.nlink,
    device: { major: deviceMajor, minor: deviceMinor },
    target: null,
    empty: false,
    closer: null,
    underOtherName: false,
  }
}

function isEmpty(directory: number, name: Buffer): boolean {
  const fd = openDirectoryAt(directory, name)
  if (fd < 0) return false
  try {
    const names = readNames(fd)
    return typeof names !== 'number' && names.length === 0
  } finally {
    close(fd)
  }
}
