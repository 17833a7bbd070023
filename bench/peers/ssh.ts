import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Command, Daemon } from '../measure.ts'
import type { Sshd } from '../sshd.ts'
import type { Tree } from '../tree.ts'
import { type Peer, type PeerSurroundings, shell } from './peer.ts'

/** GNU tar and zstd at the other end of ssh: what people write into a crontab to pull a backup. */
export class TarOverSsh implements Peer {
  readonly name = 'ssh'
  readonly title = "ssh host 'tar | zstd -T0 -3' > file"
  readonly #folder: string
  readonly #sshd: Sshd

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
    rmSync(this.stateFolder(tree), { recursive: true, force: true })
    mkdirSync(this.stateFolder(tree), { recursive: true })
  }

  async leave(): Promise<void> {}

  full(tree: Tree): Command {
    const archive = join(this.stateFolder(tree), 'archive.tar.zst')
    const script = `ssh -F "$1" bench "tar -C '$2' -cf - . | zstd -q -T0 -3" > "$3"`
    return { argv: shell(script, this.#sshd.clientConfig, tree.folder, archive) }
  }

  restoredRoot(_: Tree, target: string): string {
    return target
  }

  fullOfParts(tree: Tree): Command {
    const script = `
      config=$1; target=$2; shift 2; pids=
      for part; do
        ssh -F "$config" bench "tar -C '$part' -cf - . | zstd -q -T0 -3" > "$target/\${part##*/}.tar.zst" &
        pids="$pids $!"
      done
      for pid in $pids; do wait "$pid" || exit 1; done`
    return { argv: shell(script, this.#sshd.clientConfig, this.stateFolder(tree), ...tree.parts) }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
