/**
 * Many hosts of one site: most of their agents live in few processes, as each is the whole agent but for the process; some
 * are real processes.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadConfiguration } from '../../packages/central-server/src/config/load.ts'
import { applyAddHost, planAddHost } from '../../packages/central-server/src/jobs/add-host.ts'
import { readBundle } from '../../packages/host-agent/src/bundle.ts'
import { initialize } from '../../packages/host-agent/src/init.ts'
import { type Site, TestHost } from '../harness/site.ts'
import { type Usage, usageOf } from './usage.ts'

/** Agents of one process. */
const agentsPerProcess = 50

const listenMsMax = 120_000

/** What an agent's settings have beside what `init` wrote: one compressor thread, as all share two cores. */
const limits = '[limits]\ncompress_threads = 1\ncpu_nice = 0'

/** A process with one or many agents. */
interface AgentProcess {
  name: string
  pid: number
}

export class Fleet implements AsyncDisposable {
  readonly site: Site
  readonly hosts: TestHost[] = []
  /** Those of `hosts` whose agents are processes of their own. */
  readonly real: ReadonlySet<TestHost>
  readonly #ports = new Map<string, number>()
  readonly #groups: { name: string; child: ChildProcess }[] = []

  private constructor(site: Site, hosts: TestHost[], real: number) {
    this.site = site
    this.hosts = hosts
    this.real = new Set(hosts.slice(0, real))
  }

  /** Adds so many hosts to the site, the first `real` of which get processes of their own, and starts all agents. */
  static async start(site: Site, count: number, real: number): Promise<Fleet> {
    const { settings } = await loadConfiguration(site.home)
    const hosts: TestHost[] = []
    for (let number = 1; number <= count; number++) {
      const host = new TestHost(site, `host${String(number).padStart(3, '0')}`)
      const request = { name: host.name, address: '127.0.0.1', port: 7911, bundle: host.bundle }
      const plan = await planAddHost(settings, { ...request, paths: [site.tree(host.name)], exclude: [] })
      await applyAddHost(plan, Date.now())
      const { bundle } = await readBundle(host.bundle)
      await initialize(bundle, { settingsFile: host.config, force: false, listen: '127.0.0.1:0' })
      host.configure((text) => `${text}\n${limits}\n`)
      hosts.push(host)
    }
    const fleet = new Fleet(site, hosts, real)
    try {
      await fleet.#startAgents()
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Where the agent of a host listens. */
  portOf(host: TestHost): number {
    return this.real.has(host) ? host.port : this.#ports.get(host.name)!
  }

  get processes(): AgentProcess[] {
    return [
      ...this.#groups.map(({ name, child }) => ({ name, pid: child.pid! })),
      ...[...this.real].map((host) => ({ name: host.name, pid: host.agent.pid })),
    ]
  }

  /** By name of the process. Fails where one is gone that should be there. */
  usage(): Record<string, Usage> {
    const usages = this.processes.map(({ name, pid }): [string, Usage] => {
      const usage = usageOf(pid)
      if (usage === null) throw new Error(`the agent process ${name} is gone`)
      return [name, usage]
    })
    return Object.fromEntries(usages)
  }

  /** Ends the agents of the groups; the site ends its own. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#groups.map(async ({ child }) => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      }),
    )
  }

  async #startAgents(): Promise<void> {
    const shared = this.hosts.filter((host) => !this.real.has(host))
    for (let from = 0; from < shared.length; from += agentsPerProcess) {
      await this.#startGroup(shared.slice(from, from + agentsPerProcess), this.#groups.length + 1)
    }
    for (const host of this.real) await host.start()
  }

  async #startGroup(hosts: readonly TestHost[], number: number): Promise<void> {
    for (const host of hosts) {
      const log = join(host.folder, 'agent.log')
      host.configure((text) => `${text}\n[log]\nfile = ${JSON.stringify(log)}\n`)
    }
    const name = `agents ${number} (${hosts.length})`
    const list = this.site.at(`agents-${number}.json`)
    writeFileSync(list, JSON.stringify(hosts.map(({ config }) => config)))
    const errors = openSync(this.site.at(`agents-${number}.stderr`), 'a')
    const child = fork(join(import.meta.dirname, 'many-agents.ts'), [list], {
      stdio: ['ignore', 'ignore', errors, 'ipc'],
    })
    closeSync(errors)
    this.#groups.push({ name, child })
    const signal = AbortSignal.timeout(listenMsMax)
    const ended = once(child, 'exit', { signal }).then(() => {
      throw new Error(`${name} ended: see ${this.site.at(`agents-${number}.stderr`)}`)
    })
    const [ports] = await Promise.race([once(child, 'message', { signal }), ended])
    ended.catch(() => {})
    for (const host of hosts) {
      this.#ports.set(host.name, ports[host.name])
      host.setPort(ports[host.name])
    }
  }
}
