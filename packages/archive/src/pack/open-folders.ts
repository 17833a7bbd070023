import { close, cName, FileStatus, openDirectoryAt } from '../native/libc.ts'
import type { Mount } from '../native/mounts.ts'
import type { BytePath } from '../path.ts'
import type { Verdict } from './exclusion.ts'
import type { Branch } from './root-tree.ts'
import type { Rules } from './rules.ts'

/** A folder that is being walked. */
export interface Level {
  path: BytePath
  /** -1 while it is closed because the tree is too deep to keep all open. */
  fd: number
  dev: number
  ino: number | bigint
  mountId: number
  names: readonly BytePath[]
  next: number
  /** Roots at and below this folder, if any. */
  branch: Branch | null
  /** What its names are judged by; `null` where only those are taken that lead to a root. */
  rules: Rules | null
  verdict: Verdict
  /** What is mounted right in it. */
  points: ReadonlyMap<BytePath, Mount> | null
  /** It is left out, and visited only once something in it turns out to be taken back. */
  pending: boolean
}

/** Folders kept open at once: deeper trees have their upper folders closed and opened again on the way back. */
const openLevelsMax = 128

/** The folders from the root down to where a walk is. Those far above are closed, and opened again on the way back. */
export class OpenFolders {
  readonly #levels: Level[] = []
  readonly #status = new FileStatus()
  readonly #lost: (level: Level, namesLeft: number) => void

  /** `lost` is told of a folder that cannot be found again, of whose names no more comes. */
  constructor(lost: (level: Level, namesLeft: number) => void) {
    this.#lost = lost
  }

  get last(): Level | undefined {
    return this.#levels.at(-1)
  }

  /** From the root down, with the one above each; of the root, itself. */
  *fromRoot(): Iterable<{ level: Level; above: Level }> {
    for (const [at, level] of this.#levels.entries()) yield { level, above: this.#levels[at - 1] ?? level }
  }

  push(level: Level): void {
    this.#levels.push(level)
  }

  /** A folder that is now so far above that it is to be closed; `null` where there is none. */
  get tooFarAbove(): Level | null {
    const level = this.#levels[this.#levels.length - 1 - openLevelsMax]
    return level === undefined || level.fd < 0 ? null : level
  }

  closeTooFarAbove(): void {
    const level = this.tooFarAbove
    if (level === null) return
    close(level.fd)
    level.fd = -1
  }

  /** Leaves the last folder, which is closed then; the one above it is open. */
  pop(): Level {
    const level = this.#levels.pop()!
    const parent = this.#levels.at(-1)
    if (parent !== undefined && parent.fd < 0) this.#reopen(parent, level.fd)
    close(level.fd)
    return level
  }

  close(): void {
    for (const level of this.#levels) if (level.fd >= 0) close(level.fd)
    this.#levels.length = 0
  }

  /** Opens a folder again from the one below it, unless that was moved to another place meanwhile. */
  #reopen(parent: Level, child: number): void {
    const fd = openDirectoryAt(child, cName('..' as BytePath))
    if (
      fd >= 0 &&
      this.#status.ofDescriptor(fd) === 0 &&
      this.#status.ino === parent.ino &&
      this.#status.dev === parent.dev
    ) {
      parent.fd = fd
      return
    }
    if (fd >= 0) close(fd)
    this.#lost(parent, parent.names.length - parent.next)
    // Nothing more is looked up in it; the descriptor is a stand-in that is closed when it is left.
    parent.next = parent.names.length
    parent.fd = openDirectoryAt(child, cName('.' as BytePath))
  }
}
