/** How time and memory of ours grow with the number of files, and with the number of runs in the catalog. */
import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Backups } from './backups.ts'
import { type BenchOptions, type Say, settle } from './bench.ts'
import { BenchFolder, RestoreTargets } from './folders.ts'
import { type Command, type Measurement, Runner } from './measure.ts'
import { Ours } from './peers/ours.ts'
import { drawPlot, type Panel, type Series } from './plot.ts'
import { type Circumstances, describeCircumstances, median, summarizeMemory } from './report.ts'
import { Tree } from './tree.ts'
import { planMany } from './tree-plan.ts'

/** In each of these works, the same number of files changes, however many there are. */
const changedFiles = 100
const fileCounts = [10_000, 100_000]
const millionFiles = 1_000_000
const runCounts = [1, 10, 100]

export type GrowthOptions = Omit<BenchOptions, 'works' | 'peers'> & { million: boolean }

export interface GrowthReport extends Circumstances {
  format: 1
  changedFiles: number
  byFiles: GrowthStep[]
  /** All with the first number of files. */
  byRuns: GrowthStep[]
}

export interface GrowthStep {
  files: number
  runs: number
  catalogBytes: number
  /** Work → its figures: `full`, `unchanged`, `changed`, `restore-one`, `find`, `ls`. */
  works: Record<string, GrowthPoint>
}

export interface GrowthPoint {
  /** Medians. */
  seconds: number
  cpuSeconds: number
  serverPeakBytes: number
  /** 0 where it has no part. */
  agentPeakBytes: number
}

export async function measureGrowth(
  options: GrowthOptions,
  signal: AbortSignal,
  say: Say,
): Promise<GrowthReport> {
  const startedMs = Date.now()
  using folder = new BenchFolder(options.folder)
  await using stack = new AsyncDisposableStack()
  const runner = stack.use(new Runner(folder.work, signal))
  const own = join(folder.work, 'ours')
  mkdirSync(own)
  const ours = stack.use(new Ours({ folder: own, runner, sshd: null }, options.programs))
  const trees: Tree[] = []
  for (const count of options.million ? [...fileCounts, millionFiles] : fileCounts) {
    const files = Math.ceil(count * options.scale)
    const tree = new Tree(`files-${files}`, join(folder.trees, `files-${files}`), planMany(files))
    if (!tree.isMade()) say(`making a tree of ${files} files`)
    await tree.make(signal)
    trees.push(tree)
  }
  const seriesOptions = { ...options, targets: new RestoreTargets(join(folder.work, 'restored')), say }
  const series = trees.map((tree) => new GrowthSeries(tree, ours, runner, seriesOptions))
  const byFiles: GrowthStep[] = []
  for (const one of series) byFiles.push(await one.measureFiles())
  const byRuns = await series[0]!.measureRuns()
  return { format: 1, ...describeCircumstances(options, startedMs, trees), changedFiles, byFiles, byRuns }
}

interface SeriesOptions {
  rounds: number
  cold: boolean
  targets: RestoreTargets
  say: Say
}

/** One tree, and what is measured on it. */
class GrowthSeries {
  readonly #tree: Tree
  readonly #ours: Ours
  readonly #runner: Runner
  readonly #backups: Backups
  readonly #options: SeriesOptions

  constructor(tree: Tree, ours: Ours, runner: Runner, options: SeriesOptions) {
    this.#tree = tree
    this.#ours = ours
    this.#runner = runner
    this.#backups = new Backups(tree, runner)
    this.#options = options
  }

  async measureFiles(): Promise<GrowthStep> {
    const [tree, backups, ours] = [this.#tree, this.#backups, this.#ours]
    const next = () => backups.next(ours)
    try {
      const full = await this.#measure('full', next, () => backups.reset(ours))
      const unchanged = await this.#measure('unchanged', next)
      const changed = await this.#measure('changed', next, async () => this.#change())
      const read = await this.#measureReading()
      return this.#step(2 * (this.#options.rounds + 1) + 1, { full, unchanged, changed, ...read })
    } finally {
      tree.putBack()
      await backups.discard(ours)
    }
  }

  async measureRuns(): Promise<GrowthStep[]> {
    const steps: GrowthStep[] = []
    let runs = 0
    try {
      await this.#backups.reset(this.#ours)
      for (const count of runCounts) {
        for (; runs < count; runs++) {
          if (runs > 0) this.#change()
          await this.#runner.run(this.#backups.next(this.#ours))
        }
        const read = await this.#measureReading()
        const before = this.#step(runs, read)
        const changed = await this.#measure(
          'changed',
          () => this.#backups.next(this.#ours),
          async () => this.#change(),
        )
        runs += this.#options.rounds + 1
        steps.push({ ...before, works: { changed, ...read } })
      }
      return steps
    } finally {
      this.#tree.putBack()
      await this.#backups.discard(this.#ours)
    }
  }

  #change(): void {
    this.#tree.change(changedFiles / this.#tree.fileCount)
  }

  async #measureReading(): Promise<Record<string, GrowthPoint>> {
    const { targets } = this.#options
    return {
      'restore-one': await this.#measure(
        'restore-one',
        () => this.#ours.restoreOne(this.#tree, targets.current),
        async () => targets.makeNext(),
      ),
      find: await this.#measure('find', () => this.#ours.find(this.#tree)),
      ls: await this.#measure('ls', () => this.#ours.list(this.#tree)),
    }
  }

  /** A warm-up, and then as many runs as were asked for. */
  async #measure(
    name: string,
    command: () => Command,
    prepare: () => Promise<void> = async () => {},
  ): Promise<GrowthPoint> {
    const { rounds, cold, say } = this.#options
    const measured: Measurement[] = []
    for (let round = 0; round <= rounds; round++) {
      await prepare()
      settle(cold)
      const run = await this.#runner.measure(command(), this.#ours.daemons(this.#tree))
      if (round > 0) measured.push(run)
    }
    const seconds = median(measured.map((run) => run.seconds))
    say(`${this.#tree.name} ${name}: ${seconds.toFixed(2)} s`)
    const { server = 0, agent = 0 } = summarizeMemory(measured).programs
    const cpuSeconds = median(measured.map((run) => run.cpuSeconds))
    return { seconds, cpuSeconds, serverPeakBytes: server, agentPeakBytes: agent }
  }

  #step(runs: number, works: Record<string, GrowthPoint>): GrowthStep {
    const catalog = join(this.#ours.stateFolder(this.#tree), 'catalog.sqlite')
    return { files: this.#tree.fileCount, runs, catalogBytes: statSync(catalog).size, works }
  }
}

/** The plot of a report, as the text of an SVG file. */
export function drawGrowth({ byFiles, byRuns, changedFiles, date }: GrowthReport): string {
  const changed = `${changedFiles} files changed`
  const names: Record<string, string> = {
    full: 'full',
    unchanged: 'unchanged',
    changed,
    ls: 'ls',
    find: 'find',
  }
  names['restore-one'] = 'restore of one file'
  const times = (steps: readonly GrowthStep[], x: 'files' | 'runs'): Series[] =>
    Object.keys(steps[0]!.works).map((work) => ({
      name: names[work]!,
      points: steps.map((step) => [step[x], step.works[work]!.seconds]),
    }))
  const memory = (steps: readonly GrowthStep[], x: 'files' | 'runs', works: readonly string[]): Series[] =>
    works.flatMap((work) =>
      (['agent', 'server'] as const).map((program) => ({
        name: `${program}, ${names[work]}`,
        points: steps.map((step) => [step[x], step.works[work]![`${program}PeakBytes`] / 2 ** 20]),
      })),
    )
  const panels: Panel[] = [
    { title: 'Time by files', x: 'files', y: 'seconds', logY: true, series: times(byFiles, 'files') },
    {
      title: 'Time by runs in the catalog',
      x: 'runs',
      y: 'seconds',
      logY: true,
      series: times(byRuns, 'runs'),
    },
    {
      title: 'Memory by files',
      x: 'files',
      y: 'MiB',
      logY: false,
      limit: { name: 'goal', value: 256 },
      series: memory(byFiles, 'files', ['full', 'unchanged']),
    },
    {
      title: 'Memory by runs in the catalog',
      x: 'runs',
      y: 'MiB',
      logY: false,
      limit: { name: 'goal', value: 256 },
      series: memory(byRuns, 'runs', ['changed']),
    },
  ]
  return drawPlot(`How central-backup grows, ${date.slice(0, 10)}`, panels)
}
