import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from '../measure.ts'
import type { Tree } from '../tree.ts'
import { singleFileName } from '../tree-plan.ts'
import { type Peer, type PeerSurroundings, shell } from './peer.ts'

/** GNU tar and zstd on the same machine, without any network. */
export class Tar implements Peer {
  readonly name = 'tar'
  readonly title = 'tar | zstd -T0 -3 > file'
  readonly #folder: string

  constructor({ folder }: PeerSurroundings) {
    this.#folder = folder
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
  }

  async leave(): Promise<void> {}

  full(tree: Tree): Command {
    return { argv: shell('tar -C "$1" -cf - . | zstd -q -T0 -3 > "$2"', tree.folder, this.#archive(tree)) }
  }

  restore(tree: Tree, target: string): Command {
    return { argv: ['tar', '--zstd', '-xpf', this.#archive(tree), '-C', target] }
  }

  restoreOne(tree: Tree, target: string): Command {
    const one = `./${tree.singleFile}`
    return { argv: ['tar', '--zstd', '-xpf', this.#archive(tree), '-C', target, one] }
  }

  restoredRoot(_: Tree, target: string): string {
    return target
  }

  find(tree: Tree): Command {
    return { argv: shell('tar --zstd -tvf "$1" | grep -F "$2"', this.#archive(tree), singleFileName) }
  }

  fullOfParts(tree: Tree): Command {
    const script = `
      target=$1; shift; pids=
      for part; do
        { tar -C "$part" -cf - . | zstd -q -T0 -3 > "$target/\${part##*/}.tar.zst"; } & pids="$pids $!"
      done
      for pid in $pids; do wait "$pid" || exit 1; done`
    return { argv: shell(script, this.stateFolder(tree), ...tree.parts) }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #archive(tree: Tree): string {
    return join(this.stateFolder(tree), 'archive.tar.zst')
  }
}
