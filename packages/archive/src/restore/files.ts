import { type Entry, storedBytes } from '../entry.ts'
import { setSize, syncFile, writeAllAt } from '../native/libc-write.ts'
import { ContentCheck } from './content-check.ts'
import type { Action } from './decision.ts'
import { hasLayout, sealingFlags, setInodeFlags, setLayout } from './inode-flags.ts'
import { type Begun, beginFile, discard, place, type Spot } from './placement.ts'
import { type Standing, standingAt } from './standing.ts'
import type { RestoreWork } from './work.ts'

/** Restores all files, in the order in which their content is stored. */
export async function restoreFiles(work: RestoreWork): Promise<void> {
  work.begin('files')
  for (const entry of work.source.entries('content', ['file'])) {
    await work.turn()
    await restoreFile(work, entry)
    work.advance(entry.path, 1, 0)
  }
}

/**
 * Restores one file: written beside its place, compared with its digest, given its attributes, and only then its name. A
 * file that is damaged, or cannot be written, leaves what stood there as it was, and is reported. Returns whether a
 * file stands there now that counts as the one of the entry.
 *
 * What replaces a file is on disk before it does: a power loss then leaves the old content or the new. A file that is
 * new has nothing to lose, and is synced with all others when the restore ends; one that was cut off by a power loss has
 * another size, and so is restored again by the next restore.
 */
export async function restoreFile(work: RestoreWork, entry: Entry): Promise<boolean> {
  const spot = work.spot(entry)
  if (spot === null) return false
  const standing = standingAt(spot.folder, spot.name, entry.type)
  if (typeof standing === 'number') {
    work.failed(entry.path, 'cannot look at what stands there', standing)
    return false
  }
  const action = work.decide(entry, spot, standing)
  if (action !== 'keep' && isSealed(entry)) work.hasSealed = true
  if (action === 'equal' || action === 'keep') {
    work.advance(entry.path, 0, storedBytes(entry))
    return settle(work, entry, action, standing)
  }
  const begun = beginFile(spot)
  if (typeof begun === 'number') {
    work.failed(entry.path, 'cannot make the file', begun)
    return false
  }
  return finishFile(work, entry, spot, begun, action)
}

function isSealed({ flags }: Entry): boolean {
  return flags !== null && (flags & sealingFlags) !== 0
}

async function finishFile(
  work: RestoreWork,
  entry: Entry,
  spot: Spot,
  begun: Begun,
  action: Action,
): Promise<boolean> {
  let placed = false
  try {
    if (hasLayout(entry)) setLayout(begun.fd, entry)
    if (!(await copyContent(work, entry, begun.fd))) return false
    work.setAttributes(begun, entry)
    setInodeFlags(begun.fd, entry, sealingFlags, work.unsetOf(entry))
    if (entry.nlink > 1 || isSealed(entry)) work.noteMade(entry, begun.fd)
    const synced = action === 'replace' ? syncFile(begun.fd) : 0
    if (synced < 0) {
      work.failed(entry.path, 'cannot write the file to disk', synced)
      return false
    }
    placed = true
    return putInPlace(work, entry, spot, begun, action)
  } finally {
    if (!placed) discard(spot, begun)
  }
}

/** Gives what was begun its name, and counts it. */
export function putInPlace(
  work: RestoreWork,
  entry: Entry,
  spot: Spot,
  begun: Begun,
  action: Action,
): boolean {
  let standing: Standing | null = null
  const done = place(spot, begun, entry, action, (found) => {
    standing = found
    return work.decide(entry, spot, found)
  })
  if (typeof done !== 'number') return settle(work, entry, done, standing)
  work.failed(entry.path, 'cannot give it its name', done)
  return false
}

/** Counts what was done for an entry that is no directory. Returns whether what it wants stands there now. */
export function settle(work: RestoreWork, entry: Entry, action: Action, standing: Standing | null): boolean {
  const { report } = work.record
  if (action === 'keep') work.kept(entry, standing)
  else if (action === 'equal') report.equal++
  else if (entry.type === 'file') {
    report.restored.files++
    report.contentBytes += storedBytes(entry)
  } else if (entry.type === 'symlink') report.restored.symlinks++
  else report.restored.specials++
  return action !== 'keep'
}

/** Writes the content of a file. False where that is not what was backed up or cannot be written, which is reported. */
async function copyContent(work: RestoreWork, entry: Entry, fd: number): Promise<boolean> {
  const check = new ContentCheck(entry)
  // First of all, so that holes are holes: space behind the end that a file system takes in advance would fill them.
  let failure = entry.storedSize === null ? 0 : setSize(fd, entry.size)
  if (failure < 0) {
    work.failed(entry.path, `cannot make the file ${entry.size} bytes long`, failure)
    return false
  }
  try {
    for await (const piece of work.source.content(entry)) {
      work.checkSignal()
      if (!check.add(piece)) break
      for (const { offset, bytes } of check.placed) {
        failure = writeAllAt(fd, bytes, offset)
        if (failure < 0) break
      }
      if (failure < 0) break
      work.advance(entry.path, 0, piece.length)
      await work.turn()
    }
  } catch (error) {
    work.checkSignal()
    work.record.problem('damaged', entry.path, error instanceof Error ? error.message : String(error))
    return false
  }
  if (failure < 0) {
    work.failed(entry.path, 'cannot write the file', failure)
    return false
  }
  const fault = check.fault()
  if (fault !== null) work.record.problem('damaged', entry.path, fault)
  return fault === null
}
