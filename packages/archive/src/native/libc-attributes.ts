/**
 * The system calls that read what `stat` does not tell of an object: extended attributes, inode flags, project. As in
 * `libc.ts`: synchronous, names are NUL-terminated buffers, a call that fails returns the negative error number.
 */
import koffi from 'koffi'
import type { BytePath } from '../path.ts'
import { AT_FDCWD, cName, errno, libc, low, objectPath } from './libc.ts'

const nativeFlistxattr = libc.func('int64_t flistxattr(int, void *, size_t)')
const nativeFgetxattr = libc.func('int64_t fgetxattr(int, const void *, void *, size_t)')
const nativeListxattr = libc.func('int64_t listxattr(const void *, void *, size_t)')
const nativeGetxattr = libc.func('int64_t getxattr(const void *, const void *, void *, size_t)')
const nativeLlistxattr = libc.func('int64_t llistxattr(const void *, void *, size_t)')
const nativeLgetxattr = libc.func('int64_t lgetxattr(const void *, const void *, void *, size_t)')
// The calls relative to a folder have no wrappers in the C libraries of today (listxattrat(2), Linux 6.13).
const nativeListxattrat = libc.func(
  'int64_t syscall(int64_t, int, const void *, unsigned int, void *, size_t)',
)
const nativeGetxattrat = libc.func(
  'int64_t syscall(int64_t, int, const void *, unsigned int, const void *, void *, size_t)',
)
const nativeIoctl = libc.func('int ioctl(int, unsigned long, void *)')

const AT_SYMLINK_NOFOLLOW = 0x100
/** The same on all architectures that Node runs on. */
const SYS_getxattrat = 464
const SYS_listxattrat = 465

/** Linux gives no more than these, but file systems of user space may (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const xattrBytesMax = 64 * 1024

/** The kernel clears as much memory as it is offered, so the first offer is what usually suffices. */
const firstOffer = Buffer.allocUnsafeSlow(4096)
const secondOffer = Buffer.allocUnsafeSlow(xattrBytesMax)
/** Names of most objects are none, or a handful. */
const listOffer = Buffer.allocUnsafeSlow(1024)

/** struct xattr_args: value as a 64-bit address, size, flags. */
const xattrArguments = Buffer.alloc(16)
const writeAddress = (low === 0 ? xattrArguments.writeBigUInt64LE : xattrArguments.writeBigUInt64BE).bind(
  xattrArguments,
)
const writeSize = (low === 0 ? xattrArguments.writeUInt32LE : xattrArguments.writeUInt32BE).bind(
  xattrArguments,
)
const firstOfferAddress = BigInt(koffi.address(firstOffer))
const secondOfferAddress = BigInt(koffi.address(secondOffer))

/** Kernels before 6.13 do not have the calls, and sandboxes may not let them through. */
const hasCallsRelativeToFolders =
  Number(nativeListxattrat(SYS_listxattrat, AT_FDCWD, cName('/' as BytePath), 0, null, 0)) >= 0

function result(returned: number | bigint): number {
  const number = Number(returned)
  return number < 0 ? -koffi.errno() : number
}

/**
 * An object whose attributes are read: what a descriptor is open on where `name` is `null`, and else what has that name in
 * the folder that `fd` is open on, a link itself included.
 */
export interface AttributePlace {
  fd: number
  name: Buffer | null
  /** The object was opened as a path: its attributes can be read by way of /proc only. */
  isPath?: boolean
}

/** A name that leads to what has `name` in the folder, without following it (proc(5), /proc/pid/fd). */
function pathOf(fd: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name.subarray(0, name.indexOf(0) + 1)])
}

function list({ fd, name, isPath }: AttributePlace, offer: Buffer): number {
  if (isPath === true) return result(nativeListxattr(objectPath(fd), offer, offer.length))
  if (name === null) return result(nativeFlistxattr(fd, offer, offer.length))
  if (!hasCallsRelativeToFolders) return result(nativeLlistxattr(pathOf(fd, name), offer, offer.length))
  return result(nativeListxattrat(SYS_listxattrat, fd, name, AT_SYMLINK_NOFOLLOW, offer, offer.length))
}

/** Names of the extended attributes, NUL-terminated each, as the kernel has them; or a negative error number. */
export function listXattrs(place: AttributePlace): Buffer[] | number {
  let offer = listOffer
  let length = list(place, offer)
  if (length === -errno.ERANGE) {
    offer = secondOffer
    length = list(place, offer)
  }
  if (length <= 0) return length === 0 ? noNames : length
  const names: Buffer[] = []
  for (let at = 0; at < length; ) {
    const end = offer.indexOf(0, at) + 1
    if (end === 0 || end > length) break
    names.push(Buffer.from(offer.subarray(at, end)))
    at = end
  }
  return names
}

const noNames: Buffer[] = []

function get({ fd, name, isPath }: AttributePlace, xattr: Buffer, offer: Buffer): number {
  if (isPath === true) return result(nativeGetxattr(objectPath(fd), xattr, offer, offer.length))
  if (name === null) return result(nativeFgetxattr(fd, xattr, offer, offer.length))
  if (!hasCallsRelativeToFolders) {
    return result(nativeLgetxattr(pathOf(fd, name), xattr, offer, offer.length))
  }
  writeAddress(offer === firstOffer ? firstOfferAddress : secondOfferAddress, 0)
  writeSize(offer.length, 8)
  return result(
    nativeGetxattrat(
      SYS_getxattrat,
      fd,
      name,
      AT_SYMLINK_NOFOLLOW,
      xattr,
      xattrArguments,
      xattrArguments.length,
    ),
  )
}

/** Value of an extended attribute, in a buffer of its own; or a negative error number. */
export function getXattr(place: AttributePlace, xattr: Buffer): Buffer | number {
  let offer = firstOffer
  let length = get(place, xattr, offer)
  if (length === -errno.ERANGE) {
    offer = secondOffer
    length = get(place, xattr, offer)
  }
  return length < 0 ? length : Buffer.from(offer.subarray(0, length))
}

// _IOR and _IOW of asm-generic/ioctl.h; POWER numbers the two directions the other way round.
const [read, write] = process.arch === 'ppc64' ? [0x4000_0000, 0x8000_0000] : [0x8000_0000, 0x4000_0000]
const longBytes = koffi.sizeof('long')
const projectBytes = 28
const FS_IOC_GETFLAGS = read + longBytes * 0x1_0000 + 0x6601
const FS_IOC_SETFLAGS = write + longBytes * 0x1_0000 + 0x6602
const FS_IOC_FSGETXATTR = read + projectBytes * 0x1_0000 + 0x581f
const FS_IOC_FSSETXATTR = write + projectBytes * 0x1_0000 + 0x5820

/** The kernel writes 32 bits, whatever the number of the call says. */
const flagWord = new Int32Array(2)
/** struct fsxattr: flags, extent size, number of extents, project, extent size of copies, padding. */
const projectWords = new Uint32Array(projectBytes / 4)
const projectAt = 3

/** All inode flags, also those that a program cannot set; or a negative error number. Of files and directories. */
export function getFlags(fd: number): number {
  flagWord[0] = 0
  const failure = result(nativeIoctl(fd, FS_IOC_GETFLAGS, flagWord))
  return failure < 0 ? failure : flagWord[0] & 0x7fff_ffff
}

/** Sets all inode flags to what `getFlags` gave, or a change of it. 0, or a negative error number. */
export function setFlags(fd: number, flags: number): number {
  flagWord[0] = flags
  return result(nativeIoctl(fd, FS_IOC_SETFLAGS, flagWord))
}

/** The project of an open file or directory; or a negative error number. */
export function getProject(fd: number): number {
  const failure = result(nativeIoctl(fd, FS_IOC_FSGETXATTR, projectWords))
  return failure < 0 ? failure : projectWords[projectAt]!
}

/** 0, or a negative error number. */
export function setProject(fd: number, project: number): number {
  const failure = result(nativeIoctl(fd, FS_IOC_FSGETXATTR, projectWords))
  if (failure < 0) return failure
  projectWords[projectAt] = project
  return result(nativeIoctl(fd, FS_IOC_FSSETXATTR, projectWords))
}
