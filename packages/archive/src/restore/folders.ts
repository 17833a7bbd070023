import type { Entry } from '../entry.ts'
import { close, errno, openDirectoryAt } from '../native/libc.ts'
import { makeDirectoryAt, openDirectoryPathAt, reopenDirectory, setMode } from '../native/libc-write.ts'
import type { BytePath } from '../path.ts'
import { decide, unfinishedMode } from './decision.ts'
import { hasLayout, mayBeSealed, setInodeFlags, setLayout, unseal, unsealOpen } from './inode-flags.ts'
import type { Spot } from './placement.ts'
import { removeAt, removeStale } from './removal.ts'
import { describeFailure } from './report.ts'
import { closerLookOf, type Standing, standingAt, standingOf } from './standing.ts'
import type { RestoreWork } from './work.ts'

const attemptsMax = 16

/** Folders that could not be made are remembered up to this number, so that each is reported once. */
const obstructedMax = 10_000

/** What the owner needs to work in a folder. */
const ownerBits = 0o700

/** Folders that could not be made. */
export type Obstructed = Set<BytePath>

/**
 * Makes all folders, for nobody else to enter until they are finished; those that are there are left as they are, but
 * that this user can write to them. Returns those that could not be made; they have been reported.
 */
export async function makeFolders(work: RestoreWork): Promise<Obstructed> {
  work.begin('folders')
  const obstructed: Obstructed = new Set()
  for (const entry of work.source.entries('path', ['directory'])) {
    await work.turn()
    if (!makeFolder(work, entry) && obstructed.size < obstructedMax) obstructed.add(entry.path)
    work.advance(entry.path, 0, 0)
  }
  return obstructed
}

function makeFolder(work: RestoreWork, entry: Entry): boolean {
  const spot = work.spot(entry)
  if (spot === null) return false
  let failure = -errno.EBUSY
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const standing = standingAt(spot.folder, spot.name, 'directory')
    if (typeof standing === 'number') {
      failure = standing
      break
    }
    if (standing?.type === 'directory') {
      // The two are one here: what is in them comes together, which is told.
      if (work.otherNames.standsUnder(spot.folder, spot.name)) {
        standing.underOtherName = true
        work.kept(entry, standing)
      }
      openToSelf(work, entry, spot, standing)
      return true
    }
    const action = work.decide(entry, spot, standing)
    if (action === 'keep') {
      work.kept(entry, standing)
      return false
    }
    if (action === 'replace') {
      const removed = removeAt(spot, standing!)
      if (mayBeSealed(removed)) {
        failure = removed
        break
      }
    }
    failure = makeDirectoryAt(spot.folder, spot.name, unfinishedMode)
    if (failure === 0) {
      prepare(entry, spot)
      return true
    }
    if (failure !== -errno.EEXIST) break
  }
  work.failed(entry.path, 'cannot make the folder', failure)
  return false
}

/** What decides how that is stored which comes into a new folder. */
function prepare(entry: Entry, { folder, name }: Spot): void {
  if (!hasLayout(entry)) return
  const fd = openDirectoryAt(folder, name)
  if (fd < 0) return
  setLayout(fd, entry)
  close(fd)
}

/**
 * Nothing can be put into a folder whose flags forbid it, nor, without root, into one of ours whose mode does. It gets
 * them in the end. Flags are only taken from a folder where what is in it may be replaced.
 */
function openToSelf(work: RestoreWork, entry: Entry, spot: Spot, standing: Standing): void {
  const { overwrite, self } = work.rules
  if (entry.ancestor) return
  if (overwrite !== 'never' && entry.flags !== null) {
    const unsealed = unseal(spot.folder, spot.name, standing)
    if (unsealed !== null) close(unsealed.fd)
  }
  if (self === 0 || standing.uid !== self) return
  if ((standing.mode & ownerBits) === ownerBits) return
  const fd = openDirectoryPathAt(spot.folder, spot.name)
  if (fd < 0) return
  setMode({ fd, isPath: true }, standing.mode | ownerBits)
  close(fd)
}

/**
 * Gives the folders their attributes, the deepest first, as whoever works in a folder changes its times. A folder that
 * only leads to what was selected keeps its own, unless it was made by a restore.
 */
export async function finishFolders(work: RestoreWork, obstructed: Obstructed): Promise<void> {
  work.begin('attributes')
  for (const entry of work.source.entries('path-descending', ['directory'])) {
    await work.turn()
    if (!obstructed.has(entry.path)) finishFolder(work, entry)
    work.advance(entry.path, 1, 0)
  }
}

function finishFolder(work: RestoreWork, entry: Entry): void {
  const { record, tree } = work
  const folder = tree.folder(entry.path, false)
  const readable = folder < 0 ? folder : reopenDirectory(folder)
  if (readable >= 0) removeStale(tree, readable)
  const standing = folder < 0 ? folder : standingOf(folder)
  if (typeof standing === 'number') {
    if (readable >= 0) close(readable)
    record.problem('failed', entry.path, describeFailure('cannot open the folder again', standing))
    return
  }
  const action = decide(entry, standing, work.rules, () => {
    if (readable >= 0) standing.closer = closerLookOf(readable)
  })
  if (action === 'equal') record.report.equal++
  if (action === 'update') {
    giveAttributes(work, entry, folder, readable)
    record.report.restored.directories++
  }
  if (readable >= 0) close(readable)
}

/** `readable` is negative where the folder could not be opened otherwise than as a path. */
function giveAttributes(work: RestoreWork, entry: Entry, folder: number, readable: number): void {
  if (readable < 0) {
    work.setAttributes({ fd: folder, isPath: true }, entry)
    if ((entry.flags ?? 0) !== 0) work.unsetOf(entry)('flags', readable)
    return
  }
  unsealOpen(readable)
  work.setAttributes({ fd: readable, isPath: false }, entry)
  setInodeFlags(readable, entry, 0, work.unsetOf(entry))
}
