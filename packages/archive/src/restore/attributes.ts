import { aclGroupPermissions, aclKeywords } from '../acl.ts'
import type { Entry } from '../entry.ts'
import { idMax } from '../limits.ts'
import { errno } from '../native/libc.ts'
import { listXattrs } from '../native/libc-attributes.ts'
import {
  type OpenObject,
  removeXattr,
  setMode,
  setModified,
  setOwner,
  setXattr,
} from '../native/libc-write.ts'
import type { TargetOwners } from './target-owners.ts'

/** Attributes that can fail to be set, each on its own, while the rest of a restore goes on. */
export type Attribute = 'owner' | 'mode' | 'acls' | 'xattrs' | 'capabilities' | 'times' | 'flags' | 'project'

const notToBeHad = new Set(
  [
    errno.EPERM,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EINVAL,
    errno.EOVERFLOW,
    errno.ERANGE,
    errno.E2BIG,
  ].map((number) => -number),
)

/** Whether a call failed as the file system does not have such a thing, or this user may not, and not as the disk did. */
export function isNotToBeHad(attribute: Attribute, negativeErrno: number): boolean {
  // As ext4 says of extended attributes that have no room in an inode and a block.
  if (negativeErrno === -errno.ENOSPC) return /^(?:acls|xattrs|capabilities)$/.test(attribute)
  return notToBeHad.has(negativeErrno)
}

/** Told of each attribute that could not be set, at most once for an object. */
export type NoteUnset = (attribute: Attribute, negativeErrno: number) => void

/** Set-user-id and set-group-id: with another owner than the one they were meant for, they would open a door. */
export const setIdBits = 0o6000

const groupBits = 0o070

const accessAcl = 'system.posix_acl_access'
const capability = 'security.capability'

/**
 * Gives an open object the attributes of its entry, each by the descriptor: owner, mode, extended attributes with ACLs
 * first and capabilities last, times; in this order, as each of them may undo those that come after it. Inode flags and
 * project are not among them. At no time may anybody do more with it than in the end, or in the beginning.
 *
 * Where the owner cannot be set, a mode loses its set-id bits, and a program its capabilities, which count as not set.
 */
export function setAttributes(
  object: OpenObject,
  entry: Entry,
  owners: TargetOwners,
  unset: NoteUnset,
): void {
  const owned = setOwnerOf(object, entry, owners, unset)
  const found = xattrsOf(object)
  const mode = owned ? entry.mode : entry.mode & ~setIdBits
  if (entry.type !== 'symlink') {
    // With an ACL, the bits of the group are the most that anybody named in it may do, and without it they are the group's.
    const hasAcl = found.has(accessAcl) || entry.xattrs?.has(accessAcl) === true
    const failure = setMode(object, hasAcl ? mode & ~groupBits : mode)
    if (failure < 0) unset('mode', failure)
    else if (mode !== entry.mode) unset('mode', -errno.EPERM)
  }
  setXattrs(object, entry, { found, owned, mode }, unset)
  const timed = setModified(object, entry.mtimeSeconds, entry.mtimeNanoseconds)
  if (timed < 0) unset('times', timed)
}

function setOwnerOf(object: OpenObject, entry: Entry, owners: TargetOwners, unset: NoteUnset): boolean {
  const uid = owners.uidOf(entry)
  const gid = owners.gidOf(entry)
  // The highest number means "leave it" to the kernel, and so cannot be anybody's.
  const failure = uid === idMax || gid === idMax ? -errno.EINVAL : setOwner(object, uid, gid)
  if (failure < 0) unset('owner', failure)
  else owners.note(entry)
  return failure >= 0
}

/** What an object has, as its kernel has the names. */
function xattrsOf({ fd, isPath }: OpenObject): ReadonlyMap<string, Buffer> {
  const names = listXattrs({ fd, name: null, isPath })
  if (typeof names === 'number') return new Map()
  return new Map(names.map((name) => [name.latin1Slice(0, name.length - 1), name]))
}

function setXattrs(
  object: OpenObject,
  { type, xattrs }: Entry,
  { found, owned, mode }: { found: ReadonlyMap<string, Buffer>; owned: boolean; mode: number },
  unset: NoteUnset,
): void {
  const failures = new Map<Attribute, number>()
  const wanted = xattrs ?? noXattrs
  removeOthers(object, found, wanted, failures)
  if (type !== 'symlink' && found.has(accessAcl) && !wanted.has(accessAcl)) setMode(object, mode)
  for (const [name, value] of inOrder(wanted)) {
    const failure =
      name === capability && !owned
        ? -errno.EPERM
        : setXattr(object, Buffer.from(`${name}\0`, 'latin1'), value)
    if (failure === 0) continue
    failures.set(attributeOf(name), failure)
    if (name === accessAcl && type !== 'symlink') setMode(object, modeWithoutAcl(mode, value))
  }
  for (const [attribute, failure] of failures) unset(attribute, failure)
}

const noXattrs: NonNullable<Entry['xattrs']> = new Map()

function attributeOf(name: string): Attribute {
  if (name === capability) return 'capabilities'
  return aclKeywords.has(name) ? 'acls' : 'xattrs'
}

/** ACLs change the mode, and capabilities are lost with many other changes. */
function* inOrder(xattrs: NonNullable<Entry['xattrs']>): Generator<[string, Uint8Array]> {
  for (const pair of xattrs) if (aclKeywords.has(pair[0])) yield pair
  for (const pair of xattrs) if (!aclKeywords.has(pair[0]) && pair[0] !== capability) yield pair
  const value = xattrs.get(capability)
  if (value !== undefined) yield [capability, value]
}

/** For an object that should have an ACL and cannot: its group may do what it might with it. */
function modeWithoutAcl(mode: number, acl: Uint8Array): number {
  const permissions = aclGroupPermissions(acl)
  return permissions === null ? mode : mode & (~groupBits | (permissions << 3))
}

/** What a new object has from the folder that it was made in, and an old one from before, and the entry does not have. */
function removeOthers(
  object: OpenObject,
  found: ReadonlyMap<string, Buffer>,
  wanted: NonNullable<Entry['xattrs']>,
  failures: Map<Attribute, number>,
): void {
  for (const [text, name] of found) {
    if (!isRemovable(text) || wanted.has(text)) continue
    const failure = removeXattr(object, name)
    if (failure < 0) failures.set(attributeOf(text), failure)
  }
}

/** Labels and the like, which the kernel gives to all objects by rules of its own, are left where a backup has none. */
export function isRemovable(name: string): boolean {
  return /^(?:user|trusted)\./.test(name) || name === capability || aclKeywords.has(name)
}
