import type { Entry } from '../entry.ts'
import type { Standing } from './standing.ts'

/** What becomes of something else that stands where an entry belongs. */
export const overwrites = ['never', 'older', 'always'] as const
export type Overwrite = (typeof overwrites)[number]

/**
 * What is done for an entry: `create` it; `replace` what stands there; `update` the attributes of a folder that is
 * there; `keep` what stands there, though it differs (of a folder that only leads to others: that is as it should be);
 * nothing, as what stands there is `equal` to it.
 */
export type Action = 'create' | 'replace' | 'update' | 'keep' | 'equal'

/**
 * Mode of a folder that a restore has made and not yet finished. Nobody else can enter it, and the sticky bit, which
 * means nothing there, tells it from a folder that was there before, also after a restore that was broken off.
 */
export const unfinishedMode = 0o1700

/** Set-group-id, which a new folder has from the folder that it is made in. */
const inheritedBit = 0o2000

/**
 * The one place where it is decided what a restore does. Pure. `entry` is no `hardlink`: those are decided as what
 * they are a name of. `self` is the user that restores.
 *
 * What is there counts as equal by type, and for files by size and mtime to the nanosecond, which a restore sets before
 * a file gets its name; for links by their target, for devices by their number.
 */
export function decide(entry: Entry, standing: Standing | null, overwrite: Overwrite, self: number): Action {
  if (standing === null) return 'create'
  if (entry.type === 'directory' && standing.type === 'directory') {
    if (isUnfinished(standing, self)) return 'update'
    if (entry.ancestor) return 'keep'
    return hasAttributes(entry, standing) ? 'equal' : 'update'
  }
  if (isEqual(entry, standing)) return 'equal'
  if (overwrite === 'never') return 'keep'
  if (standing.type === 'directory' && !standing.empty) return 'keep'
  return overwrite === 'always' || isOlder(standing, entry) ? 'replace' : 'keep'
}

/** Whether a folder was made by a restore of this user that has not finished it. */
export function isUnfinished({ mode, uid }: Standing, self: number): boolean {
  return (mode & ~inheritedBit) === unfinishedMode && uid === self
}

function isEqual(entry: Entry, standing: Standing): boolean {
  if (standing.type !== entry.type) return false
  switch (entry.type) {
    case 'file':
      return standing.size === entry.size && hasModified(entry, standing)
    case 'symlink':
      return standing.target === entry.target
    case 'character-device':
    case 'block-device':
      return standing.device.major === entry.device?.major && standing.device.minor === entry.device.minor
    default:
      return true
  }
}

function hasModified(entry: Entry, standing: Standing): boolean {
  return standing.mtimeSeconds === entry.mtimeSeconds && standing.mtimeNanoseconds === entry.mtimeNanoseconds
}

function hasAttributes(entry: Entry, standing: Standing): boolean {
  const { mode, uid, gid } = standing
  return mode === entry.mode && uid === entry.uid && gid === entry.gid && hasModified(entry, standing)
}

function isOlder(standing: Standing, entry: Entry): boolean {
  if (standing.mtimeSeconds !== entry.mtimeSeconds) return standing.mtimeSeconds < entry.mtimeSeconds
  return standing.mtimeNanoseconds < entry.mtimeNanoseconds
}
