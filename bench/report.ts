/** What a bench found, as `--json` gives it, and how it follows from what was measured. */
import { peakBytesMax, ratioGoal } from './goals.ts'
import { describeMachine, type Machine, readVersions } from './machine.ts'
import type { Measurement } from './measure.ts'
import type { Tree } from './tree.ts'
import type { ChosenWork } from './works.ts'

export const oursName = 'ours'

/** When, where, and with what figures were taken. */
export interface Circumstances {
  /** When it began. */
  date: string
  seconds: number
  rounds: number
  scale: number
  cold: boolean
  machine: Machine
  /** Program → its version. */
  versions: Record<string, string>
  trees: { name: string; files: number; bytes: number }[]
}

export interface Report extends Circumstances {
  format: 1
  /** Peer → what is run. */
  peers: Record<string, string>
  /** Peer → why it has no figures. */
  leftOut: Record<string, string>
  works: WorkReport[]
}

export interface WorkReport {
  name: string
  title: string
  contenders: ContenderReport[]
}

export interface ContenderReport {
  peer: string
  seconds: { median: number; min: number; max: number }
  /** Median. */
  cpuSeconds: number
  memory: MemoryReport
  /** What ours took, divided by what this one did. `null` for ours itself and where ours was not measured. */
  ratio: number | null
  /** The most that the ratio may be; of ours, nothing. `null` where there is no goal. */
  goal: number | null
  /** Of ours: whether agent and server kept to their memory. `null` where there is no goal. */
  reached: boolean | null
  /** All runs but the warm-up. */
  runs: Measurement[]
}

export interface MemoryReport {
  /** The sum of the peaks of all processes of a run, at its largest. */
  totalBytes: number
  /** Program → the largest peak of one process. */
  programs: Record<string, number>
}

/** To be called at the end: the time since `startedMs` counts. */
export function describeCircumstances(
  options: { rounds: number; scale: number; cold: boolean; folder: string; checkout: string },
  startedMs: number,
  trees: readonly Tree[],
): Circumstances {
  const { rounds, scale, cold, folder, checkout } = options
  return {
    date: new Date(startedMs).toISOString(),
    seconds: (Date.now() - startedMs) / 1000,
    rounds,
    scale,
    cold,
    machine: describeMachine(folder),
    versions: readVersions(checkout),
    trees: trees.map(({ name, fileCount, bytes }) => ({ name, files: fileCount, bytes })),
  }
}

/** `measured`: peer → its runs without the warm-up. Ours comes first where it is there. */
export function reportWork(
  work: ChosenWork,
  title: string,
  measured: ReadonlyMap<string, Measurement[]>,
): WorkReport {
  const ours = measured.get(oursName)
  const oursSeconds = ours === undefined ? null : median(ours.map(({ seconds }) => seconds))
  const contenders = [...measured].map(([peer, runs]): ContenderReport => {
    const seconds = summarize(runs.map((run) => run.seconds))
    const memory = summarizeMemory(runs)
    const isOurs = peer === oursName
    const ratio = isOurs || oursSeconds === null ? null : oursSeconds / seconds.median
    const goal = isOurs ? null : ratioGoal(work, peer)
    const reached = isOurs ? keepsToMemory(memory) : ratio !== null && goal !== null ? ratio <= goal : null
    const cpuSeconds = median(runs.map((run) => run.cpuSeconds))
    return { peer, seconds, cpuSeconds, memory, ratio, goal, reached, runs }
  })
  return { name: work.name, title, contenders }
}

/** Of an odd number of values the one in the middle, else the mean of the two there. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2
}

export function summarizeMemory(runs: readonly Measurement[]): MemoryReport {
  const totals = runs.map(({ processes }) => processes.reduce((sum, { peakBytes }) => sum + peakBytes, 0))
  const programs: Record<string, number> = {}
  for (const { name, peakBytes } of runs.flatMap(({ processes }) => processes))
    programs[name] = Math.max(programs[name] ?? 0, peakBytes)
  return { totalBytes: Math.max(...totals), programs }
}

function summarize(values: readonly number[]): ContenderReport['seconds'] {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

function keepsToMemory({ programs }: MemoryReport): boolean {
  return Math.max(programs.agent ?? 0, programs.server ?? 0) <= peakBytesMax
}
