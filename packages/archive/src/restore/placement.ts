import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import type { Entry } from '../entry.ts'
import { close, cName, errno } from '../native/libc.ts'
import {
  createFileAt,
  linkObjectAt,
  lockFile,
  makeNodeAt,
  makeSymlinkAt,
  openPathAt,
  removeDirectoryAt,
  renameAt,
  renameNewAt,
  unlinkAt,
} from '../native/libc-write.ts'
import type { BytePath } from '../path.ts'
import type { Action } from './decision.ts'
import { mayBeSealed, reseal, type Unsealed, unseal } from './inode-flags.ts'
import { type Standing, standingAt, standingOf } from './standing.ts'

/** What an object is called until it is whole. One that a killed restore leaves behind is removed by the next. */
const temporaryPrefix = '.central-backup-restore-'
const temporaryName = /^\.central-backup-restore-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Whether it is a name that a restore gives to what is not whole yet. */
export function isTemporary(name: string): boolean {
  return temporaryName.test(name)
}

/** Tries before giving up on a folder in which somebody makes and removes names all the time. */
const attemptsMax = 16

/** A place in the target: an open folder, and a name in it. */
export interface Spot {
  folder: number
  name: Buffer
}

/** An object that has its temporary name, and is open. */
export interface Begun {
  fd: number
  /** Not open for reading or writing. */
  isPath: boolean
  temporary: Buffer
}

/** Begins an empty file beside the place where it belongs, open for writing. A negative error number on failure. */
export function beginFile({ folder }: Spot): Begun | number {
  return withTemporaryName((temporary) => {
    const fd = createFileAt(folder, temporary)
    if (fd < 0) return fd
    // Whoever clears up after dead restores looks for it.
    lockFile(fd)
    return { fd, isPath: false, temporary }
  })
}

const formats: Partial<Record<Entry['type'], number>> = {
  fifo: constants.S_IFIFO,
  socket: constants.S_IFSOCK,
  'character-device': constants.S_IFCHR,
  'block-device': constants.S_IFBLK,
}

/** As `beginFile`, a symbolic link, fifo, socket or device. */
export function beginSpecial({ folder }: Spot, entry: Entry): Begun | number {
  return withTemporaryName((temporary) => {
    const made =
      entry.type === 'symlink'
        ? makeSymlinkAt(cName(entry.target!), folder, temporary)
        : makeNodeAt(folder, temporary, formats[entry.type]!, entry.device)
    return made < 0 ? made : openBegun(folder, temporary, entry)
  })
}

/** As `beginFile`, a further name of the object that `fd` is open on. */
export function beginLink({ folder }: Spot, fd: number): Begun | number {
  return withTemporaryName((temporary) => {
    const made = linkObjectAt(fd, folder, temporary)
    return made < 0 ? made : { fd: -1, isPath: true, temporary }
  })
}

/** Nobody but us has had reason to touch what was made, but where others may write to the folder they could have. */
function openBegun(folder: number, temporary: Buffer, entry: Entry): Begun | number {
  const fd = openPathAt(folder, temporary)
  if (fd < 0) return fd
  const made = standingOf(fd)
  const ours =
    typeof made !== 'number' &&
    made.type === entry.type &&
    made.uid === process.geteuid!() &&
    // What somebody has made a further name of is not new.
    made.nlink === 1
  const sameDevice =
    ours &&
    (entry.device === null ||
      (made.device.major === entry.device.major && made.device.minor === entry.device.minor))
  if (sameDevice) return { fd, isPath: true, temporary }
  close(fd)
  return -errno.EBUSY
}

function withTemporaryName(make: (temporary: Buffer) => Begun | number): Begun | number {
  for (let attempt = 0; ; attempt++) {
    const temporary = cName(`${temporaryPrefix}${randomUUID()}` as BytePath)
    const begun = make(temporary)
    if (begun !== -errno.EEXIST || attempt === attemptsMax) return begun
  }
}

/** Removes what was begun and is not to be. */
export function discard({ folder }: Spot, begun: Begun): void {
  if (begun.fd >= 0) close(begun.fd)
  unlinkAt(folder, begun.temporary)
}

/**
 * Gives what was begun its name. `action` is what was decided for what stood there when it was begun; where something
 * else stands there by now, `decideAgain` is asked. Returns what was done: what is kept or equal stays, and what was
 * begun is removed. A negative error number on failure; then it is removed as well.
 */
export function place(
  spot: Spot,
  begun: Begun,
  entry: Entry,
  action: Action,
  decideAgain: (standing: Standing | null) => Action,
): Action | number {
  const done = giveName(spot, begun, entry, action, decideAgain)
  // A rename onto another name of the same object does nothing and says that all is well.
  if (done === 'create' || done === 'replace') {
    if (begun.fd >= 0) close(begun.fd)
    else unlinkAt(spot.folder, begun.temporary)
  } else discard(spot, begun)
  return done
}

function giveName(
  { folder, name }: Spot,
  { temporary }: Begun,
  entry: Entry,
  action: Action,
  decideAgain: (standing: Standing | null) => Action,
): Action | number {
  let current = action
  let unsealed: Unsealed | null = null
  try {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      if (current !== 'create' && current !== 'replace') return current
      const renamed =
        current === 'create' ? renameNewAt(folder, temporary, name) : renameAt(folder, temporary, name)
      if (renamed === 0) return current
      const sealed = current === 'replace' && unsealed === null && mayBeSealed(renamed)
      if (renamed === -errno.EISDIR) {
        // Only ever an empty folder is removed: the call refuses all others.
        const removed = removeDirectoryAt(folder, name)
        if (removed < 0 && removed !== -errno.ENOENT && removed !== -errno.ENOTDIR) {
          if (removed !== -errno.ENOTEMPTY && removed !== -errno.EEXIST) return removed
        }
      } else if (renamed !== -errno.EEXIST && !sealed) return renamed
      const standing = standingAt(folder, name, entry.type)
      if (typeof standing === 'number') return standing
      current = decideAgain(standing)
      if (!sealed || current !== 'replace') continue
      unsealed = unseal(folder, name, standing!)
      if (unsealed === null) return renamed
    }
    return -errno.EBUSY
  } finally {
    if (unsealed !== null) reseal(unsealed)
  }
}
