/**
 * A day of hourly runs of many hosts, compressed into minutes: the server is started each hour as cron does it, with its
 * clock moved; trees change between the hours, and some hosts are in trouble for an hour. In the end, random moments of
 * every host are restored and compared with what stood there.
 */
import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Mutator } from '../harness/mutate.ts'
import type { Program } from '../harness/program.ts'
import { Random } from '../harness/random.ts'
import { readRun, Site, type TestHost } from '../harness/site.ts'
import { linesOf, readSnapshot } from '../harness/snapshot.ts'
import { Fleet } from './fleet.ts'
import { faultOfEnd, makeTrouble, type Trouble } from './troubles.ts'
import { highest, noUsage, type Usage, usageOf } from './usage.ts'

export interface LoadOptions {
  agents: number
  hours: number
  seed: number
  /** Told as it goes on, a line at a time. */
  onLine?: (line: string) => void
}

/** An hour as it was measured. */
export interface Hour {
  hour: number
  seconds: number
  /** By outcome of the runs. */
  outcomes: Record<string, number>
  troubles: Partial<Record<Trouble, number>>
  /** Of the `run` process, at its highest. */
  server: Usage
  /** Of the agents' processes after the hour, when they are at rest. */
  agents: Record<string, Usage>
  catalogBytes: number
  archives: number
  trashed: number
  repositoryBytes: number
}

export interface LoadReport {
  agents: number
  hours: Hour[]
  seed: number
  /** Runs that are kept of each host, runs from one full one to the next. */
  kept: number
  runsPerFull: number
  /** Runs of hosts that were told of, those of hosts that were down included. */
  runs: number
  /** An agent that is a process of its own, before its first session. */
  idleAgentBytes: number
  restored: number
  seconds: number
  /** What was not as it has to be, in sentences. Empty where all is well. */
  faults: string[]
}

const hourMs = 3_600_000
const concurrency = 8

/** Agents that are processes of their own: enough to see that it makes no difference. */
const realMax = 4

const changesFirst = 12
const changesPerHour = 3
const pruneEveryHours = 6
const hourMsMax = 30 * 60_000
const watchMs = 100
/** Threads of sessions that ended may take so long to go. */
const restMsMax = 10_000
const firstRestMs = 1000

const movedClock = pathToFileURL(join(import.meta.dirname, 'moved-clock.ts')).href

/** Sets all up in a temporary folder, which is removed in the end, and lives through the hours. */
export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const startedMs = performance.now()
  const kept = Math.max(2, Math.floor(options.hours / 3))
  const runsPerFull = Math.max(2, Math.floor(options.hours / 4))
  await using site = await Site.create({
    settings: `concurrency: ${concurrency}, connection: { attempts: 1 }, trash: '1 hour',
  defaults: { fullEvery: '${runsPerFull - 0.5} hours', retention: { last: ${kept} } },`,
  })
  const real = Math.min(realMax, Math.ceil(options.agents / 3))
  await using fleet = await Fleet.start(site, options.agents, real)
  const report: LoadReport = {
    agents: options.agents,
    hours: [],
    seed: options.seed,
    kept,
    runsPerFull,
    runs: 0,
    idleAgentBytes: 0,
    restored: 0,
    seconds: 0,
    faults: [],
  }
  const idle = [...fleet.real].map((host) => fleet.usage()[host.name]!.residentBytes)
  report.idleAgentBytes = Math.max(0, ...idle)
  options.onLine?.(`${options.agents} agents listen in ${fleet.processes.length} processes`)

  const day = new Day(site, fleet, options, report)
  for (let hour = 0; hour < options.hours; hour++) await day.live(hour)
  await day.compareMoments()
  await day.verify()
  report.faults.push(...growthFaults(report))
  report.seconds = (performance.now() - startedMs) / 1000
  return report
}

class Day {
  readonly #site: Site
  readonly #fleet: Fleet
  readonly #options: LoadOptions
  readonly #report: LoadReport
  readonly #random: Random
  readonly #mutators: Map<TestHost, Mutator>
  /** What stood at a run: lines of the tree, by the run's id. */
  readonly #model = new Map<TestHost, Map<number, string[]>>()
  #hour = 0

  constructor(site: Site, fleet: Fleet, options: LoadOptions, report: LoadReport) {
    this.#site = site
    this.#fleet = fleet
    this.#options = options
    this.#report = report
    this.#random = new Random(options.seed)
    const mutators = fleet.hosts.map((host, number): [TestHost, Mutator] => [
      host,
      new Mutator(site.tree(host.name), new Random(options.seed * 1000 + number)),
    ])
    this.#mutators = new Map(mutators)
    for (const host of fleet.hosts) this.#model.set(host, new Map())
  }

  async live(hour: number): Promise<void> {
    this.#hour = hour
    const stands = new Map<TestHost, string[]>()
    for (const [host, mutator] of this.#mutators) {
      mutator.change(hour === 0 ? changesFirst : changesPerHour)
      mutator.log.length = 0
      stands.set(host, linesOf(readSnapshot(this.#site.tree(host.name))))
    }
    // In the first hour all is well, so that each host has something to lose.
    const troubled = hour === 0 ? new Map() : await makeTrouble(this.#fleet, this.#random)
    const startedMs = performance.now()
    const program = this.#start('run', '--json')
    const server = await highestUntilEnd(program)
    const { ends, stderr } = readRun(await program.endWithin(hourMsMax))
    const seconds = (performance.now() - startedMs) / 1000
    for (const { undo } of troubled.values()) await undo()

    const outcomes: Record<string, number> = {}
    const troubles: Hour['troubles'] = {}
    for (const host of this.#fleet.hosts) {
      const trouble: Trouble | null = troubled.get(host)?.trouble ?? null
      const end = ends[host.name]
      if (trouble !== null) troubles[trouble] = (troubles[trouble] ?? 0) + 1
      const outcome = end?.outcome ?? 'none'
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      if (end !== undefined) this.#report.runs++
      const fault = faultOfEnd(end, trouble)
      if (fault !== null) this.#fault(`${host.name}: ${fault}`)
      if (outcome === 'complete') this.#model.get(host)!.set(end!.run!, stands.get(host)!)
    }
    if (Object.keys(ends).length === 0) this.#fault(`no host was backed up: ${stderr.slice(-2000)}`)
    if (hour % pruneEveryHours === pruneEveryHours - 1) await this.#server('prune')
    const measured = { hour, seconds, outcomes, troubles, server, agents: await this.#agentsAtRest() }
    this.#report.hours.push({ ...measured, ...this.#repository() })
    const shown = Object.entries(outcomes).map(([outcome, count]) => `${count} ${outcome}`)
    this.#options.onLine?.(`hour ${hour}: ${shown.join(', ')} in ${seconds.toFixed(1)} s`)
  }

  /** Restores of each host a random one of the runs that are left. */
  async compareMoments(): Promise<void> {
    const { runs } = JSON.parse(await this.#server('list', '--json')) as {
      runs: { id: number; host: string; archive: object | null }[]
    }
    const waiting = [...this.#fleet.hosts]
    const work = async () => {
      for (let host = waiting.shift(); host !== undefined; host = waiting.shift()) {
        const model = this.#model.get(host)!
        const { name } = host
        const left = runs.filter((run) => run.host === name && run.archive !== null && model.has(run.id))
        if (left.length === 0) {
          this.#fault(`${name}: no run is left`)
          continue
        }
        await this.#compare(host, this.#random.of(left).id)
      }
    }
    await Promise.all([work(), work()])
  }

  async verify(): Promise<void> {
    await this.#server('verify')
  }

  async #compare(host: TestHost, run: number): Promise<void> {
    const root = this.#site.tree(host.name)
    const target = this.#site.at('restored', host.name)
    await this.#server('restore', host.name, root, '--target', target, '--at', String(run))
    const expected = this.#model.get(host)!.get(run)!
    const found = linesOf(readSnapshot(`${target}${root}`))
    const differing = expected.filter((line) => !found.includes(line))
    if (found.length > 0) this.#report.restored++
    if (differing.length > 0 || found.length !== expected.length) {
      this.#fault(`${host.name}: run ${run} came back otherwise: ${differing.slice(0, 3).join('; ')}`)
    }
    rmSync(target, { recursive: true })
  }

  #start(...args: string[]): Program {
    return this.#site.startServer(args, {
      env: { MOVED_CLOCK_MS: String(this.#hour * hourMs) },
      nodeOptions: ['--import', movedClock],
    })
  }

  /** Standard output of a command that has to succeed. */
  async #server(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#start(...args).endWithin(hourMsMax)
    if (code !== 0) this.#fault(`${args.join(' ')} ended with ${code}: ${stderr.slice(-1000)}`)
    return stdout
  }

  /** Waits for what has ended to be gone, and only so long: what stays is seen in the figures. */
  async #agentsAtRest(): Promise<Record<string, Usage>> {
    const rest = this.#report.hours[0]?.agents
    // Nothing to compare with in the first hour.
    if (rest === undefined) await delay(firstRestMs)
    const deadlineMs = performance.now() + restMsMax
    for (;;) {
      const usage = this.#fleet.usage()
      const isAtRest = Object.entries(usage).every(
        ([name, { descriptors }]) => rest === undefined || descriptors <= rest[name]!.descriptors,
      )
      if (isAtRest || performance.now() > deadlineMs) return usage
      await delay(watchMs)
    }
  }

  #repository(): Pick<Hour, 'catalogBytes' | 'archives' | 'trashed' | 'repositoryBytes'> {
    const { repository } = this.#site
    const bytesOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0
    const filesIn = (folder: string) =>
      this.#fleet.hosts.flatMap(({ name }) => {
        const path = join(repository, folder, name)
        return statSync(path, { throwIfNoEntry: false })
          ? readdirSync(path).map((file) => join(path, file))
          : []
      })
    const [archives, trashed] = [filesIn('archives'), filesIn('trash')]
    return {
      catalogBytes:
        bytesOf(join(repository, 'catalog.sqlite')) + bytesOf(join(repository, 'catalog.sqlite-wal')),
      archives: archives.length,
      trashed: trashed.length,
      repositoryBytes: [...archives, ...trashed].reduce((sum, path) => sum + bytesOf(path), 0),
    }
  }

  #fault(text: string): void {
    const fault = `hour ${this.#hour}: ${text}`
    this.#report.faults.push(fault)
    this.#options.onLine?.(fault)
  }
}

async function highestUntilEnd(program: Program): Promise<Usage> {
  let most = noUsage
  const timer = setInterval(() => {
    const usage = program.running ? usageOf(program.pid) : null
    if (usage !== null) most = highest(most, usage)
  }, watchMs)
  await program.endWithin(hourMsMax).finally(() => clearInterval(timer))
  return most
}

/** Growth that this much explains: heaps that breathe, buffers that were never as full before. */
const breathingBytes = 48 * 1024 * 1024
const breathingShare = 1.25

/** What grows from the middle of the day to its end. A day that is too short has no middle. */
export function growthFaults({ hours, agents, kept, runsPerFull }: LoadReport): string[] {
  const faults: string[] = []
  const last = hours.at(-1)!
  const bound = agents * (kept + 2 * runsPerFull + 2)
  if (last.archives + last.trashed > bound)
    faults.push(`the repository has ${last.archives + last.trashed} files, more than ${bound}`)
  const half = Math.floor(hours.length / 2)
  const [middle, end] = [hours.slice(half - 2, half + 1), hours.slice(-3)]
  if (hours.length < 6) return faults
  const compare = (what: string, of: (hour: Hour) => number | undefined, spare: number) => {
    const most = (some: readonly Hour[]) => Math.max(...some.map((hour) => of(hour) ?? 0))
    const [before, after] = [most(middle), most(end)]
    if (after > before * breathingShare + spare) faults.push(`${what} grew from ${before} to ${after}`)
  }
  compare('memory of the server', ({ server }) => server.peakBytes, breathingBytes)
  compare('descriptors of the server', ({ server }) => server.descriptors, 8)
  compare('the catalog', ({ catalogBytes }) => catalogBytes, 1024 * 1024)
  for (const name of Object.keys(last.agents)) {
    compare(`memory of ${name}`, (hour) => hour.agents[name]?.residentBytes, breathingBytes)
    compare(`descriptors of ${name}`, (hour) => hour.agents[name]?.descriptors, 0)
    compare(`threads of ${name}`, (hour) => hour.agents[name]?.threads, 2)
  }
  return faults
}
