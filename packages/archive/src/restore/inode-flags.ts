import { type Entry, inodeFlags, inodeFlagsMask } from '../entry.ts'
import { close, errno, openDirectoryAt, openFileAt } from '../native/libc.ts'
import { getFlags, setFlags, setProject } from '../native/libc-attributes.ts'
import type { NoteUnset } from './attributes.ts'
import { type Standing, standingOf } from './standing.ts'

/** Flags after which an object takes no change any more, not even a further name: they are set when all else is done. */
export const sealingFlags = inodeFlags.immutable | inodeFlags['append-only']

/** Flags that decide how content is stored, or that go over to what is made in a folder: they are set before that. */
const layoutFlags =
  inodeFlags.compressed |
  inodeFlags.uncompressed |
  inodeFlags.notail |
  inodeFlags.nocow |
  inodeFlags.dax |
  inodeFlags.casefold |
  inodeFlags['inherit-project']

/** Whether an entry has something that `setLayout` sets. */
export function hasLayout({ flags, project }: Entry): boolean {
  return project !== 0 || (flags !== null && (flags & layoutFlags) !== 0)
}

/** Gives a file that is still empty, or a folder, what has to be there before its content. What fails is tried again later. */
export function setLayout(fd: number, { flags, project }: Entry): void {
  if (project !== 0) setProject(fd, project)
  if (flags !== null) change(fd, flags & layoutFlags, layoutFlags)
}

/** Gives an open file or folder its project, and its flags but for those of `without`, which are left as they are. */
export function setInodeFlags(fd: number, entry: Entry, without: number, unset: NoteUnset): void {
  if (entry.project !== 0) {
    const failure = setProject(fd, entry.project)
    if (failure < 0) unset('project', failure)
  }
  if (entry.flags === null) return
  const failure = change(fd, entry.flags, inodeFlagsMask & ~without)
  if (failure < 0) unset('flags', failure)
}

/** Sets those flags of `mask` that are in `wanted`, and clears the others of it. 0, or a negative error number. */
function change(fd: number, wanted: number, mask: number): number {
  const current = getFlags(fd)
  if (current < 0) return (wanted & mask) === 0 ? 0 : current
  const differing = (current ^ wanted) & mask
  if (differing === 0) return 0
  let failure = setFlags(fd, current ^ differing)
  if (failure === 0) return 0
  // One flag that this file system or this user cannot set does not keep the others from being set.
  let reached = current
  for (let flag = 1; flag <= differing; flag *= 2) {
    if ((differing & flag) === 0) continue
    const set = setFlags(fd, reached ^ flag)
    if (set === 0) reached ^= flag
    else failure = set
  }
  return reached === (current ^ differing) ? 0 : failure
}

/** An object without the flags that kept it from being replaced. */
export interface Unsealed {
  fd: number
  flags: number
}

/**
 * Takes the sealing flags off the object that `standing` tells of, so that it can be replaced, or get a further name.
 * `null` where it has none, is another object by now, or this user may not. The result is for `reseal`.
 */
export function unseal(folder: number, name: Buffer, standing: Standing): Unsealed | null {
  if (standing.type !== 'file' && standing.type !== 'directory') return null
  const fd = standing.type === 'file' ? openFileAt(folder, name) : openDirectoryAt(folder, name)
  if (fd < 0) return null
  const opened = standingOf(fd)
  const same = typeof opened !== 'number' && opened.ino === standing.ino && opened.dev === standing.dev
  const flags = same ? unsealOpen(fd) : null
  if (flags !== null) return { fd, flags }
  close(fd)
  return null
}

/** As `unseal`, of an open object: the flags that it had, `null` where none were taken off. */
export function unsealOpen(fd: number): number | null {
  const flags = getFlags(fd)
  if (flags < 0 || (flags & sealingFlags) === 0) return null
  return setFlags(fd, flags & ~sealingFlags) === 0 ? flags : null
}

/** Gives what was unsealed its flags again where it still has a name, as it was not replaced or has others; closes it. */
export function reseal({ fd, flags }: Unsealed): void {
  const now = standingOf(fd)
  if (typeof now !== 'number' && now.nlink > 0) setFlags(fd, flags)
  close(fd)
}

/** What says that a change is not allowed, which a sealing flag may be the reason of. */
export function mayBeSealed(negativeErrno: number): boolean {
  return negativeErrno === -errno.EPERM || negativeErrno === -errno.EACCES
}
