import type { Entry } from '../entry.ts'
import { close, errno } from '../native/libc.ts'
import {
  makeDirectoryAt,
  openDirectoryPathAt,
  reopenDirectory,
  setMode,
  unlinkAt,
} from '../native/libc-write.ts'
import type { BytePath } from '../path.ts'
import { setAttributes } from './attributes.ts'
import { unfinishedMode } from './decision.ts'
import type { Spot } from './placement.ts'
import { describeFailure } from './report.ts'
import { type Standing, standingAt, standingOf } from './standing.ts'
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
      openToSelf(work, entry, spot, standing)
      return true
    }
    const action = work.decide(entry, standing)
    if (action === 'keep') {
      work.kept(entry.path, standing)
      return false
    }
    if (action === 'replace') unlinkAt(spot.folder, spot.name)
    failure = makeDirectoryAt(spot.folder, spot.name, unfinishedMode)
    if (failure === 0) return true
    if (failure !== -errno.EEXIST) break
  }
  work.failed(entry.path, 'cannot make the folder', failure)
  return false
}

/** Without root, nothing can be put into a folder of ours whose mode forbids it; it gets its mode in the end. */
function openToSelf(work: RestoreWork, entry: Entry, spot: Spot, standing: Standing): void {
  if (work.self === 0 || entry.ancestor || standing.uid !== work.self) return
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
  const standing = folder < 0 ? folder : standingOf(folder)
  if (typeof standing === 'number') {
    record.problem('failed', entry.path, describeFailure('cannot open the folder again', standing))
    return
  }
  const action = work.decide(entry, standing)
  if (action === 'equal') record.report.equal++
  if (action !== 'update') return
  const readable = reopenDirectory(folder)
  const object = readable < 0 ? { fd: folder, isPath: true } : { fd: readable, isPath: false }
  setAttributes(object, entry, work.unsetOf(entry))
  if (readable >= 0) close(readable)
  record.report.restored.directories++
}
