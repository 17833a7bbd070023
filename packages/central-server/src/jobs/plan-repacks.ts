import type { Run } from '../catalog/catalog.ts'
import { isBridged } from '../catalog/ingest-archive.ts'
import type { ChainLink } from '../catalog/needed.ts'

/** An archive that is to be written anew. */
export interface RepackTask {
  run: Run
  /** Only what is needed of it stays; if not, all that it has. */
  shrinks: boolean
  /** Runs directly before it, the oldest first, whose archives it takes over and that are then gone. */
  absorbs: Run[]
}

/** An archive of at most so many bytes is written anew for the sake of those before it, however small they are. */
export const smallArchiveBytesMax = 16 * 1024 * 1024

/** A larger one, where what it takes over is at least this share of it: so each byte is copied a few times at most. */
const worthwhileShare = 1 / 4

/** Archives that are taken over at once: as many files are open. More of them take several turns. */
export const absorbedMax = 256

/**
 * What is to be done with the archives of a generation, given in the order in which they build on each other. Those of
 * whose content less than half is needed become smaller. A removed run of whose content nothing is needed has only an index
 * left, which the archive after it takes over if that is small, or written anew in any case; else the last of a row of
 * them takes over the others. The first one, which is full, and the last, which the next run builds on, stay.
 */
export function planRepacks(chain: readonly ChainLink[]): RepackTask[] {
  const tasks: RepackTask[] = []
  let stubs: ChainLink[] = []
  for (const [place, link] of chain.entries()) {
    if (isStub(link) && place < chain.length - 1) {
      stubs.push(link)
      continue
    }
    tasks.push(...settle(link, stubs))
    stubs = []
  }
  return tasks
}

/** Of this archive only the index is still needed, and that could as well stand elsewhere. */
export function isStub({ run, removed, neededBytes, inPieces, hasLinks, refused }: ChainLink): boolean {
  const isEmpty = removed && neededBytes === 0 && !inPieces && !hasLinks
  // One that was taken in without its base has to go on saying so.
  return isEmpty && run.kind === 'incremental' && !isBridged(run) && !refused
}

/** What becomes of an archive and of the stubs directly before it. */
function settle(link: ChainLink, stubs: readonly ChainLink[]): RepackTask[] {
  const { run, removed, storedBytes, neededBytes, inPieces, refused } = link
  const isMostlyDead = storedBytes > 0 && neededBytes * 2 < storedBytes
  const shrinks = removed && !inPieces && !refused && isMostlyDead
  // What stands before one that was taken in without its base is not what that builds on.
  const absorbs = refused || isBridged(run) ? [] : takenOver(link, stubs, shrinks)
  const left = stubs.slice(0, stubs.length - absorbs.length)
  const tasks = left.length === 0 ? [] : settle(left.at(-1)!, left.slice(0, -1))
  if (!shrinks && absorbs.length === 0) return tasks
  return [...tasks, { run, shrinks: shrinks || isStub(link), absorbs: absorbs.map((stub) => stub.run) }]
}

/** Those of the stubs before an archive, up to it, that are in proportion to what is written for them. */
function takenOver(link: ChainLink, stubs: readonly ChainLink[], writtenAnyway: boolean): ChainLink[] {
  const candidates = stubs.slice(-absorbedMax)
  const candidatesBytes = candidates.reduce((sum, stub) => sum + indexBytes(stub), 0)
  const ownBytes = isStub(link) ? indexBytes(link) : link.run.archive!.bytes
  if (!writtenAnyway && !isInProportion(ownBytes, candidatesBytes)) return []
  let writtenBytes = ownBytes
  let from = candidates.length
  while (from > 0) {
    const bytes = indexBytes(candidates[from - 1]!)
    if (!isInProportion(bytes, writtenBytes)) break
    writtenBytes += bytes
    from--
  }
  return candidates.slice(from)
}

/** `bytes` may be copied for the sake of `others`. */
function isInProportion(bytes: number, others: number): boolean {
  return bytes <= smallArchiveBytesMax || bytes * worthwhileShare <= others
}

/** What there is to copy of a stub: one that has content still loses it, and most of its index. */
function indexBytes({ run, storedBytes }: ChainLink): number {
  return storedBytes > 0 ? 0 : run.archive!.bytes
}
