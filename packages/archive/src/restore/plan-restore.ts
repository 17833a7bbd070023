import { type Entry, type EntryType, storedBytes } from '../entry.ts'
import { cName, errno } from '../native/libc.ts'
import { type BytePath, isSafePath, isWithin } from '../path.ts'
import { type Action, decide, type Overwrite, type RestoreRules } from './decision.ts'
import { OtherNames } from './other-name.ts'
import type { RestoreSource } from './source.ts'
import { lookCloser, standingAt } from './standing.ts'
import { openTarget } from './target.ts'
import { TargetOwners } from './target-owners.ts'
import type { TargetTree } from './target-tree.ts'
import type { RestoreOptions } from './work.ts'

export interface PlannedStep {
  path: BytePath
  type: EntryType
  action: Action
  /** Content that would be written. */
  bytes: number
}

/**
 * What `restoreTree` would do, entry by entry in the order of paths, and by the same decisions; nothing is changed. The
 * target need not be there; an `ArchiveError` (`restore-failed`) is thrown where it is no folder. Content is not read, so
 * that damage does not show. `subfolder` as in `RestoreOptions`.
 */
export function* planRestore(
  source: RestoreSource,
  target: string,
  overwrite: Overwrite = 'never',
  numericIds = false,
  subfolder: BytePath = '' as BytePath,
): Generator<PlannedStep, void, void> {
  using planner = new RestorePlanner(source, target, { overwrite, numericIds, subfolder })
  for (const entry of source.entries('path')) if (isSafePath(entry.path)) yield planner.step(entry)
}

/**
 * Tells what a restore would do for single entries with safe paths. For what lies below something that is in the way and
 * stays, it is right only where all entries come in the order of paths. Throws as `planRestore` does. Who makes one disposes
 * of it.
 */
export class RestorePlanner implements Disposable {
  readonly #source: Pick<RestoreSource, 'entryAt'>
  /** `null` where the target is not there. */
  readonly #tree: TargetTree | null
  readonly #rules: RestoreRules
  readonly #otherNames = new OtherNames()
  /** What stands in place of a folder and stays: nothing can come below it. */
  #obstacle: BytePath | null = null

  /** `source` resolves hard links. */
  constructor(
    source: Pick<RestoreSource, 'entryAt'>,
    target: string,
    { overwrite = 'never', numericIds = false, subfolder }: RestoreOptions,
  ) {
    this.#source = source
    this.#tree = openTarget(target, subfolder ?? ('' as BytePath), false)
    this.#rules = { overwrite, self: process.geteuid!(), owners: new TargetOwners(numericIds) }
  }

  [Symbol.dispose](): void {
    this.#tree?.[Symbol.dispose]()
  }

  step(entry: Entry): PlannedStep {
    const action = this.#action(entry)
    const writes = entry.type === 'file' && (action === 'create' || action === 'replace')
    return { path: entry.path, type: entry.type, action, bytes: writes ? storedBytes(entry) : 0 }
  }

  #action(entry: Entry): Action {
    if (this.#tree === null) return 'create'
    if (this.#obstacle !== null && isWithin(entry.path, this.#obstacle)) return 'keep'
    const slash = entry.path.lastIndexOf('/')
    const folder = this.#tree.folder(entry.path.slice(0, Math.max(0, slash)) as BytePath, false)
    // What is in the way of its folder was decided about with that folder.
    if (folder < 0) return 'create'
    const wanted = this.#resolve(entry)
    const name = cName(entry.path.slice(slash + 1) as BytePath)
    const standing = standingAt(folder, name, wanted.type)
    if (typeof standing === 'number') return standing === -errno.ENOENT ? 'create' : 'keep'
    const decided = decide(wanted, standing, this.#rules, (found) => lookCloser(folder, name, found))
    const stands = decided === 'replace' && this.#otherNames.standsUnder(folder, name)
    const action = stands ? 'keep' : decided
    const stays = action === 'keep' && standing?.type !== 'directory'
    if (entry.type === 'directory' && stays) this.#obstacle = entry.path
    return action
  }

  /** A further name is decided as what it is a name of. */
  #resolve(entry: Entry): Entry {
    const first = entry.type === 'hardlink' ? this.#source.entryAt(entry.target!) : null
    return first === null ? entry : { ...first, path: entry.path }
  }
}
