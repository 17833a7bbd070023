import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { isInstalled } from '../machine.ts'
import type { Runner } from '../measure.ts'
import { findSshd, Sshd } from '../sshd.ts'
import { Borg } from './borg.ts'
import { Ours, type Programs } from './ours.ts'
import type { Peer, PeerSurroundings } from './peer.ts'
import { Restic } from './restic.ts'
import { Rsync } from './rsync.ts'
import { TarOverSsh } from './ssh.ts'
import { Tar } from './tar.ts'

interface PeerDefinition {
  needs: readonly string[]
  needsSshd: boolean
  make(surroundings: PeerSurroundings, programs: Programs): Peer
}

const definitions = {
  ours: { needs: [], needsSshd: false, make: (given, programs) => new Ours(given, programs) },
  tar: { needs: ['tar', 'zstd'], needsSshd: false, make: (given) => new Tar(given) },
  ssh: { needs: ['tar', 'zstd', 'ssh'], needsSshd: true, make: (given) => new TarOverSsh(given) },
  rsync: { needs: ['rsync', 'ssh'], needsSshd: true, make: (given) => new Rsync(given) },
  borg: { needs: ['borg'], needsSshd: false, make: (given) => new Borg(given, 'local') },
  'borg-ssh': { needs: ['borg', 'ssh'], needsSshd: true, make: (given) => new Borg(given, 'ssh') },
  restic: { needs: ['restic'], needsSshd: false, make: (given) => new Restic(given) },
} satisfies Record<string, PeerDefinition>

export type PeerName = keyof typeof definitions

export const peerNames = Object.keys(definitions) as PeerName[]

/** Those of the peers that this machine has what it takes for, and why it has not for the others. */
export function splitByInstalled(names: readonly PeerName[]): {
  installed: PeerName[]
  leftOut: Record<string, string>
} {
  const leftOut: Record<string, string> = {}
  for (const name of names) {
    const { needs, needsSshd } = definitions[name]
    const missing = needs.filter((program) => !isInstalled(program))
    if (needsSshd && findSshd() === null) missing.push('sshd')
    if (missing.length > 0) leftOut[name] = `not installed: ${missing.join(', ')}`
  }
  return { installed: names.filter((name) => leftOut[name] === undefined), leftOut }
}

/** Makes them, each with a folder of its own below `folder`, and an sshd where one needs it. `stack` ends them. */
export async function makePeers(
  names: readonly PeerName[],
  { folder, runner, programs }: { folder: string; runner: Runner; programs: Programs },
  stack: AsyncDisposableStack,
): Promise<Peer[]> {
  const needsSshd = names.some((name) => definitions[name].needsSshd)
  const sshd = needsSshd ? stack.use(await Sshd.start(join(folder, 'sshd'), runner)) : null
  return names.map((name) => {
    const own = join(folder, name)
    mkdirSync(own)
    return stack.use(definitions[name].make({ folder: own, runner, sshd }, programs))
  })
}
