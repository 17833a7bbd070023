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

/** Told of each attribute that could not be set, at most once for an object. */
export type NoteUnset = (attribute: Attribute, negativeErrno: number) => void

/** Set-user-id and set-group-id: with another owner than the one they were meant for, they would open a door. */
export const setIdBits = 0o6000

const accessAcl = 'system.posix_acl_access'
const capability = 'security.capability'

/**
 * Gives an open object the attributes of its entry, each by the descriptor: owner, mode, extended attributes with ACLs
 * first and capabilities last, times; in this order, as each of them may undo those that come after it. Inode flags and
 * project are not among them.
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
  if (entry.type !== 'symlink') setModeOf(object, entry, owned, unset)
  setXattrs(object, entry, owned, unset)
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

function setModeOf(object: OpenObject, { mode }: Entry, owned: boolean, unset: NoteUnset): void {
  const allowed = owned ? mode : mode & ~setIdBits
  const failure = setMode(object, allowed)
  if (failure < 0) unset('mode', failure)
  else if (allowed !== mode) unset('mode', -errno.EPERM)
}

function setXattrs(object: OpenObject, entry: Entry, owned: boolean, unset: NoteUnset): void {
  const failures = new Map<Attribute, number>()
  removeOthers(object, entry.xattrs, failures)
  for (const [name, value] of inOrder(entry.xattrs ?? noXattrs)) {
    const failure =
      name === capability && !owned
        ? -errno.EPERM
        : setXattr(object, Buffer.from(`${name}\0`, 'latin1'), value)
    if (failure === 0) continue
    failures.set(attributeOf(name), failure)
    if (name === accessAcl) withoutAcl(object, entry, value, owned)
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

/**
 * The bits of the group in the mode of an object with an ACL are the most that anybody named in it may do. Without the ACL
 * they would be the group's.
 */
function withoutAcl(object: OpenObject, { mode, type }: Entry, acl: Uint8Array, owned: boolean): void {
  const permissions = aclGroupPermissions(acl)
  if (permissions === null || type === 'symlink') return
  const group = (mode >> 3) & permissions
  setMode(object, ((owned ? mode : mode & ~setIdBits) & ~0o070) | (group << 3))
}

/** What a new object has from the folder that it was made in, and an old one from before, and the entry does not have. */
function removeOthers(object: OpenObject, wanted: Entry['xattrs'], failures: Map<Attribute, number>): void {
  const names = listXattrs({ fd: object.fd, name: null, isPath: object.isPath })
  if (typeof names === 'number') return
  for (const name of names) {
    const text = name.latin1Slice(0, name.length - 1)
    if (!isRemovable(text) || wanted?.has(text) === true) continue
    const failure = removeXattr(object, name)
    if (failure < 0) failures.set(attributeOf(text), failure)
  }
}

/** Labels and the like, which the kernel gives to all objects by rules of its own, are left where a backup has none. */
export function isRemovable(name: string): boolean {
  return /^(?:user|trusted)\./.test(name) || name === capability || aclKeywords.has(name)
}
