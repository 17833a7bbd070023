/** What is measured: each work with what has to be there before it, and the proof that it was done. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Backups } from './backups.ts'
import type { RestoreTargets } from './folders.ts'
import type { Command } from './measure.ts'
import type { Peer } from './peers/peer.ts'
import type { Tree } from './tree.ts'
import { singleFileBytes, type TreeName, treeNames } from './tree-plan.ts'

/** Where a work takes place. */
export interface Stage {
  tree: Tree
  backups: Backups
  /** What is restored comes to the newest of them. */
  targets: RestoreTargets
}

export interface Work {
  title: string
  isFor(peer: Peer, tree: Tree): boolean
  /** Once, before the first round. */
  setUp?(stage: Stage, peers: readonly Peer[]): Promise<void>
  /** Before each round: for all peers at once. */
  change?(stage: Stage): void
  /** Before each run of a peer. */
  prepare?(stage: Stage, peer: Peer): Promise<void>
  command(stage: Stage, peer: Peer): Command
  /** After the run of the warm-up. Throws where what was to be done was not done. */
  prove?(stage: Stage, peer: Peer): void
  /** Once, after the last round or where one failed. */
  tidyUp?(stage: Stage): void
}

export const changedShare = 0.01

const holdsAll = async ({ backups }: Stage, peers: readonly Peer[]): Promise<void> => {
  for (const peer of peers) await backups.ensure(peer)
}

/** In the order in which they are run: works that leave the tree as it is come first. */
export const works = {
  full: {
    title: 'first backup of everything',
    isFor: () => true,
    prepare: ({ backups }, peer) => backups.reset(peer),
    command: ({ backups }, peer) => backups.next(peer),
  },
  unchanged: {
    title: 'next backup, nothing has changed',
    isFor: (peer) => peer.incremental !== undefined,
    setUp: holdsAll,
    command: ({ backups }, peer) => backups.next(peer),
  },
  restore: {
    title: 'restore of everything',
    isFor: (peer) => peer.restore !== undefined,
    setUp: holdsAll,
    prepare: async ({ targets }) => targets.makeNext(),
    command: ({ tree, targets }, peer) => peer.restore!(tree, targets.current),
    prove: ({ tree, targets }, peer) => requireWholeTree(tree, peer.restoredRoot(tree, targets.current)),
  },
  'restore-one': {
    title: 'restore of one file of 10 kB out of everything',
    isFor: (peer) => peer.restoreOne !== undefined,
    setUp: holdsAll,
    prepare: async ({ targets }) => targets.makeNext(),
    command: ({ tree, targets }, peer) => peer.restoreOne!(tree, targets.current),
    prove: ({ tree, targets }, peer) => requireSingleFile(tree, peer.restoredRoot(tree, targets.current)),
  },
  find: {
    title: 'find a file by its name',
    isFor: (peer) => peer.find !== undefined,
    setUp: holdsAll,
    command: ({ tree }, peer) => peer.find!(tree),
  },
  changed: {
    title: 'next backup, 1 % of the files changed',
    isFor: (peer) => peer.incremental !== undefined,
    setUp: holdsAll,
    change: ({ tree }) => tree.change(changedShare),
    command: ({ backups }, peer) => backups.next(peer),
    tidyUp: ({ tree }) => tree.putBack(),
  },
  prune: {
    title: 'prune to the newest of three backups, where the first is over half dead',
    isFor: (peer) => peer.prune !== undefined,
    setUp: ({ backups }, peers) => backups.ensureHistory(peers),
    prepare: async ({ backups }, peer) => backups.rewind(peer),
    command: ({ tree }, peer) => peer.prune!(tree),
  },
  rebuild: {
    title: 'make the catalog of three backups anew from the archives',
    isFor: (peer) => peer.rebuild !== undefined,
    setUp: ({ backups }, peers) => backups.ensureHistory(peers),
    prepare: async ({ backups }, peer) => backups.rewind(peer),
    command: ({ tree }, peer) => peer.rebuild!(tree),
  },
  'four-hosts': {
    title: 'first backup of four hosts at once, a quarter of everything each',
    isFor: (peer, tree) => peer.fullOfParts !== undefined && tree.parts.length > 0,
    prepare: ({ backups }, peer) => backups.resetParts(peer),
    command: ({ tree }, peer) => peer.fullOfParts!(tree),
  },
} satisfies Record<string, Work>

export type WorkKind = keyof typeof works

/** A work on a tree, as `--work` takes it: `full-small`. */
export interface ChosenWork {
  name: string
  kind: WorkKind
  tree: TreeName
}

export const workKinds = Object.keys(works) as WorkKind[]

/** What is run where nothing was chosen. */
export const defaultWorkNames: readonly string[] = [
  ...workKinds.map((kind) => `${kind}-small`),
  'full-large',
  'restore-one-large',
]

/** All that can be chosen, tree by tree. */
export const allWorks: readonly ChosenWork[] = treeNames.flatMap((tree) =>
  workKinds.map((kind) => ({ name: `${kind}-${tree}`, kind, tree })),
)

function requireSingleFile(tree: Tree, root: string): void {
  const path = join(root, tree.singleFile)
  if (!existsSync(path) || statSync(path).size !== singleFileBytes)
    throw new Error(`${path} should have come back with ${singleFileBytes} bytes`)
}

function requireWholeTree(tree: Tree, root: string): void {
  let files = 0
  let bytes = 0
  for (const found of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!found.isFile()) continue
    files++
    bytes += statSync(join(found.parentPath, found.name)).size
  }
  if (files !== tree.fileCount || bytes !== tree.bytes)
    throw new Error(
      `${root} should hold ${tree.fileCount} files of ${tree.bytes} bytes, and has ${files} of ${bytes}`,
    )
}
