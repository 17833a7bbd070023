/**
 * The system calls of a restore, all relative to an open directory or on an open object. As in `libc.ts`: synchronous,
 * names are NUL-terminated buffers, a call that fails returns the negative error number and never throws. None of them
 * follows a link in the last component of a name, and names have one component.
 */

import { constants as fsConstants } from 'node:fs'
import koffi from 'koffi'
import { AT_FDCWD, errno, libc, low, objectPath } from './libc.ts'

const nativeOpenat = libc.func('int openat(int, const void *, int, unsigned int)')
const nativeMkdirat = libc.func('int mkdirat(int, const void *, unsigned int)')
const nativeSymlinkat = libc.func('int symlinkat(const void *, int, const void *)')
const nativeLinkat = libc.func('int linkat(int, const void *, int, const void *, int)')
const nativeMknodat = libc.func('int mknodat(int, const void *, unsigned int, uint64_t)')
const nativeUnlinkat = libc.func('int unlinkat(int, const void *, int)')
const nativeRenameat2 = libc.func('int renameat2(int, const void *, int, const void *, unsigned int)')
const nativeFchownat = libc.func('int fchownat(int, const void *, unsigned int, unsigned int, int)')
const nativeFchmod = libc.func('int fchmod(int, unsigned int)')
const nativeChmod = libc.func('int chmod(const void *, unsigned int)')
const nativeFutimens = libc.func('int futimens(int, const void *)')
const nativeUtimensat = libc.func('int utimensat(int, const void *, const void *, int)')
const nativeFsetxattr = libc.func('int fsetxattr(int, const void *, const void *, size_t, int)')
const nativeSetxattr = libc.func('int setxattr(const void *, const void *, const void *, size_t, int)')
const nativePwrite = libc.func('int64_t pwrite(int, const void *, size_t, int64_t)')
const nativeFtruncate = libc.func('int ftruncate(int, int64_t)')
const nativeFremovexattr = libc.func('int fremovexattr(int, const void *)')
const nativeRemovexattr = libc.func('int removexattr(const void *, const void *)')
const nativeFsync = libc.func('int fsync(int)')
const nativeSyncfs = libc.func('int syncfs(int)')
const nativeFlock = libc.func('int flock(int, int)')
const nativeSyncFileRange = libc.func('int sync_file_range(int, int64_t, int64_t, unsigned int)')

const O_CLOEXEC = 0o2000000
const O_PATH = 0o10000000
const AT_REMOVEDIR = 0x200
const AT_SYMLINK_FOLLOW = 0x400
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const RENAME_NOREPLACE = 1
const UTIME_OMIT = (1 << 30) - 2
const LOCK_SH = 1
const LOCK_EX = 2
const LOCK_NB = 4
const SYNC_FILE_RANGE_WRITE = 2

const createNew =
  fsConstants.O_WRONLY | fsConstants.O_CREAT | fsConstants.O_EXCL | fsConstants.O_NOFOLLOW | O_CLOEXEC
const openPath = O_PATH | fsConstants.O_NOFOLLOW | O_CLOEXEC
const openToRead = fsConstants.O_RDONLY | fsConstants.O_NONBLOCK | fsConstants.O_NOCTTY | O_CLOEXEC
const openSelf = fsConstants.O_RDONLY | fsConstants.O_DIRECTORY | O_CLOEXEC

const emptyName = Buffer.from([0])
const selfName = Buffer.from('.\0')

/** Linux has 12 bits for the major and 20 for the minor number of a device; calls cut off what is more. */
const majorMax = 0xfff
const minorMax = 0xfffff

function result(returned: number): number {
  return returned < 0 ? -koffi.errno() : returned
}

/** A descriptor of the object itself, a link included, that reads and writes nothing; or a negative error number. */
export function openPathAt(directory: number, name: Buffer): number {
  return result(nativeOpenat(directory, name, openPath, 0))
}

/** As `openPathAt`, of a directory: -ENOTDIR where it is something else, a link included. */
export function openDirectoryPathAt(directory: number, name: Buffer): number {
  return result(nativeOpenat(directory, name, openPath | fsConstants.O_DIRECTORY, 0))
}

/** Opens for reading the directory that `fd` was opened as a path of. */
export function reopenDirectory(fd: number): number {
  return result(nativeOpenat(fd, selfName, openSelf, 0))
}

/** Opens for reading the file that `fd` was opened as a path of. */
export function reopenFile(fd: number): number {
  return result(nativeOpenat(AT_FDCWD, objectPath(fd), openToRead, 0))
}

/** Makes a file that was not there, only for this user, and opens it for writing. -EEXIST where there is anything. */
export function createFileAt(directory: number, name: Buffer): number {
  return result(nativeOpenat(directory, name, createNew, 0o600))
}

export function makeDirectoryAt(directory: number, name: Buffer, mode: number): number {
  return result(nativeMkdirat(directory, name, mode))
}

export function makeSymlinkAt(target: Buffer, directory: number, name: Buffer): number {
  return result(nativeSymlinkat(target, directory, name))
}

/** A fifo, a socket or a device, only for this user. -EOVERFLOW where Linux has no such device number. */
export function makeNodeAt(
  directory: number,
  name: Buffer,
  format: number,
  device: { major: number; minor: number } | null,
): number {
  const { major, minor } = device ?? { major: 0, minor: 0 }
  if (major > majorMax || minor > minorMax) return -errno.EOVERFLOW
  // As gnu_dev_makedev does it, for numbers within these bounds.
  // By addition: the largest minor numbers do not fit into the 32 bits with sign that bit operations have.
  const encoded = (minor & 0xff) + (major << 8) + (minor & ~0xff) * 2 ** 12
  return result(nativeMknodat(directory, name, format | 0o600, encoded))
}

/** A further name for the very object that `fd` is open on, whatever its names are by now. Needs /proc. */
export function linkObjectAt(fd: number, directory: number, name: Buffer): number {
  return result(nativeLinkat(AT_FDCWD, objectPath(fd), directory, name, AT_SYMLINK_FOLLOW))
}

export function unlinkAt(directory: number, name: Buffer): number {
  return result(nativeUnlinkat(directory, name, 0))
}

/** -ENOTEMPTY where something is in it, -ENOTDIR where it is no directory. */
export function removeDirectoryAt(directory: number, name: Buffer): number {
  return result(nativeUnlinkat(directory, name, AT_REMOVEDIR))
}

/** Renames within a directory, in place of what has the new name. */
export function renameAt(directory: number, from: Buffer, to: Buffer): number {
  return result(nativeRenameat2(directory, from, directory, to, 0))
}

/** Renames within a directory; -EEXIST where there is anything. File systems that cannot say so replace it. */
export function renameNewAt(directory: number, from: Buffer, to: Buffer): number {
  const renamed = result(nativeRenameat2(directory, from, directory, to, RENAME_NOREPLACE))
  return renamed === -errno.EINVAL || renamed === -errno.ENOSYS ? renameAt(directory, from, to) : renamed
}

/** An open object. One that was opened as a path can be changed by way of /proc only. */
export interface OpenObject {
  fd: number
  isPath: boolean
}

export function setOwner({ fd }: OpenObject, uid: number, gid: number): number {
  return result(nativeFchownat(fd, emptyName, uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
}

/** Not for symbolic links, which have no mode. */
export function setMode({ fd, isPath }: OpenObject, mode: number): number {
  return result(isPath ? nativeChmod(objectPath(fd), mode) : nativeFchmod(fd, mode))
}

/** struct timespec[2]: access time, which is left as it is, and modification time. */
const times = Buffer.alloc(32)
const writeInt64 = (low === 0 ? times.writeBigInt64LE : times.writeBigInt64BE).bind(times)
writeInt64(BigInt(UTIME_OMIT), 8)

/** Sets the modification time. */
export function setModified({ fd, isPath }: OpenObject, seconds: number, nanoseconds: number): number {
  writeInt64(BigInt(seconds), 16)
  writeInt64(BigInt(nanoseconds), 24)
  return result(isPath ? nativeUtimensat(AT_FDCWD, objectPath(fd), times, 0) : nativeFutimens(fd, times))
}

/** `name` is NUL-terminated. */
export function setXattr({ fd, isPath }: OpenObject, name: Buffer, value: Uint8Array): number {
  return result(
    isPath
      ? nativeSetxattr(objectPath(fd), name, value, value.length, 0)
      : nativeFsetxattr(fd, name, value, value.length, 0),
  )
}

/** `name` is NUL-terminated. */
export function removeXattr({ fd, isPath }: OpenObject, name: Buffer): number {
  return result(isPath ? nativeRemovexattr(objectPath(fd), name) : nativeFremovexattr(fd, name))
}

/** Writes all of `bytes` at a position of the file. 0, or a negative error number. */
export function writeAllAt(fd: number, bytes: Uint8Array, position: number): number {
  for (let offset = 0; offset < bytes.length; ) {
    const piece = offset === 0 ? bytes : bytes.subarray(offset)
    const written = result(Number(nativePwrite(fd, piece, piece.length, position + offset)))
    if (written === -errno.EINTR) continue
    if (written <= 0) return written === 0 ? -errno.EIO : written
    offset += written
  }
  return 0
}

/** Makes a file as long as `size`: what is added is a hole. -EFBIG where the file system has no such files. */
export function setSize(fd: number, size: number): number {
  return result(nativeFtruncate(fd, size))
}

export function syncFile(fd: number): number {
  return result(nativeFsync(fd))
}

/** Writes all that the file system of `fd` has in memory to its disk. Not for descriptors opened as paths. */
export function syncFileSystem(fd: number): number {
  return result(nativeSyncfs(fd))
}

/** Locks an open file for this opening alone, until it is closed or the process ends. -EAGAIN where another has it. */
export function lockFile(fd: number): number {
  return result(nativeFlock(fd, LOCK_EX | LOCK_NB))
}

/**
 * Has the kernel begin to write out what was written to a part of a file, without waiting for it, in a thread of its own: the
 * call waits where the queue of the disk is full. The file stays open until the promise resolves. Says nothing of success,
 * which a later fsync tells.
 */
export function beginWriteback(fd: number, offset: number, length: number): Promise<void> {
  return new Promise((resolve) =>
    nativeSyncFileRange.async(fd, offset, length, SYNC_FILE_RANGE_WRITE, () => resolve()),
  )
}

/** As `lockFile`, but any number of openings may have it so at once. In place of a lock that this opening has. */
export function lockShared(fd: number): number {
  return result(nativeFlock(fd, LOCK_SH | LOCK_NB))
}
