import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command, Daemon, Runner } from '../measure.ts'
import type { Sshd } from '../sshd.ts'
import type { Tree } from '../tree.ts'
import { singleFileName } from '../tree-plan.ts'
import { type Peer, type PeerSurroundings, shell } from './peer.ts'

/** Borg without encryption, with a repository on the same machine or, with an sshd, at the other end of ssh. */
export class Borg implements Peer {
  readonly name: string
  readonly title: string
  readonly #folder: string
  readonly #runner: Runner
  readonly #sshd: Sshd | null
  /** How many archives were made of a tree since its last reset. */
  readonly #archives = new Map<string, number>()

  constructor({ folder, runner, sshd }: PeerSurroundings, where: 'local' | 'ssh') {
    this.#folder = folder
    this.#runner = runner
    this.#sshd = where === 'ssh' ? sshd : null
    this.name = where === 'ssh' ? 'borg-ssh' : 'borg'
    const repository = where === 'ssh' ? 'ssh://host/repository' : 'repository'
    this.title = `borg create -C zstd,3 ${repository} (--encryption=none)`
  }

  stateFolder(tree: Tree): string {
    return join(this.#folder, tree.name)
  }

  daemons(): Daemon[] {
    return this.#sshd === null ? [] : [this.#sshd.daemon]
  }

  async reset(tree: Tree): Promise<void> {
    rmSync(this.stateFolder(tree), { recursive: true, force: true })
    mkdirSync(this.stateFolder(tree), { recursive: true })
    this.#archives.set(tree.name, 0)
    await this.#runner.run(this.#command(tree, ['borg', 'init', '--encryption=none', this.#repository(tree)]))
  }

  async leave(): Promise<void> {}

  full(tree: Tree): Command {
    this.#archives.set(tree.name, this.#archives.get(tree.name)! + 1)
    return this.#command(tree, ['borg', 'create', '-C', 'zstd,3', this.#newest(tree), '.'], tree.folder)
  }

  incremental(tree: Tree): Command {
    return this.full(tree)
  }

  restore(tree: Tree, target: string): Command {
    return this.#command(tree, ['borg', 'extract', this.#newest(tree)], target)
  }

  restoreOne(tree: Tree, target: string): Command {
    return this.#command(tree, ['borg', 'extract', this.#newest(tree), tree.singleFile], target)
  }

  restoredRoot(_: Tree, target: string): string {
    return target
  }

  find(tree: Tree): Command {
    return this.#command(tree, ['borg', 'list', this.#newest(tree), `sh:**/${singleFileName}`])
  }

  prune(tree: Tree): Command {
    const repository = this.#repository(tree)
    return this.#command(tree, shell('borg prune --keep-last 1 "$1" && borg compact "$1"', repository))
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #newest(tree: Tree): string {
    return `${this.#repository(tree)}::run-${this.#archives.get(tree.name)}`
  }

  #repository(tree: Tree): string {
    const path = join(this.stateFolder(tree), 'repository')
    return this.#sshd === null ? path : `ssh://bench${path}`
  }

  #command(tree: Tree, argv: string[], cwd?: string): Command {
    const env: Record<string, string> = {
      BORG_BASE_DIR: this.stateFolder(tree),
      BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    }
    if (this.#sshd !== null) env.BORG_RSH = `ssh -F ${this.#sshd.clientConfig}`
    return { argv, env, ...(cwd === undefined ? {} : { cwd }) }
  }
}
