import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command, Daemon } from '../measure.ts'
import type { Sshd } from '../sshd.ts'
import type { Tree } from '../tree.ts'
import { type Peer, type PeerSurroundings, shell } from './peer.ts'

/** A mirror that is pulled by rsync over ssh. It has one version of each file, and does not compress. */
export class Rsync implements Peer {
  readonly name = 'rsync'
  readonly title = 'rsync -a --delete -e ssh host:tree/ mirror/'
  readonly #folder: string
  readonly #sshd: Sshd
  /** Mirrors of earlier backups. Removed only in the end: to remove many files slows down what makes others next. */
  #outdated = 0

  constructor({ folder, sshd }: PeerSurroundings) {
    this.#folder = folder
    this.#sshd = sshd!
  }

  stateFolder(tree: Tree): string {
    return join(this.#folder, tree.name)
  }

  daemons(): Daemon[] {
    return [this.#sshd.daemon]
  }

  async reset(tree: Tree): Promise<void> {
    const mirror = this.stateFolder(tree)
    if (existsSync(mirror)) renameSync(mirror, `${mirror}.${++this.#outdated}`)
    mkdirSync(mirror)
  }

  async leave(tree: Tree): Promise<void> {
    for (; this.#outdated > 0; this.#outdated--)
      rmSync(`${this.stateFolder(tree)}.${this.#outdated}`, { recursive: true, force: true })
  }

  full(tree: Tree): Command {
    const mirror = this.stateFolder(tree)
    return { argv: ['rsync', '-a', '--delete', '-e', this.#shell(), `bench:${tree.folder}/`, `${mirror}/`] }
  }

  incremental(tree: Tree): Command {
    return this.full(tree)
  }

  restoredRoot(_: Tree, target: string): string {
    return target
  }

  fullOfParts(tree: Tree): Command {
    const script = `
      shell=$1; target=$2; shift 2; pids=
      for part; do
        rsync -a --delete -e "$shell" "bench:$part/" "$target/\${part##*/}/" & pids="$pids $!"
      done
      for pid in $pids; do wait "$pid" || exit 1; done`
    return { argv: shell(script, this.#shell(), this.stateFolder(tree), ...tree.parts) }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #shell(): string {
    return `ssh -F ${this.#sshd.clientConfig}`
  }
}
