/**
 * The system calls that Node lacks: those relative to an open directory, and those that take names as bytes.
 *
 * All are synchronous, made for worker threads that walk and read a tree. A call that fails returns the negative
 * error number, as the kernel does; it never throws. Names are NUL-terminated buffers (see `cName`).
 */

import { constants as fsConstants } from 'node:fs'
import { constants, endianness } from 'node:os'
import { getSystemErrorMessage, getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import type { BytePath } from '../path.ts'

export const libc = koffi.load(null)

const nativeOpenat = libc.func('int openat(int, const void *, int)')
const nativeClose = libc.func('int close(int)')
const nativeRead = libc.func('int64_t read(int, void *, size_t)')
const nativeReadTo = libc.func('read', 'int64_t', ['int', 'uintptr_t', 'size_t'])
const nativePread = libc.func('int64_t pread(int, void *, size_t, int64_t)')
const nativeLseek = libc.func('int64_t lseek(int, int64_t, int)')
const nativeStatx = libc.func('int statx(int, const void *, int, unsigned int, void *)')
const nativeReadlinkat = libc.func('int64_t readlinkat(int, const void *, void *, size_t)')
const nativeGetdents = libc.func('int64_t getdents64(int, void *, size_t)')
const nativeFstatfs = libc.func('int fstatfs(int, void *)')
const nativeIoctl = libc.func('int ioctl(int, unsigned long, void *)')
const nativeStrerror = libc.func('const char *strerror(int)')
const nativeExit = libc.func('void _exit(int)')
const nativeMadvise = libc.func('int madvise(uintptr_t, size_t, int)')
const nativeFadvise = libc.func('int posix_fadvise(int, int64_t, int64_t, int)')
koffi.struct('iovec', { base: 'void *', length: 'size_t' })
const nativePreadv2 = libc.func('int64_t preadv2(int, iovec *, int, int64_t, int)')

/** Directory descriptor that stands for the process's own working directory; absolute names ignore it. */
export const AT_FDCWD = -100

const AT_SYMLINK_NOFOLLOW = 0x100
const AT_NO_AUTOMOUNT = 0x800
const AT_EMPTY_PATH = 0x1000
const AT_STATX_DONT_SYNC = 0x4000
const STATX_BASIC_STATS = 0x7ff
const STATX_MNT_ID = 0x1000
const STATX_ATTR_NODUMP = 0x40
const O_CLOEXEC = 0o2000000
const SEEK_SET = 0
const SEEK_DATA = 3
const SEEK_HOLE = 4
const O_PATH = 0o10000000
const RWF_NOWAIT = 8
const POSIX_FADV_DONTNEED = 4
const MADV_DONTNEED = 4

export const errno = constants.errno

/** Opens for reading what must not be waited for and not be followed. */
const openFile =
  fsConstants.O_RDONLY | fsConstants.O_NOFOLLOW | fsConstants.O_NONBLOCK | fsConstants.O_NOCTTY | O_CLOEXEC
const openDirectory = openFile | fsConstants.O_DIRECTORY

const statfsBuffer = Buffer.alloc(256)
const emptyName = Buffer.from([0])

/** A name as the calls below take it. `buffer`, where given, is overwritten and must have 256 bytes or more. */
export function cName(name: BytePath, buffer?: Buffer): Buffer {
  if (buffer === undefined || name.length >= buffer.length) return Buffer.from(`${name}\0`, 'latin1')
  buffer.latin1Write(name, 0)
  buffer[name.length] = 0
  return buffer
}

/** A name that leads to the object that a descriptor is open on, also where that is a link (proc(5), /proc/pid/fd). */
export function objectPath(fd: number): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}\0`, 'latin1')
}

/** Names of error numbers that disks have and neither libuv nor Node's constants do. */
const namesOfDisks: Readonly<Record<number, string>> = { 117: 'EUCLEAN', 121: 'EREMOTEIO', 123: 'ENOMEDIUM' }

/** Name of a negative error number: `EACCES`. Where libuv has none (EDQUOT, ESTALE), that of the system. */
export function errnoName(negative: number): string {
  const name = getSystemErrorName(negative)
  if (!name.startsWith('Unknown')) return name
  const known = Object.entries(errno).find(([, number]) => number === -negative)
  return known?.[0] ?? namesOfDisks[-negative] ?? name
}

/** Text of a negative error number, for people: `EACCES: permission denied`. */
export function describeErrno(negative: number): string {
  // What Node says of it, "operation not supported on socket", would lead people astray.
  if (negative === -errno.EOPNOTSUPP) return 'EOPNOTSUPP: operation not supported'
  const name = errnoName(negative)
  const isKnown = name === getSystemErrorName(negative)
  return `${name}: ${isKnown ? getSystemErrorMessage(negative) : (nativeStrerror(-negative) as string).toLowerCase()}`
}

function openat(directory: number, name: Buffer, flags: number): number {
  const fd = nativeOpenat(directory, name, flags)
  return fd < 0 ? -koffi.errno() : fd
}

/** O_NOATIME is for the owner of a file and for CAP_FOWNER; all others read as they may. */
function openatQuietly(directory: number, name: Buffer, flags: number): number {
  const fd = openat(directory, name, flags | fsConstants.O_NOATIME)
  return fd === -errno.EPERM ? openat(directory, name, flags) : fd
}

/** A descriptor, or a negative error number. Never follows a link, never waits for a fifo, leaves the atime. */
export function openFileAt(directory: number, name: Buffer): number {
  return openatQuietly(directory, name, openFile)
}

/** As `openFileAt`, of a directory: -ENOTDIR where it is something else, -ELOOP or -ENOTDIR where it is a link. */
export function openDirectoryAt(directory: number, name: Buffer): number {
  return openatQuietly(directory, name, openDirectory)
}

export function close(fd: number): void {
  nativeClose(fd)
}

/** Puts a file's position back to its start. */
export function rewind(fd: number): void {
  nativeLseek(fd, 0, SEEK_SET)
}

/** Start of the data at or behind `offset`; -ENXIO where only a hole is left. Moves the file's position. */
export function seekData(fd: number, offset: number): number {
  return seek(fd, offset, SEEK_DATA)
}

/** Start of the hole at or behind `offset`: at last, the end of the file. As `seekData`. */
export function seekHole(fd: number, offset: number): number {
  return seek(fd, offset, SEEK_HOLE)
}

function seek(fd: number, offset: number, whence: number): number {
  const found = Number(nativeLseek(fd, offset, whence))
  return found < 0 ? -koffi.errno() : found
}

/** As `readInto`, at a position of the file, and without moving its own. */
export function readAt(fd: number, buffer: Buffer, offset: number, length: number, position: number): number {
  const into = offset === 0 ? buffer : buffer.subarray(offset, offset + length)
  const read = Number(nativePread(fd, into, length, position))
  return read < 0 ? -koffi.errno() : read
}

/** Reads at the file's position into `buffer` at `offset`. Bytes read, 0 at the end, or a negative error number. */
export function readInto(fd: number, buffer: Buffer, offset: number, length: number): number {
  const read = Number(
    nativeRead(fd, offset === 0 ? buffer : buffer.subarray(offset, offset + length), length),
  )
  return read < 0 ? -koffi.errno() : read
}

/** Where the memory of a buffer lies. It stays there as long as the buffer is in use. */
export function addressOf(buffer: Buffer): number {
  return Number(koffi.address(buffer))
}

/**
 * As `readInto`, to an address: for many small files, whose content costs less than a view of where it belongs. The
 * caller answers for it that `length` bytes are there.
 */
export function readTo(fd: number, address: number, length: number): number {
  const read = Number(nativeReadTo(fd, address, length))
  return read < 0 ? -koffi.errno() : read
}

export const low = endianness() === 'LE' ? 0 : 1
const high = 1 - low

/** What `statx` tells of a file. The one object is overwritten by each call. */
export class FileStatus {
  readonly #words = new Uint32Array(64)
  readonly #signed = new Int32Array(this.#words.buffer)
  readonly #bytes = Buffer.from(this.#words.buffer)

  mode = 0
  nlink = 0
  uid = 0
  gid = 0
  ino: number | bigint = 0
  dev = 0
  size = 0
  /** What the file takes on disk, as far as the file system tells. */
  allocatedBytes = 0
  mtimeSeconds = 0
  mtimeNanoseconds = 0
  ctimeSeconds = 0
  ctimeNanoseconds = 0
  deviceMajor = 0
  deviceMinor = 0
  /** Of the mount that the object is seen through; 0 where the kernel does not tell (before Linux 5.8). */
  mountId = 0
  /** The flag of `chattr +d`; false, too, where the file system does not tell. */
  isNodump = false

  /** 0, or a negative error number. */
  ofName(directory: number, name: Buffer): number {
    return this.#call(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)
  }

  /** As `ofName`, with what the kernel knows by itself: asks no server, and no program behind a FUSE mount. */
  ofNameAsKnown(directory: number, name: Buffer): number {
    return this.#call(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC)
  }

  /** 0, or a negative error number. */
  ofDescriptor(fd: number): number {
    return this.#call(fd, emptyName, AT_EMPTY_PATH)
  }

  #call(fd: number, name: Buffer, flags: number): number {
    if (nativeStatx(fd, name, flags, STATX_BASIC_STATS | STATX_MNT_ID, this.#bytes) < 0) return -koffi.errno()
    // Offsets of struct statx, the same on every architecture (statx(2)), in 32-bit words.
    const words = this.#words
    this.nlink = words[4]!
    this.uid = words[5]!
    this.gid = words[6]!
    this.mode = this.#bytes.readUInt16LE(28)
    if (low === 1) this.mode = this.#bytes.readUInt16BE(28)
    this.ino = this.#unsigned64(8)
    this.size = Number(this.#unsigned64(10))
    this.allocatedBytes = Number(this.#unsigned64(12)) * 512
    this.ctimeSeconds = this.#signed64(24)
    this.ctimeNanoseconds = words[26]!
    this.mtimeSeconds = this.#signed64(28)
    this.mtimeNanoseconds = words[30]!
    this.deviceMajor = words[32]!
    this.deviceMinor = words[33]!
    this.dev = words[34]! * 2 ** 32 + words[35]!
    this.isNodump = (words[2 + low]! & STATX_ATTR_NODUMP) !== 0
    this.mountId = (words[0]! & STATX_MNT_ID) === 0 ? 0 : Number(this.#unsigned64(36))
    return 0
  }

  #unsigned64(word: number): number | bigint {
    const top = this.#words[word + high]!
    const bottom = this.#words[word + low]!
    return top < 2 ** 21 ? top * 2 ** 32 + bottom : (BigInt(top) << 32n) | BigInt(bottom)
  }

  #signed64(word: number): number {
    return this.#signed[word + high]! * 2 ** 32 + this.#words[word + low]!
  }
}

/**
 * The magic number of the file system that a directory is of, or a negative error number. Asks without opening it, so
 * that nothing is mounted by that (statfs(2), open(2) of O_PATH).
 */
export function fileSystemMagicAt(directory: number, name: Buffer): number {
  const fd = openat(directory, name, O_PATH | fsConstants.O_NOFOLLOW | fsConstants.O_DIRECTORY | O_CLOEXEC)
  if (fd < 0) return fd
  const failed = nativeFstatfs(fd, statfsBuffer) < 0 ? -koffi.errno() : 0
  nativeClose(fd)
  // f_type is the first word of struct statfs: 32 significant bits of a long.
  return failed < 0 ? failed : new Uint32Array(statfsBuffer.buffer, 0, 2)[low]!
}

const BTRFS_IOC_SUBVOL_GETFLAGS = 0x80089419n
const BTRFS_SUBVOL_RDONLY = 2

/** Whether an open directory is a read-only subvolume of btrfs: a snapshot. False for all else. */
export function isReadOnlySubvolume(fd: number): boolean {
  const flags = new Uint32Array(2)
  return nativeIoctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, flags) === 0 && (flags[low]! & BTRFS_SUBVOL_RDONLY) !== 0
}

const targetBuffer = Buffer.allocUnsafeSlow(4096)

/** Target of a symbolic link, or a negative error number. The kernel limits a target to 4,095 bytes. */
export function readLinkAt(directory: number, name: Buffer): BytePath | number {
  const length = Number(nativeReadlinkat(directory, name, targetBuffer, targetBuffer.length))
  return length < 0 ? -koffi.errno() : (targetBuffer.latin1Slice(0, length) as BytePath)
}

const direntBuffer = Buffer.allocUnsafeSlow(256 * 1024)

/** Names in an open directory, without `.` and `..`, sorted as bytes, each once; or a negative error number. */
export function readNames(fd: number): BytePath[] | number {
  const names: BytePath[] = []
  for (;;) {
    const length = Number(nativeGetdents(fd, direntBuffer, direntBuffer.length))
    if (length < 0) return -koffi.errno()
    if (length === 0) break
    for (let at = 0; at < length; ) {
      // struct linux_dirent64: d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name (getdents64(2)).
      const recordEnd =
        at + (low === 0 ? direntBuffer.readUInt16LE(at + 16) : direntBuffer.readUInt16BE(at + 16))
      const nameStart = at + 19
      let nameEnd = nameStart
      while (direntBuffer[nameEnd] !== 0) nameEnd++
      const name = direntBuffer.latin1Slice(nameStart, nameEnd)
      if (name !== '.' && name !== '..') names.push(name as BytePath)
      at = recordEnd
    }
  }
  return sortOnce(names)
}

/**
 * Sorts names as bytes, in place, and leaves each once: where one is removed and made again while its folder is read, some
 * file systems (tmpfs) tell of it twice, and no index takes that.
 */
export function sortOnce(names: BytePath[]): BytePath[] {
  names.sort()
  let kept = 0
  for (const name of names) if (kept === 0 || name !== names[kept - 1]) names[kept++] = name
  names.length = kept
  return names
}

/** Whether the first byte of an open file is in the page cache. False also where the kernel cannot tell. */
export function isCached(fd: number): boolean {
  const probe = Buffer.alloc(1)
  return Number(nativePreadv2(fd, [{ base: probe, length: 1 }], 1, 0, RWF_NOWAIT)) === 1
}

/** Hands the pages of a file, from its start to `length`, back to the kernel. Advice: no result. */
export function dropPages(fd: number, length: number): void {
  nativeFadvise(fd, 0, length, POSIX_FADV_DONTNEED)
}

/** A multiple of the size of a page, on all machines. */
const pageBytesMax = 64 * 1024

/**
 * Hands the memory of a buffer back to the kernel, but for its edges: it is zeros then, and taken again where it is used. Only
 * for memory that was allocated as zeros, by itself, and is not in use by anybody.
 */
export function releasePages(buffer: Buffer): void {
  const address = addressOf(buffer)
  const start = Math.ceil(address / pageBytesMax) * pageBytesMax
  const end = Math.floor((address + buffer.length) / pageBytesMax) * pageBytesMax
  if (end > start) nativeMadvise(start, end - start, MADV_DONTNEED)
}

let nativeTrim: ((keptBytes: number) => number) | null = null
let nativeMallopt: ((parameter: number, value: number) => number) | null = null
try {
  nativeTrim = libc.func('int malloc_trim(size_t)')
  nativeMallopt = libc.func('int mallopt(int, int)')
} catch {
  // C libraries other than that of GNU do not have it.
}

/**
 * Hands back to the kernel what was freed and is kept for the next allocation: the GNU C library keeps some for each thread
 * that there ever was. Milliseconds; for the end of some work.
 */
export function releaseFreeMemory(): void {
  nativeTrim?.(0)
}

/** From malloc.h of the GNU C library, and what it begins with. */
const M_MMAP_THRESHOLD = -3
const mmapThresholdBytes = 128 * 1024

/**
 * Has large pieces of memory go back to the kernel when they are freed, always. Else the GNU C library, once it has
 * freed one of up to 32 MiB, takes all of that size and below from where they leave holes: one login by argon2 is
 * enough. For the start of a process that lives on.
 */
export function keepLargeMemoryApart(): void {
  nativeMallopt?.(M_MMAP_THRESHOLD, mmapThresholdBytes)
}

/**
 * Ends the process at once, without what else is done at the end: Node would wait for a thread that hangs in the kernel, and
 * koffi, which has stderr synced then, would wait for itself, for ever, where the disk of the log that stderr goes to reports an
 * error.
 */
export function exitNow(code: number): void {
  nativeExit(code)
}
