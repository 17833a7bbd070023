import type { Entry } from '../entry.ts'
import { idMax } from '../limits.ts'
import { errno } from '../native/libc.ts'
import { type OpenObject, setMode, setModified, setOwner, setXattr } from '../native/libc-write.ts'

/** Attributes that can fail to be set, and things that cannot be made, while the rest of a restore goes on. */
export type Attribute = 'owner' | 'mode' | 'xattrs' | 'times'

/** Told of each attribute that could not be set. */
export type NoteUnset = (attribute: Attribute, negativeErrno: number) => void

/** Set-user-id and set-group-id: with another owner than the one they were meant for, they would open a door. */
const setIdBits = 0o6000

/**
 * Gives an open object the attributes of its entry, each by the descriptor: owner, mode, extended attributes (ACLs and
 * capabilities are among them), times, in this order, as each of them may undo those that come after it.
 *
 * Owners are set by number: names of another machine say nothing here. Where the owner cannot be set, a mode loses its
 * set-id bits, which counts as a mode that could not be set.
 */
export function setAttributes(object: OpenObject, entry: Entry, unset: NoteUnset): void {
  const owned = setOwnerOf(object, entry, unset)
  if (entry.type !== 'symlink') setModeOf(object, entry, owned, unset)
  if (entry.xattrs !== null) setXattrs(object, entry.xattrs, unset)
  const timed = setModified(object, entry.mtimeSeconds, entry.mtimeNanoseconds)
  if (timed < 0) unset('times', timed)
}

function setOwnerOf(object: OpenObject, { uid, gid }: Entry, unset: NoteUnset): boolean {
  // The highest number means "leave it" to the kernel, and so cannot be anybody's.
  const failure = uid === idMax || gid === idMax ? -errno.EINVAL : setOwner(object, uid, gid)
  if (failure < 0) unset('owner', failure)
  return failure >= 0
}

function setModeOf(object: OpenObject, { mode }: Entry, owned: boolean, unset: NoteUnset): void {
  const allowed = owned ? mode : mode & ~setIdBits
  const failure = setMode(object, allowed)
  if (failure < 0) unset('mode', failure)
  else if (allowed !== mode) unset('mode', -errno.EPERM)
}

function setXattrs(object: OpenObject, xattrs: NonNullable<Entry['xattrs']>, unset: NoteUnset): void {
  let failure = 0
  for (const [name, value] of xattrs) {
    const set = setXattr(object, Buffer.from(`${name}\0`, 'latin1'), value)
    if (set < 0) failure = set
  }
  if (failure < 0) unset('xattrs', failure)
}
