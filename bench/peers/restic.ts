import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command, Runner } from '../measure.ts'
import type { Tree } from '../tree.ts'
import { singleFileName } from '../tree-plan.ts'
import type { Peer, PeerSurroundings } from './peer.ts'

/** Restic with a repository on the same machine. It always encrypts. */
export class Restic implements Peer {
  readonly name = 'restic'
  readonly title = 'restic backup (compression auto; always encrypts)'
  readonly #folder: string
  readonly #runner: Runner

  constructor({ folder, runner }: PeerSurroundings) {
    this.#folder = folder
    this.#runner = runner
  }

  stateFolder(tree: Tree): string {
    return join(this.#folder, tree.name)
  }

  daemons(): [] {
    return []
  }

  async reset(tree: Tree): Promise<void> {
    rmSync(this.stateFolder(tree), { recursive: true, force: true })
    mkdirSync(this.stateFolder(tree), { recursive: true })
    await this.#runner.run(this.#command(tree, ['init']))
  }

  async leave(): Promise<void> {}

  full(tree: Tree): Command {
    return this.#command(tree, ['backup', '.'], tree.folder)
  }

  incremental(tree: Tree): Command {
    return this.full(tree)
  }

  restore(tree: Tree, target: string): Command {
    return this.#command(tree, ['restore', 'latest', '--target', target])
  }

  restoreOne(tree: Tree, target: string): Command {
    const include = ['--include', `/${tree.singleFile}`]
    return this.#command(tree, ['restore', 'latest', '--target', target, ...include])
  }

  restoredRoot(_: Tree, target: string): string {
    return target
  }

  find(tree: Tree): Command {
    return this.#command(tree, ['find', singleFileName])
  }

  prune(tree: Tree): Command {
    return this.#command(tree, ['forget', '--keep-last', '1', '--prune'])
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #command(tree: Tree, args: string[], cwd?: string): Command {
    const state = this.stateFolder(tree)
    return {
      argv: ['restic', '-q', '-r', join(state, 'repository'), ...args],
      env: { RESTIC_PASSWORD: 'bench', RESTIC_CACHE_DIR: join(state, 'cache') },
      ...(cwd === undefined ? {} : { cwd }),
    }
  }
}
