import { type Entry, inodeFlagsMask } from '../entry.ts'
import { isRemovable, setIdBits } from './attributes.ts'
import { sealingFlags } from './inode-flags.ts'
import type { CloserLook, Standing } from './standing.ts'
import type { TargetOwners } from './target-owners.ts'

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

/** What a restore goes by. */
export interface RestoreRules {
  overwrite: Overwrite
  /** The user that restores. */
  self: number
  owners: TargetOwners
}

/**
 * The one place where it is decided what a restore does. `entry` is no `hardlink`: those are decided as what they are a
 * name of. `lookCloser` fills in what is not known of `standing` yet; it is called where all else is equal.
 *
 * What is there counts as equal by type, content and attributes. Content is equal, for files, by size and mtime to the
 * nanosecond, which a restore sets before a file gets its name; for links by their target, for devices by their number.
 */
export function decide(
  entry: Entry,
  standing: Standing | null,
  rules: RestoreRules,
  lookCloser: (standing: Standing) => void,
): Action {
  if (standing === null) return 'create'
  const hasEqualAttributes = () => {
    if (!hasStatus(entry, standing, rules)) return false
    if (standing.closer === null) lookCloser(standing)
    return hasCloserAttributes(entry, standing, rules)
  }
  if (entry.type === 'directory' && standing.type === 'directory') {
    if (isUnfinished(standing, rules.self)) return 'update'
    if (entry.ancestor) return 'keep'
    return hasEqualAttributes() ? 'equal' : 'update'
  }
  if (hasContent(entry, standing) && hasEqualAttributes()) return 'equal'
  if (rules.overwrite === 'never') return 'keep'
  if (standing.type === 'directory' && !standing.empty) return 'keep'
  return rules.overwrite === 'always' || isOlder(standing, entry) ? 'replace' : 'keep'
}

/** Whether a folder was made by a restore of this user that has not finished it. */
export function isUnfinished({ mode, uid }: Standing, self: number): boolean {
  return (mode & ~inheritedBit) === unfinishedMode && uid === self
}

/** Whether what stands there has the type and the content of the entry, as far as that can be told without reading it. */
export function hasContent(entry: Entry, standing: Standing): boolean {
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

function isOlder(standing: Standing, entry: Entry): boolean {
  if (standing.mtimeSeconds !== entry.mtimeSeconds) return standing.mtimeSeconds < entry.mtimeSeconds
  return standing.mtimeNanoseconds < entry.mtimeNanoseconds
}

/** Owner, mode and mtime, as this user could have set them. */
function hasStatus(entry: Entry, standing: Standing, { self, owners }: RestoreRules): boolean {
  const owned = standing.uid === owners.uidOf(entry) && standing.gid === owners.gidOf(entry)
  if (!owned && self === 0) return false
  const mode = owned ? entry.mode : entry.mode & ~setIdBits
  return (entry.type === 'symlink' || standing.mode === mode) && hasModified(entry, standing)
}

/** Extended attributes, inode flags and project; what could not be looked at is taken for equal. */
function hasCloserAttributes(entry: Entry, { closer }: Standing, { self }: RestoreRules): boolean {
  if (closer === null) return true
  if (!hasXattrs(entry.xattrs, closer.xattrs, self)) return false
  if (self === 0 && entry.project !== 0 && closer.project !== null && closer.project !== entry.project)
    return false
  if (entry.flags === null || closer.flags === null) return true
  const differing = (entry.flags ^ closer.flags) & inodeFlagsMask
  if (self !== 0) return (differing & ~sealingFlags) === 0
  // Files are sealed when all else is done, so that a restore that was broken off may not have come to it.
  return (entry.type === 'directory' ? differing : differing & ~(entry.flags & sealingFlags)) === 0
}

function hasXattrs(wanted: Entry['xattrs'], found: CloserLook['xattrs'], self: number): boolean {
  if (found === null) return true
  // Others than root can neither set nor see all of them.
  const matters = (name: string) => self === 0 || /^user\.|^system\.posix_acl_/.test(name)
  for (const [name, value] of wanted ?? []) if (matters(name) && !isSame(value, found.get(name))) return false
  for (const name of found.keys())
    if (matters(name) && isRemovable(name) && wanted?.has(name) !== true) return false
  return true
}

function isSame(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return b !== undefined && Buffer.compare(a, b) === 0
}
