import { aclKeywords, aclText } from './acl.ts'
import { type Entry, type EntryType, storedBytes } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { fileBytesMax } from './limits.ts'
import { type BytePath, bufferFromBytePath } from './path.ts'

/**
 * From an entry to the header blocks of a tar member: POSIX ustar, with a pax header (typeflag `x`) only where ustar
 * cannot say it, and GNU long names (`L`, `K`) for paths and targets that do not fit. docs/decisions/0003 says why.
 */

/** Tar streams are made of blocks of this size. */
export const tarBlockBytes = 512

/** What ends a tar stream: two blocks of zeros. Not to be written to. */
export const endOfArchive: Buffer = Buffer.alloc(2 * tarBlockBytes)

/** Zeros that follow content of `size` bytes up to the next block: 0 to 511. */
export function paddingBytes(size: number): number {
  const over = size % tarBlockBytes
  return over === 0 ? 0 : tarBlockBytes - over
}

const nameBytes = 100
const prefixBytes = 155
const ownerBytes = 31
const octal7Max = 0o7777777
const octal11Max = 0o77777777777

/** Offsets of the fields of a ustar block, as POSIX.1-2017 has them under pax. */
const field = {
  name: 0,
  mode: 100,
  uid: 108,
  gid: 116,
  size: 124,
  mtime: 136,
  checksum: 148,
  type: 156,
  link: 157,
  magic: 257,
  user: 265,
  group: 297,
  major: 329,
  minor: 337,
  prefix: 345,
} as const

const typeflags: Partial<Record<EntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
}

/** A pax header with one mtime record, complete but for its digits; by far the most frequent one. */
const mtimeRecord = '30 mtime=0000000000.000000000\n'
const mtimeRecordSecondsAt = 9
const mtimeRecordNanosecondsAt = 20
const mtimeRecordSecondsMin = 1_000_000_000
const mtimeRecordSecondsMax = 9_999_999_999

const paxName = '././@PaxHeader'
const longName = '././@LongLink'

/**
 * Folder in the names of sparse files, as GNU tar has it, for readers that know no sparse files: what these extract is
 * map and data, and must not stand where the file belongs.
 */
const sparseFolder = 'GNUSparseFile.0'

/**
 * The header blocks of a tar member; what is stored of a file's content follows them, and `paddingBytes(storedBytes)`
 * zeros. The bytes are a view that is valid until the next call. Throws a `TypeError` for a socket, which tar cannot hold, and an
 * `ArchiveError` for a size that is not an exact number.
 */
export function encodeEntryHeader(entry: Entry): Buffer {
  return encoder.encode(entry)
}

/** Encodes one header after the other into a buffer of its own, which grows to the largest header that was seen. */
class TarHeaderEncoder {
  #bytes = Buffer.alloc(0)
  /** The same memory, for the checksum. */
  #words = new Int32Array(0)
  #at = 0
  readonly #member = memberTemplate()
  readonly #mtime = mtimeTemplate()

  constructor() {
    this.#reserve(8 * tarBlockBytes)
  }

  encode(entry: Entry): Buffer {
    if (!(entry.size >= 0 && entry.size <= fileBytesMax)) {
      throw new ArchiveError('entry-limit', `a size of ${entry.size} bytes does not fit into an archive`)
    }
    this.#at = 0
    const placeholder = entry.storedSize === null ? null : sparsePlaceholder(entry.path)
    const path = placeholder ?? (entry.type === 'directory' ? `${entry.path}/` : entry.path)
    const split = path.length <= nameBytes ? 0 : splitAt(path)
    if (entry.target !== null && entry.target.length > nameBytes) this.#writeLong('K', entry.target)
    if (split < 0) this.#writeLong('L', path)
    this.#writePax(entry, placeholder !== null)
    this.#writeMember(entry, path, split)
    return this.#bytes.subarray(0, this.#at)
  }

  #reserve(size: number): void {
    if (this.#at + size <= this.#bytes.length) return
    const grown = Buffer.alloc((2 * (this.#at + size + (tarBlockBytes - 1))) & -tarBlockBytes)
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#bytes = grown
    this.#words = new Int32Array(grown.buffer, grown.byteOffset, grown.length / 4)
  }

  #writeMember(entry: Entry, path: string, split: number): void {
    this.#reserve(tarBlockBytes)
    const bytes = this.#bytes
    const at = this.#at
    bytes.set(this.#member, at)
    if (split > 0) {
      bytes.write(path.slice(0, split), at + field.prefix, 'latin1')
      bytes.write(path.slice(split + 1), at + field.name, 'latin1')
    } else {
      bytes.write(path, at + field.name, nameBytes, 'latin1')
    }
    const typeflag = typeflags[entry.type]
    if (typeflag === undefined) throw new TypeError(`a ${entry.type} has no form in tar`)
    bytes[at + field.type] = typeflag.charCodeAt(0)
    writeOctal(bytes, at + field.mode, 7, entry.mode)
    this.#writeNumber(field.uid, 7, entry.uid, octal7Max)
    this.#writeNumber(field.gid, 7, entry.gid, octal7Max)
    this.#writeNumber(field.size, 11, storedBytes(entry), octal11Max)
    this.#writeNumber(field.mtime, 11, entry.mtimeSeconds, octal11Max)
    if (entry.target !== null) bytes.write(entry.target, at + field.link, nameBytes, 'latin1')
    if (entry.user.length <= ownerBytes) bytes.write(entry.user, at + field.user, 'latin1')
    if (entry.group.length <= ownerBytes) bytes.write(entry.group, at + field.group, 'latin1')
    if (entry.device !== null) {
      this.#writeNumber(field.major, 7, entry.device.major, octal7Max)
      this.#writeNumber(field.minor, 7, entry.device.minor, octal7Max)
    }
    this.#finishBlock()
  }

  /** Octal where the field has room for it, else base-256, which all readers know (GNU tar's manual, "Extensions"). */
  #writeNumber(at: number, digits: number, value: number, octalMax: number): void {
    if (value >= 0 && value <= octalMax) writeOctal(this.#bytes, this.#at + at, digits, value)
    else writeBase256(this.#bytes, this.#at + at, digits + 1, value)
  }

  /** A GNU long name: a member of its own whose content is the name and a NUL. */
  #writeLong(type: 'K' | 'L', name: string): void {
    this.#writeExtension(type, longName, name.length + 1)
    this.#bytes.write(name, this.#at, 'latin1')
    this.#bytes[this.#at + name.length] = 0
    this.#pad(name.length + 1)
  }

  /** `withName`: the path of a sparse file stands in its pax header. */
  #writePax(entry: Entry, withName: boolean): void {
    const seconds = entry.mtimeSeconds
    const inexact = entry.mtimeNanoseconds !== 0 || seconds < 0 || seconds > octal11Max
    const rare =
      entry.size > octal11Max ||
      entry.storedSize !== null ||
      entry.uid > octal7Max ||
      entry.gid > octal7Max ||
      entry.user.length > ownerBytes ||
      entry.group.length > ownerBytes ||
      entry.xattrs !== null
    if (rare || (inexact && (seconds < mtimeRecordSecondsMin || seconds > mtimeRecordSecondsMax))) {
      this.#writePaxRecords(paxRecords(entry, inexact, withName))
    } else if (inexact) {
      this.#reserve(2 * tarBlockBytes)
      const record = this.#at + tarBlockBytes
      this.#bytes.set(this.#mtime, this.#at)
      writeDecimal(this.#bytes, record + mtimeRecordSecondsAt, 10, seconds)
      writeDecimal(this.#bytes, record + mtimeRecordNanosecondsAt, 9, entry.mtimeNanoseconds)
      this.#at += 2 * tarBlockBytes
    }
  }

  #writePaxRecords(records: Buffer[]): void {
    if (records.length === 0) return
    const size = records.reduce((sum, record) => sum + record.length, 0)
    this.#writeExtension('x', paxName, size)
    let at = this.#at
    for (const record of records) at += record.copy(this.#bytes, at)
    this.#pad(size)
  }

  /** The header of a member that says more about the next one; its content of `size` bytes is for the caller. */
  #writeExtension(type: 'K' | 'L' | 'x', name: string, size: number): void {
    this.#reserve(tarBlockBytes + size + paddingBytes(size))
    this.#bytes.set(this.#member, this.#at)
    this.#bytes.write(name, this.#at + field.name, 'latin1')
    this.#bytes.write(type, this.#at + field.type, 'latin1')
    if (type !== 'x') this.#bytes.write('ustar  \0', this.#at + field.magic, 'latin1')
    writeOctal(this.#bytes, this.#at + field.mode, 7, 0o644)
    writeOctal(this.#bytes, this.#at + field.size, 11, size)
    this.#finishBlock()
  }

  #finishBlock(): void {
    writeChecksum(this.#bytes, this.#words, this.#at)
    this.#at += tarBlockBytes
  }

  #pad(size: number): void {
    const end = this.#at + size + paddingBytes(size)
    this.#bytes.fill(0, this.#at + size, end)
    this.#at = end
  }
}

/**
 * Where ustar cuts a path into prefix and name: index of the `/`, or -1 where the two have no room for it. Only for
 * paths longer than the name field.
 */
function splitAt(path: string): number {
  // A `/` at the end belongs to the name of a directory, so that the name is never empty.
  const slash = path.lastIndexOf('/', Math.min(prefixBytes, path.length - 2))
  return slash > 0 && path.length - slash - 1 <= nameBytes ? slash : -1
}

/**
 * The name that the header of a sparse file has, its path being in a pax record; `null` where it has its own: bsdtar takes
 * records for UTF-8, and fails where the locale has no such characters, and names that do not fit are not worth it.
 */
function sparsePlaceholder(path: BytePath): string | null {
  if (!/^[\x20-\x7e]+$/.test(path)) return null
  const slash = path.lastIndexOf('/') + 1
  const placeholder = `${path.slice(0, slash)}${sparseFolder}/${path.slice(slash)}`
  return placeholder.length <= nameBytes || splitAt(placeholder) >= 0 ? placeholder : null
}

/** A ustar block with everything that is the same in all of them. */
function memberTemplate(): Buffer {
  const block = Buffer.alloc(tarBlockBytes)
  for (const [at, digits] of [
    [field.mode, 7],
    [field.uid, 7],
    [field.gid, 7],
    [field.size, 11],
    [field.mtime, 11],
    [field.major, 7],
    [field.minor, 7],
  ] as const) {
    writeOctal(block, at, digits, 0)
  }
  block.write('ustar\x0000', field.magic, 'latin1')
  block.fill(' ', field.checksum, field.checksum + 8)
  return block
}

function mtimeTemplate(): Buffer {
  const blocks = Buffer.alloc(2 * tarBlockBytes)
  blocks.set(memberTemplate())
  blocks.write(paxName, field.name, 'latin1')
  blocks.write('x', field.type, 'latin1')
  writeOctal(blocks, field.mode, 7, 0o644)
  writeOctal(blocks, field.size, 11, mtimeRecord.length)
  writeChecksum(blocks, new Int32Array(blocks.buffer, blocks.byteOffset, blocks.length / 4), 0)
  blocks.write(mtimeRecord, tarBlockBytes, 'latin1')
  return blocks
}

/** The records of a pax header, in the order in which they are written; none where ustar says it all. */
function paxRecords(entry: Entry, withMtime: boolean, withName: boolean): Buffer[] {
  const records: Buffer[] = []
  if (withMtime) records.push(paxRecord('mtime', Buffer.from(decimalTime(entry))))
  // Of a sparse file, Python's tarfile takes it for what follows the map; all others are content with the field.
  if (entry.size > octal11Max && entry.storedSize === null) {
    records.push(paxRecord('size', Buffer.from(String(entry.size))))
  }
  if (entry.uid > octal7Max) records.push(paxRecord('uid', Buffer.from(String(entry.uid))))
  if (entry.gid > octal7Max) records.push(paxRecord('gid', Buffer.from(String(entry.gid))))
  for (const [keyword, name] of [
    ['uname', entry.user],
    ['gname', entry.group],
  ] as const) {
    if (name.length <= ownerBytes) continue
    // Other bytes make bsdtar fail in some locales; the number of the owner is there, and the name is in the index.
    if (/^[\x20-\x7e]+$/.test(name)) records.push(paxRecord(keyword, bufferFromBytePath(name)))
  }
  if (entry.storedSize !== null) {
    records.push(paxRecord('GNU.sparse.major', Buffer.from('1')))
    records.push(paxRecord('GNU.sparse.minor', Buffer.from('0')))
    if (withName) records.push(paxRecord('GNU.sparse.name', bufferFromBytePath(entry.path)))
    records.push(paxRecord('GNU.sparse.realsize', Buffer.from(String(entry.size))))
  }
  for (const [name, value] of entry.xattrs ?? []) {
    records.push(paxRecord(xattrKeyword(name), value))
    const keyword = aclKeywords.get(name)
    const text = keyword === undefined ? null : aclText(value)
    if (text !== null) records.push(paxRecord(keyword!, Buffer.from(text)))
  }
  return records
}

/** `NNN keyword=value\n`, where NNN is the length of it all, its own digits included. */
function paxRecord(keyword: string, value: Uint8Array): Buffer {
  const rest = Buffer.byteLength(keyword, 'latin1') + value.length + 3
  let length = rest + String(rest).length
  length = rest + String(length).length
  return Buffer.concat([Buffer.from(`${length} ${keyword}=`, 'latin1'), value, Buffer.from('\n')], length)
}

/** GNU tar and star keep extended attributes so, and GNU tar 1.33 and later escape `=` and `%` in their names. */
function xattrKeyword(name: string): string {
  return `SCHILY.xattr.${name.replaceAll('%', '%25').replaceAll('=', '%3D')}`
}

/** Seconds with nine decimals; -2 s and 500,000,000 ns are `-1.500000000`. */
function decimalTime({ mtimeSeconds, mtimeNanoseconds }: Entry): string {
  if (mtimeNanoseconds === 0) return String(mtimeSeconds)
  const [seconds, nanoseconds] =
    mtimeSeconds < 0 ? [-(mtimeSeconds + 1), 1e9 - mtimeNanoseconds] : [mtimeSeconds, mtimeNanoseconds]
  return `${mtimeSeconds < 0 ? '-' : ''}${seconds}.${String(nanoseconds).padStart(9, '0')}`
}

function writeOctal(bytes: Buffer, at: number, digits: number, value: number): void {
  let rest = value
  let i = at + digits - 1
  // Bit operations are exact to 32 bits only.
  for (; rest > 0x7fffffff && i >= at; i--) {
    bytes[i] = 0x30 + (rest % 8)
    rest = Math.floor(rest / 8)
  }
  for (; i >= at; i--) {
    bytes[i] = 0x30 + (rest & 7)
    rest >>>= 3
  }
}

function writeDecimal(bytes: Buffer, at: number, digits: number, value: number): void {
  let rest = value
  for (let i = at + digits - 1; i >= at; i--) {
    const tenth = Math.floor(rest / 10)
    bytes[i] = 0x30 + (rest - tenth * 10)
    rest = tenth
  }
}

/** Two's complement, big-endian, with the top bit of the first byte set as the mark. */
function writeBase256(bytes: Buffer, at: number, size: number, value: number): void {
  let rest = value
  for (let i = at + size - 1; i >= at; i--) {
    const next = Math.floor(rest / 256)
    bytes[i] = rest - next * 256
    rest = next
  }
  bytes[at] = value < 0 ? 0xff : 0x80
}

/** Adds up the 512 bytes with the checksum field as spaces, four at a time: two lanes of 16 bits cannot overflow. */
function writeChecksum(bytes: Buffer, words: Int32Array, at: number): void {
  let lanes = 0
  const first = at >> 2
  for (let i = first; i < first + tarBlockBytes / 4; i++) {
    const word = words[i]!
    lanes += (word & 0x00ff00ff) + ((word >>> 8) & 0x00ff00ff)
    lanes |= 0
  }
  writeOctal(bytes, at + field.checksum, 6, (lanes & 0xffff) + (lanes >>> 16))
  bytes[at + field.checksum + 6] = 0
}

const encoder = new TarHeaderEncoder()
