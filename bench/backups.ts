/** What backups each peer has of a tree, so that works which need the same ones share them. */
import { existsSync, rmSync } from 'node:fs'
import { copyFolder } from './folders.ts'
import type { Command, Runner } from './measure.ts'
import type { Peer } from './peers/peer.ts'
import type { Tree } from './tree.ts'

/** So much of the first backup that prune is to find is dead: more than half. */
const deadShare = 0.65
const changedAfterwards = 0.01

export class Backups {
  readonly #tree: Tree
  readonly #runner: Runner
  /** State of the tree that the newest backup of a peer has. Not there: no backup. */
  readonly #held = new Map<Peer, number>()

  constructor(tree: Tree, runner: Runner) {
    this.#tree = tree
    this.#runner = runner
  }

  /** Forgets all backups of a peer. */
  async reset(peer: Peer): Promise<void> {
    this.#held.delete(peer)
    await peer.reset(this.#tree)
  }

  async resetParts(peer: Peer): Promise<void> {
    this.#held.delete(peer)
    await peer.reset(this.#tree, 'parts')
  }

  /** The command of the next backup, which the caller runs: full where there is none yet. */
  next(peer: Peer): Command {
    const isFirst = !this.#held.has(peer)
    this.#held.set(peer, this.#tree.state)
    return isFirst ? peer.full(this.#tree) : peer.incremental!(this.#tree)
  }

  /** Sees to it that the newest backup is one of the tree as it stands. */
  async ensure(peer: Peer): Promise<void> {
    if (this.#held.get(peer) === this.#tree.state) return
    await this.reset(peer)
    await this.#runner.run(this.next(peer))
  }

  /**
   * Three backups of each peer: a full one, one after most files have changed, and one after a few have. `rewind` brings
   * them back whatever happened to them. The tree is as before.
   */
  async ensureHistory(peers: readonly Peer[]): Promise<void> {
    const missing = peers.filter((peer) => !existsSync(this.#savedFolder(peer)))
    if (missing.length === 0) return
    for (const peer of missing) await this.reset(peer)
    try {
      await this.#backUp(missing)
      for (const share of [deadShare, changedAfterwards]) {
        this.#tree.change(share)
        await this.#backUp(missing)
      }
    } finally {
      this.#tree.putBack()
    }
    for (const peer of missing) copyFolder(peer.stateFolder(this.#tree), this.#savedFolder(peer))
  }

  /** The three backups as they were made. */
  rewind(peer: Peer): void {
    copyFolder(this.#savedFolder(peer), peer.stateFolder(this.#tree))
  }

  /** Removes all that a peer has of the tree. */
  async discard(peer: Peer): Promise<void> {
    this.#held.delete(peer)
    await peer.leave(this.#tree)
    for (const folder of [this.#savedFolder(peer), peer.stateFolder(this.#tree)])
      rmSync(folder, { recursive: true, force: true })
  }

  async #backUp(peers: readonly Peer[]): Promise<void> {
    for (const peer of peers) await this.#runner.run(this.next(peer))
  }

  #savedFolder(peer: Peer): string {
    return `${peer.stateFolder(this.#tree)}.saved`
  }
}
