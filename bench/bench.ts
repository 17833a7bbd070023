/** Runs works, one after the other; in each, all peers in turn, round by round. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Backups } from './backups.ts'
import { BenchFolder, RestoreTargets } from './folders.ts'
import { type Measurement, Runner } from './measure.ts'
import { makePeers, type PeerName, splitByInstalled } from './peers/choose.ts'
import type { Programs } from './peers/ours.ts'
import type { Peer } from './peers/peer.ts'
import { describeCircumstances, type Report, reportWork, type WorkReport } from './report.ts'
import { Tree } from './tree.ts'
import { planTree, type TreeName } from './tree-plan.ts'
import { type ChosenWork, type Stage, type Work, works } from './works.ts'

export interface BenchOptions {
  works: readonly ChosenWork[]
  peers: readonly PeerName[]
  /** Measured runs of each peer in each work, after one that is not; fewer of slow ones. */
  rounds: number
  scale: number
  /** Empties the page cache before each run. For root only. */
  cold: boolean
  folder: string
  checkout: string
  programs: Programs
}

/** Peers that are slow in the warm-up have as many rounds as fit into this, so that the whole is done in a quarter of an hour. */
const secondsPerPeer = 30
const roundsMin = 2

export type Say = (line: string) => void

/** Runs all that was chosen. Throws `signal.reason` once it is aborted; nothing that it started or made stays but trees. */
export async function runBench(options: BenchOptions, signal: AbortSignal, say: Say): Promise<Report> {
  const startedMs = Date.now()
  const { installed, leftOut } = splitByInstalled(options.peers)
  for (const [peer, reason] of Object.entries(leftOut)) say(`${peer} is left out: ${reason}`)
  using folder = new BenchFolder(options.folder)
  await using stack = new AsyncDisposableStack()
  const runner = stack.use(new Runner(folder.work, signal))
  const peers = await makePeers(installed, { folder: folder.work, runner, programs: options.programs }, stack)
  const trees: Tree[] = []
  const reports: WorkReport[] = []
  for (const name of new Set(options.works.map(({ tree }) => tree))) {
    const tree = openTree(name, options.scale, folder)
    if (!tree.isMade()) say(`making the tree ${tree.name}: ${tree.fileCount} files, ${tree.bytes} bytes`)
    await tree.make(signal)
    trees.push(tree)
    const targets = new RestoreTargets(join(folder.work, 'restored'))
    const stage: Stage = { tree, backups: new Backups(tree, runner), targets }
    for (const work of options.works.filter((one) => one.tree === name))
      reports.push(await runWork(work, stage, peers, runner, options, say))
    say(`removing backups and restored files of ${tree.name}`)
    for (const peer of peers) await stage.backups.discard(peer)
    targets.removeAll()
  }
  return {
    format: 1,
    ...describeCircumstances(options, startedMs, trees),
    peers: Object.fromEntries(peers.map(({ name, title }) => [name, title])),
    leftOut,
    works: reports,
  }
}

function openTree(name: TreeName, scale: number, folder: BenchFolder): Tree {
  const title = scale === 1 ? name : `${name}-${scale}`
  return new Tree(name, join(folder.trees, title), planTree(name, scale))
}

/** Before each measured run: nothing of what was written earlier is still to be written. */
export function settle(cold: boolean): void {
  spawnSync('sync')
  if (cold) writeFileSync('/proc/sys/vm/drop_caches', '3')
}

async function runWork(
  chosen: ChosenWork,
  stage: Stage,
  peers: readonly Peer[],
  runner: Runner,
  { rounds, cold }: BenchOptions,
  say: Say,
): Promise<WorkReport> {
  const work: Work = works[chosen.kind]
  const able = peers.filter((peer) => work.isFor(peer, stage.tree))
  const measured = new Map<string, Measurement[]>(able.map(({ name }) => [name, []]))
  try {
    await work.setUp?.(stage, able)
    const roundsOf = new Map<Peer, number>()
    // Round 0 warms up.
    for (let round = 0; round <= rounds; round++) {
      work.change?.(stage)
      for (const peer of able) {
        if (round > (roundsOf.get(peer) ?? rounds)) continue
        await work.prepare?.(stage, peer)
        settle(cold)
        const run = await runner.measure(work.command(stage, peer), peer.daemons(stage.tree))
        if (round > 0) measured.get(peer.name)!.push(run)
        else {
          work.prove?.(stage, peer)
          roundsOf.set(peer, Math.min(rounds, Math.max(roundsMin, Math.round(secondsPerPeer / run.seconds))))
        }
        const title = round === 0 ? 'warm-up' : `${round}/${roundsOf.get(peer)}`
        say(`${chosen.name} ${title} ${peer.name}: ${run.seconds.toFixed(2)} s`)
      }
    }
  } finally {
    work.tidyUp?.(stage)
  }
  return reportWork(chosen, work.title, measured)
}
