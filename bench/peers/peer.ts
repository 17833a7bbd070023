import type { Command, Daemon, Runner } from '../measure.ts'
import type { Sshd } from '../sshd.ts'
import type { Tree } from '../tree.ts'

/**
 * A way to back trees up, ours or another. Methods give commands and run nothing, but for `reset`; those that are not
 * there are works that it cannot do. For each tree it has backups of its own.
 */
export interface Peer extends AsyncDisposable {
  /** As `--peer` takes it. */
  readonly name: string
  /** What is run, with the options that decide: for the readers of figures. */
  readonly title: string
  /** All that it knows of a tree. To put a copy of it back undoes what happened in the meantime. */
  stateFolder(tree: Tree): string
  /** Processes that outlive commands and have a part in them. */
  daemons(tree: Tree): Daemon[]
  /** Forgets all backups of the tree, or makes the first place for them; with `parts`, those of its four parts. */
  reset(tree: Tree, of?: 'parts'): Promise<void>
  /** Ends what still works for the tree; its backups may be removed then. */
  leave(tree: Tree): Promise<void>
  /** The first backup after `reset`. */
  full(tree: Tree): Command
  /** Each further one. */
  incremental?(tree: Tree): Command
  /** Brings everything back below `target`, an empty folder. */
  restore?(tree: Tree, target: string): Command
  /** Brings back the single file alone. */
  restoreOne?(tree: Tree, target: string): Command
  /** Where in `target` the tree is after a restore. */
  restoredRoot(tree: Tree, target: string): string
  /** Lists the versions of files with the name of the single one. */
  find?(tree: Tree): Command
  /** Removes all backups but the newest, and what only they need. */
  prune?(tree: Tree): Command
  /** Makes the catalog anew. */
  rebuild?(tree: Tree): Command
  /** Backs up the four parts of the tree at once, as four hosts, after `reset` for parts. */
  fullOfParts?(tree: Tree): Command
}

/** What peers are made of. */
export interface PeerSurroundings {
  /** Of this peer alone. It is there, and removed by the caller. */
  folder: string
  runner: Runner
  /** `null` where no peer that was chosen needs one. */
  sshd: Sshd | null
}

/** What a pipeline of a peer is: fails where any part of it fails. Arguments are `$1`, `$2`, … */
export function shell(script: string, ...args: string[]): string[] {
  return ['bash', '-o', 'pipefail', '-c', script, 'bash', ...args]
}
