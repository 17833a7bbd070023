/**
 * What `node:fs` does not tell or set of an object: extended attributes, inode flags, project. By calls of its own, with
 * paths, so that it can judge the code that it is used to test. Links are not followed. Names of attributes have one
 * character a byte.
 */
import { closeSync, constants, lstatSync, openSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const libc = koffi.load(null)
const llistxattr = libc.func('int64_t llistxattr(const void *, void *, size_t)')
const lgetxattr = libc.func('int64_t lgetxattr(const void *, const void *, void *, size_t)')
const lsetxattr = libc.func('int lsetxattr(const void *, const void *, const void *, size_t, int)')
const lremovexattr = libc.func('int lremovexattr(const void *, const void *)')
const ioctl = libc.func('int ioctl(int, unsigned long, void *)')

const FS_IOC_GETFLAGS = 0x80086601
const FS_IOC_SETFLAGS = 0x40086602
const FS_IOC_FSGETXATTR = 0x801c581f
const FS_IOC_FSSETXATTR = 0x401c5820

type Path = string | Buffer

function cString(text: Path): Buffer {
  return Buffer.concat([typeof text === 'string' ? Buffer.from(text) : text, Buffer.from([0])])
}

function check(doing: string, returned: number | bigint): number {
  if (Number(returned) >= 0) return Number(returned)
  throw new Error(`${doing}: ${getSystemErrorName(-koffi.errno())}`)
}

/** By name, in the order of names. */
export function readXattrs(path: Path): Map<string, Buffer> {
  const buffer = Buffer.alloc(65_536)
  const length = Number(llistxattr(cString(path), buffer, buffer.length))
  if (length < 0 && koffi.errno() === notSupported) return new Map()
  check(`listing attributes of ${path}`, length)
  const names = buffer.latin1Slice(0, length).split('\0').slice(0, -1).sort()
  return new Map(
    names.map((name) => {
      const size = lgetxattr(cString(path), Buffer.from(`${name}\0`, 'latin1'), buffer, buffer.length)
      return [name, Buffer.from(buffer.subarray(0, check(`reading ${name} of ${path}`, size)))]
    }),
  )
}

/** EOPNOTSUPP */
const notSupported = 95

export function writeXattr(path: Path, name: string, value: string | Uint8Array): void {
  const bytes = Buffer.from(value as string)
  const cName = Buffer.from(`${name}\0`, 'latin1')
  check(`setting ${name} of ${path}`, lsetxattr(cString(path), cName, bytes, bytes.length, 0))
}

export function removeXattr(path: Path, name: string): void {
  check(`removing ${name} of ${path}`, lremovexattr(cString(path), Buffer.from(`${name}\0`, 'latin1')))
}

/** All inode flags of a file or a folder; `null` of all else, and where the file system has none. */
export function readFlags(path: Path): number | null {
  return withOpen(path, (fd) => {
    const word = new Int32Array(2)
    return ioctl(fd, FS_IOC_GETFLAGS, word) < 0 ? null : word[0]!
  })
}

/** Sets and clears some of them, and leaves the others. */
export function changeFlags(path: Path, set: number, clear = 0): void {
  const before = readFlags(path) ?? 0
  withOpen(path, (fd) => {
    const word = new Int32Array([(before & ~clear) | set, 0])
    check(`setting flags of ${path}`, ioctl(fd, FS_IOC_SETFLAGS, word))
  })
}

/** Project of quotas; 0 where there is none. */
export function readProject(path: Path): number {
  return (
    withOpen(path, (fd) => {
      const words = new Uint32Array(7)
      return ioctl(fd, FS_IOC_FSGETXATTR, words) < 0 ? 0 : words[3]!
    }) ?? 0
  )
}

export function writeProject(path: Path, project: number): void {
  withOpen(path, (fd) => {
    const words = new Uint32Array(7)
    check(`reading the project of ${path}`, ioctl(fd, FS_IOC_FSGETXATTR, words))
    words[3] = project
    check(`setting the project of ${path}`, ioctl(fd, FS_IOC_FSSETXATTR, words))
  })
}

/** `null` for what has no content to be opened for. */
function withOpen<T>(path: Path, work: (fd: number) => T): T | null {
  const stats = lstatSync(path)
  if (!stats.isFile() && !stats.isDirectory()) return null
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
}

const aclTags = { owner: 1, user: 2, 'owning-group': 4, group: 8, mask: 16, other: 32 } as const

/** The value of an extended attribute that is an access control list; entries in the order of `aclTags`. */
export function aclValue(
  entries: readonly (readonly [tag: keyof typeof aclTags, permissions: number, id?: number])[],
) {
  const value = Buffer.alloc(4 + 8 * entries.length)
  value.writeUInt32LE(2)
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    value.writeUInt16LE(aclTags[tag], 4 + 8 * i)
    value.writeUInt16LE(permissions, 6 + 8 * i)
    value.writeUInt32LE(id ?? 0xffff_ffff, 8 + 8 * i)
  }
  return value
}

/** A capability of version 2, as `setcap cap_net_raw+ep` sets it. */
export const netRawCapability = Buffer.from('0100000200200000000000000000000000000000', 'hex')

/** Why objects in `folder` cannot have attributes of the kind; `false` where they can. */
export function lacksAttributes(folder: string, kind: 'user' | 'trusted' | 'flags'): string | false {
  if (kind !== 'user' && process.geteuid!() !== 0) return 'only root can set such attributes'
  try {
    if (kind === 'flags') changeFlags(folder, 0)
    else {
      writeXattr(folder, `${kind}.central-backup-test`, '')
      removeXattr(folder, `${kind}.central-backup-test`)
    }
    return false
  } catch (error) {
    return `the file system of ${folder} has none of these attributes: ${(error as Error).message}`
  }
}
