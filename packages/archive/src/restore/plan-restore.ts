import { type Entry, type EntryType, storedBytes } from '../entry.ts'
import { cName, errno } from '../native/libc.ts'
import { type BytePath, bytesFromText, isSafePath, isWithin } from '../path.ts'
import { type Action, decide, type Overwrite, type RestoreRules } from './decision.ts'
import type { RestoreSource } from './source.ts'
import { lookCloser, standingAt } from './standing.ts'
import { TargetOwners } from './target-owners.ts'
import { TargetTree } from './target-tree.ts'

export interface PlannedStep {
  path: BytePath
  type: EntryType
  action: Action
  /** Content that would be written. */
  bytes: number
}

/**
 * What `restoreTree` would do, entry by entry in the order of paths, and by the same decisions; nothing is changed. The
 * target need not be there. Content is not read, so that damage does not show.
 */
export function* planRestore(
  source: RestoreSource,
  target: string,
  overwrite: Overwrite = 'never',
  numericIds = false,
): Generator<PlannedStep, void, void> {
  const tree = TargetTree.open(bytesFromText(target))
  const rules = { overwrite, self: process.geteuid!(), owners: new TargetOwners(numericIds) }
  const planner = new Planner(source, typeof tree === 'number' ? null : tree, rules)
  try {
    for (const entry of source.entries('path')) if (isSafePath(entry.path)) yield planner.step(entry)
  } finally {
    if (typeof tree !== 'number') tree[Symbol.dispose]()
  }
}

class Planner {
  readonly #source: RestoreSource
  /** `null` where the target is not there. */
  readonly #tree: TargetTree | null
  readonly #rules: RestoreRules
  /** What stands in place of a folder and stays: nothing can come below it. */
  #obstacle: BytePath | null = null

  constructor(source: RestoreSource, tree: TargetTree | null, rules: RestoreRules) {
    this.#source = source
    this.#tree = tree
    this.#rules = rules
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
    const action = decide(wanted, standing, this.#rules, (found) => lookCloser(folder, name, found))
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
