import type { Entry, EntryType } from '../entry.ts'
import type { FileStatus } from '../native/libc.ts'
import { type BytePath, comparePaths, isWithin } from '../path.ts'

/**
 * What stood in the run before, in path order, one at a time; `null` after the last. May block until there is one. What was
 * given before, it may take back.
 */
export type NextBaselineEntry = () => Entry | null

/**
 * What the run before knows, walked beside the tree: both are in path order, so neither has to be held in memory. Asked
 * for one path after the other, it tells what stood there, and what it passed on the way and so is gone.
 */
export class Baseline {
  readonly #next: NextBaselineEntry
  readonly #onGone: (entry: Entry, left: BytePath | null) => void
  /** `undefined` until it is asked for: the entry that was given last is valid until then. */
  #ahead: Entry | null | undefined
  /** What is gone is told once, not again for all that was below it. */
  #lastGone: BytePath | null = null
  /** Nothing is known of what is there now: it stands as it did. */
  #unknown: BytePath | null = null

  /** Paths that this run leaves out, or all that lies in them, each within the one before. */
  readonly #left: BytePath[] = []

  /** `onGone` is told, with what is gone, the path that `leave` was called with, where it lies there or below. */
  constructor(next: NextBaselineEntry, onGone: (entry: Entry, left: BytePath | null) => void) {
    this.#next = next
    this.#onGone = onGone
  }

  /**
   * What stood at `path`; `null` where nothing did, or where what held it was told to be gone, which ends all below it.
   * Paths are asked for in order.
   */
  at(path: BytePath): Entry | null {
    for (let entry = this.#peek(); entry !== null; entry = this.#peek()) {
      const order = comparePaths(entry.path, path)
      if (order > 0) return null
      this.#ahead = undefined
      if (order === 0) return this.#isTold(entry.path) ? null : entry
      this.#pass(entry)
    }
    return null
  }

  /** What `at` has found for the last path does not stand there any more. */
  drop(entry: Entry): void {
    this.#pass(entry)
  }

  /** The path cannot be looked at now: it and all below it stand as they did. */
  keep(path: BytePath): void {
    this.at(path)
    this.#unknown = path
  }

  /** The run leaves the path out; or, where `at` was asked for it, what lies in it but for what is asked for yet. */
  leave(path: BytePath): void {
    const entry = this.at(path)
    this.#innermostLeft(path)
    this.#left.push(path)
    if (entry !== null) this.#pass(entry)
  }

  /** Whether anything stood below the path that `at` was asked for last. */
  hasBelow(path: BytePath): boolean {
    const next = this.#peek()
    return next !== null && isWithin(next.path, path)
  }

  /** To be called after the last path: all that is left is gone. */
  finish(): void {
    for (let entry = this.#peek(); entry !== null; entry = this.#peek()) {
      this.#ahead = undefined
      this.#pass(entry)
    }
  }

  #pass(entry: Entry): void {
    if (this.#unknown !== null && isWithin(entry.path, this.#unknown)) return
    if (this.#isTold(entry.path)) return
    this.#lastGone = entry.path
    this.#onGone(entry, this.#innermostLeft(entry.path))
  }

  #isTold(path: BytePath): boolean {
    return this.#lastGone !== null && isWithin(path, this.#lastGone)
  }

  #innermostLeft(path: BytePath): BytePath | null {
    while (this.#left.length > 0 && !isWithin(path, this.#left.at(-1)!)) this.#left.pop()
    return this.#left.at(-1) ?? null
  }

  #peek(): Entry | null {
    if (this.#ahead === undefined) this.#ahead = this.#next()
    return this.#ahead
  }
}

/**
 * Whether an object is what it was: type, size, both times to the nanosecond, and inode, as borg has it. The device is
 * not compared, as its number may change with every boot; owner and mode change the ctime.
 */
export function isUnchanged(before: Entry, type: EntryType, status: FileStatus): boolean {
  return (
    before.type === type &&
    (type !== 'file' || before.size === status.size) &&
    before.mtimeSeconds === status.mtimeSeconds &&
    before.mtimeNanoseconds === status.mtimeNanoseconds &&
    before.ctimeSeconds === status.ctimeSeconds &&
    before.ctimeNanoseconds === status.ctimeNanoseconds &&
    before.ino === status.ino &&
    // What was a mixture of two states is read again.
    !before.changedWhileRead
  )
}
