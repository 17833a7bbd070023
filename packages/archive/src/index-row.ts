import type { ArchiveTable } from './archive-table.ts'
import { type Entry, type EntryType, type Extent, entryTypes, inodeFlagsMask, storedBytes } from './entry.ts'
import {
  deviceNumberMax,
  extentsMax,
  fileBytesMax,
  idMax,
  ownerNameBytesMax,
  tarBytesMax,
  xattrNameBytesMax,
  xattrsBytesMax,
  xattrsMax,
} from './limits.ts'
import type { MsgpackReader, MsgpackWriter } from './msgpack.ts'
import { type BytePath, comparePaths, isSafePath, linkTargetBytesMax, pathBytesMax } from './path.ts'
import { tarBlockBytes } from './tar-header.ts'

/** One entry as a row of an index batch: an array with a fixed place for each field (docs/archive-format.md). */

const rowFields = 23
const digestBytes = 32

const typeCodes = Object.fromEntries(entryTypes.map((type, code) => [type, code])) as Record<
  EntryType,
  number
>

const changedWhileReadMark = 1
const ancestorMark = 2
const sparseMark = 4
const mountPointMark = 8
const marksMax = changedWhileReadMark | ancestorMark | sparseMark | mountPointMark

/** At least what `writeRow` writes for the entry. */
export function rowBytesMax(entry: Entry): number {
  let bytes = 240 + entry.path.length + entry.user.length + entry.group.length + entry.extents.length * 28
  if (entry.target !== null) bytes += entry.target.length
  if (entry.xattrs !== null)
    for (const [name, value] of entry.xattrs) bytes += 11 + name.length + value.length
  return bytes
}

/** Writes the row; `rowBytesMax` bytes have been reserved and `checkEntryLimits` has been passed. */
export function writeRow(writer: MsgpackWriter, entry: Entry, archives: ArchiveTable): void {
  writer.array(rowFields)
  writer.byteString(entry.path)
  writer.integer(typeCodes[entry.type])
  writer.integer(entry.mode)
  writer.integer(entry.uid)
  writer.integer(entry.gid)
  writer.byteString(entry.user)
  writer.byteString(entry.group)
  writer.integer(entry.size)
  writer.integer(entry.mtimeSeconds)
  writer.integer(entry.mtimeNanoseconds)
  writer.integer(entry.ctimeSeconds)
  writer.integer(entry.ctimeNanoseconds)
  writer.unsigned64(entry.ino)
  writer.unsigned64(entry.dev)
  writer.integer(entry.nlink)
  if (entry.target === null) writer.nil()
  else writer.byteString(entry.target)
  if (entry.device === null) writer.nil()
  else {
    writer.array(2)
    writer.integer(entry.device.major)
    writer.integer(entry.device.minor)
  }
  writeXattrs(writer, entry.xattrs)
  if (entry.flags === null) writer.nil()
  else writer.integer(entry.flags)
  writer.integer(entry.project)
  if (entry.digest === null) writer.nil()
  else writer.bytes(entry.digest)
  writeExtents(writer, entry.extents, archives)
  writer.integer(marksOf(entry))
}

function marksOf({ changedWhileRead, ancestor, storedSize, mountPoint }: Entry): number {
  return (
    (changedWhileRead ? changedWhileReadMark : 0) |
    (ancestor ? ancestorMark : 0) |
    (storedSize !== null ? sparseMark : 0) |
    (mountPoint ? mountPointMark : 0)
  )
}

function writeXattrs(writer: MsgpackWriter, xattrs: Entry['xattrs']): void {
  if (xattrs === null) {
    writer.nil()
    return
  }
  writer.array(xattrs.size)
  for (const [name, value] of xattrs) {
    writer.array(2)
    writer.byteString(name)
    writer.bytes(value)
  }
}

function writeExtents(writer: MsgpackWriter, extents: readonly Extent[], archives: ArchiveTable): void {
  writer.array(extents.length)
  for (let i = 0; i < extents.length; i++) {
    const extent = extents[i]!
    writer.array(3)
    writer.integer(archives.numberOf(extent.archive))
    writer.integer(extent.offset)
    writer.integer(extent.length)
  }
}

/** What may stand in a row: `listing` is an index without content, as a dry run makes it. */
export type IndexKind = 'archive' | 'listing'

/**
 * Reads a row and checks it against every rule of the format. `archives` are the names that the batch gave. Digests
 * and values of extended attributes are views of what the reader reads.
 */
export function readRow(reader: MsgpackReader, archives: readonly string[], kind: IndexKind): Entry {
  if (reader.array(rowFields, 'entry') !== rowFields) {
    throw reader.error(`entry: ${rowFields} fields expected`)
  }
  const path = readSafePath(reader, 'path')
  const type = entryTypes[reader.unsigned(entryTypes.length - 1, 'type')]!
  const entry: Entry = {
    path,
    type,
    mode: reader.unsigned(0o7777, 'mode'),
    uid: reader.unsigned(idMax, 'uid'),
    gid: reader.unsigned(idMax, 'gid'),
    user: readOwner(reader, 'user'),
    group: readOwner(reader, 'group'),
    size: reader.unsigned(fileBytesMax, 'size'),
    storedSize: null,
    mtimeSeconds: reader.integer('mtime'),
    mtimeNanoseconds: reader.unsigned(999_999_999, 'nanoseconds of mtime'),
    ctimeSeconds: reader.integer('ctime'),
    ctimeNanoseconds: reader.unsigned(999_999_999, 'nanoseconds of ctime'),
    ino: reader.unsigned64('ino'),
    dev: reader.unsigned64('dev'),
    nlink: reader.unsigned(idMax, 'nlink'),
    target: readTarget(reader, type, path),
    device: readDevice(reader, type),
    xattrs: readXattrs(reader),
    flags: readFlags(reader, type),
    project: reader.unsigned(idMax, 'project'),
    digest: null,
    extents: [],
    changedWhileRead: false,
    ancestor: false,
  }
  readContent(reader, entry, archives)
  const marks = reader.unsigned(marksMax, 'marks')
  entry.changedWhileRead = (marks & changedWhileReadMark) !== 0
  entry.ancestor = (marks & ancestorMark) !== 0
  if ((marks & mountPointMark) !== 0) {
    if (type !== 'directory') throw reader.error('a mount point that is no directory')
    entry.mountPoint = true
  }
  if ((marks & sparseMark) !== 0) entry.storedSize = totalLength(entry.extents)
  checkContent(reader, entry, kind)
  return entry
}

function readSafePath(reader: MsgpackReader, what: string): BytePath {
  const path = reader.byteString(pathBytesMax, what) as BytePath
  if (!isSafePath(path)) throw reader.error(`${what}: not a relative path without empty, . and .. components`)
  return path
}

/** Owners are few, and those of a row are mostly those of the row before. */
const lastOwners = { user: '' as BytePath, group: '' as BytePath }

function readOwner(reader: MsgpackReader, what: 'user' | 'group'): BytePath {
  const last = lastOwners[what]
  const name = reader.byteStringLike(last, ownerNameBytesMax, what) as BytePath
  if (name === last) return last
  if (name.includes('\0')) throw reader.error(`${what}: NUL in a name`)
  lastOwners[what] = name
  return name
}

function readTarget(reader: MsgpackReader, type: EntryType, path: BytePath): BytePath | null {
  if (type === 'hardlink') {
    const target = readSafePath(reader, 'target')
    if (comparePaths(target, path) >= 0) {
      throw reader.error('target: a hard link points at what stands before it')
    }
    return target
  }
  if (type === 'symlink') {
    const target = reader.byteString(linkTargetBytesMax, 'target') as BytePath
    if (target === '' || target.includes('\0')) throw reader.error('target: empty, or with a NUL')
    return target
  }
  if (!reader.nil()) throw reader.error(`target: a ${type} has none`)
  return null
}

function readDevice(reader: MsgpackReader, type: EntryType): Entry['device'] {
  const isDevice = type === 'character-device' || type === 'block-device'
  if (!isDevice) {
    if (!reader.nil()) throw reader.error(`device: a ${type} has none`)
    return null
  }
  if (reader.array(2, 'device') !== 2) throw reader.error('device: major and minor expected')
  return {
    major: reader.unsigned(deviceNumberMax, 'major'),
    minor: reader.unsigned(deviceNumberMax, 'minor'),
  }
}

function readXattrs(reader: MsgpackReader): Entry['xattrs'] {
  if (reader.nil()) return null
  const count = reader.array(xattrsMax, 'xattrs')
  const xattrs = new Map<string, Uint8Array>()
  let left = xattrsBytesMax
  for (let i = 0; i < count; i++) {
    if (reader.array(2, 'xattr') !== 2) throw reader.error('xattr: name and value expected')
    const name = reader.byteString(Math.min(xattrNameBytesMax, left), 'xattr name')
    if (name === '' || name.includes('\0')) throw reader.error('xattr name: empty, or with a NUL')
    if (xattrs.has(name)) throw reader.error('xattr name: twice the same')
    left -= name.length
    const value = reader.bytes(left, 'xattr value')
    left -= value.length
    xattrs.set(name, value)
  }
  return xattrs
}

function readFlags(reader: MsgpackReader, type: EntryType): number | null {
  if (reader.nil()) return null
  if (type !== 'file' && type !== 'directory') throw reader.error(`flags: a ${type} has none`)
  const flags = reader.unsigned(inodeFlagsMask, 'flags')
  if ((flags & ~inodeFlagsMask) !== 0) throw reader.error('flags: some that are not known')
  return flags
}

function readContent(reader: MsgpackReader, entry: Entry, archives: readonly string[]): void {
  if (!reader.nil()) {
    entry.digest = reader.bytes(digestBytes, 'digest')
    if (entry.digest.length !== digestBytes) throw reader.error(`digest: ${digestBytes} bytes expected`)
  }
  entry.extents = readExtents(reader, archives)
}

/** Digest and extents, together with the size, are there for files and for nothing else. */
function checkContent(reader: MsgpackReader, entry: Entry, kind: IndexKind): void {
  const isStored = entry.type === 'file' && kind === 'archive'
  if (isStored !== (entry.digest !== null)) {
    throw reader.error(`digest: of each file that is stored, and only of those`)
  }
  if (entry.type !== 'file' && entry.size !== 0) throw reader.error(`size: a ${entry.type} has no content`)
  const { storedSize } = entry
  if (storedSize !== null && !(isStored && storedSize >= tarBlockBytes && storedSize < entry.size)) {
    throw reader.error('marks: a sparse file is stored, with a map, and in fewer bytes than its size')
  }
  const expected = isStored ? storedBytes(entry) : 0
  if (totalLength(entry.extents) !== expected) {
    throw reader.error('extents: they do not add up to the size')
  }
}

function totalLength(extents: readonly Extent[]): number {
  let total = 0
  for (const { length } of extents) total += length
  return total
}

/** Extents are in the order of the content, and those in one archive are in its order, without overlap. */
function readExtents(reader: MsgpackReader, archives: readonly string[]): readonly Extent[] {
  const count = reader.array(extentsMax, 'extents')
  if (count === 0) return noExtents
  const extents: Extent[] = []
  const ends = count === 1 ? null : new Map<number, number>()
  for (let i = 0; i < count; i++) {
    if (reader.array(3, 'extent') !== 3) throw reader.error('extent: archive, offset and length expected')
    const number = reader.unsigned(archives.length, 'archive of an extent')
    const offset = reader.unsigned(tarBytesMax, 'offset of an extent')
    const length = reader.unsigned(tarBytesMax - offset, 'length of an extent')
    if (length === 0) throw reader.error('length of an extent: 0')
    if (ends !== null) {
      if (offset < (ends.get(number) ?? 0)) throw reader.error('extents: they overlap, or are out of order')
      ends.set(number, offset + length)
    }
    extents.push({ archive: number === 0 ? null : archives[number - 1]!, offset, length })
  }
  return extents
}

const noExtents: readonly Extent[] = []
