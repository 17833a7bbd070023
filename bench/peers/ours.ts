import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Command, type Daemon, endTree, type Runner } from '../measure.ts'
import type { Tree } from '../tree.ts'
import { singleFileName } from '../tree-plan.ts'
import type { Peer, PeerSurroundings } from './peer.ts'

/** Paths of the two programs, to be run by this Node.js. */
export interface Programs {
  server: string
  agent: string
}

/** Both programs with the settings that `init` and `host add` write: an agent for each host, a server, mutual TLS on loopback. */
export class Ours implements Peer {
  readonly name = 'ours'
  readonly title = 'backup-server run, an agent, mutual TLS on loopback'
  readonly #folder: string
  readonly #runner: Runner
  readonly #programs: Programs
  readonly #sites = new Map<string, Site>()

  constructor({ folder, runner }: PeerSurroundings, programs: Programs) {
    this.#folder = folder
    this.#runner = runner
    this.#programs = programs
  }

  stateFolder(tree: Tree): string {
    return this.#site(tree).repository
  }

  daemons(tree: Tree): Daemon[] {
    return this.#sitesOf(tree).flatMap((site) => site.daemons)
  }

  async reset(tree: Tree, of?: 'parts'): Promise<void> {
    await (of === 'parts' ? this.#siteOfParts(tree) : this.#site(tree)).reset()
  }

  async leave(tree: Tree): Promise<void> {
    for (const site of this.#sitesOf(tree)) await site.stop()
    this.#sites.delete(tree.name)
    this.#sites.delete(partsOf(tree))
  }

  full(tree: Tree): Command {
    return this.#site(tree).server('-q', 'run')
  }

  incremental(tree: Tree): Command {
    return this.full(tree)
  }

  restore(tree: Tree, target: string): Command {
    return this.#site(tree).server('-q', 'restore', tree.name, '--target', target)
  }

  restoreOne(tree: Tree, target: string): Command {
    const path = join(tree.folder, tree.singleFile)
    return this.#site(tree).server('-q', 'restore', tree.name, path, '--target', target)
  }

  restoredRoot(tree: Tree, target: string): string {
    return join(target, tree.folder)
  }

  find(tree: Tree): Command {
    return this.#site(tree).server('find', singleFileName)
  }

  list(tree: Tree): Command {
    return this.#site(tree).server('ls', tree.name, tree.folder)
  }

  prune(tree: Tree): Command {
    return this.#site(tree).server('-q', 'prune')
  }

  rebuild(tree: Tree): Command {
    return this.#site(tree).server('-q', 'catalog', 'rebuild')
  }

  fullOfParts(tree: Tree): Command {
    return this.#siteOfParts(tree).server('-q', 'run')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const site of this.#sites.values()) await site.stop()
  }

  /** The one with the tree as its host. */
  #site(tree: Tree): Site {
    return this.#siteNamed(tree.name, { [tree.name]: tree.folder })
  }

  /** The one with each part of the tree as a host. */
  #siteOfParts(tree: Tree): Site {
    return this.#siteNamed(
      partsOf(tree),
      Object.fromEntries(tree.parts.map((part, index) => [`part-${index}`, part])),
    )
  }

  #siteNamed(name: string, hosts: Readonly<Record<string, string>>): Site {
    const site =
      this.#sites.get(name) ?? new Site(join(this.#folder, name), hosts, this.#runner, this.#programs)
    this.#sites.set(name, site)
    return site
  }

  #sitesOf(tree: Tree): Site[] {
    return [tree.name, partsOf(tree)].flatMap((name) => this.#sites.get(name) ?? [])
  }
}

function partsOf(tree: Tree): string {
  return `${tree.name}-parts`
}

/** A server with its home and repository, and the agents of its hosts. */
class Site {
  readonly repository: string
  readonly daemons: Daemon[] = []
  readonly #folder: string
  readonly #home: string
  /** Host → the path that is backed up. */
  readonly #hosts: Readonly<Record<string, string>>
  readonly #runner: Runner
  readonly #programs: Programs
  #stops: (() => Promise<void>)[] = []

  constructor(folder: string, hosts: Readonly<Record<string, string>>, runner: Runner, programs: Programs) {
    this.#folder = folder
    this.#home = join(folder, 'home')
    this.repository = join(folder, 'repository')
    this.#hosts = hosts
    this.#runner = runner
    this.#programs = programs
  }

  server(...args: string[]): Command {
    return { argv: [process.execPath, this.#programs.server, '--home', this.#home, ...args], name: 'server' }
  }

  /** An empty repository. The first time, also all the rest. */
  async reset(): Promise<void> {
    rmSync(this.repository, { recursive: true, force: true })
    const isNew = !existsSync(this.#home)
    mkdirSync(this.#home, { recursive: true, mode: 0o700 })
    await this.#runner.run(this.server('-q', 'init', '--repository', this.repository))
    if (!isNew) return
    this.#writeSettings()
    for (const [host, path] of Object.entries(this.#hosts)) await this.#addHost(host, path)
  }

  async stop(): Promise<void> {
    await Promise.all(this.#stops.map((stop) => stop()))
    this.#stops = []
    this.daemons.length = 0
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** One run is kept, and only `prune` removes the others. Four hosts are backed up at once by default. */
  #writeSettings(): void {
    const settings = {
      repository: this.repository,
      prune: 'by-hand',
      defaults: { retention: { last: 1 } },
    }
    writeFileSync(join(this.#home, 'settings.ts'), `export default ${JSON.stringify(settings, null, 2)}\n`)
  }

  async #addHost(host: string, path: string): Promise<void> {
    const bundle = join(this.#folder, `${host}.bundle.json`)
    const config = join(this.#folder, 'hosts', host, 'backup-host.toml')
    const address = ['--address', '127.0.0.1:7911', '--path', path, '--bundle', bundle]
    await this.#runner.run(this.server('-q', 'host', 'add', host, ...address))
    await this.#runner.run(this.#agent('--config', config, 'init', '--bundle', bundle))
    const settings = readFileSync(config, 'utf8').replace(/^listen = .*$/m, 'listen = "127.0.0.1:0"')
    writeFileSync(config, settings)
    const port = await this.#startAgent(config)
    const module = join(this.#home, 'hosts', `${host}.ts`)
    writeFileSync(module, readFileSync(module, 'utf8').replace(/port: \d+/, `port: ${port}`))
  }

  /** Resolves with the port on which it listens. */
  async #startAgent(config: string): Promise<number> {
    const agent = this.#runner.start(this.#agent('--config', config))
    const gone = new Promise<void>((resolve) => agent.once('close', () => resolve()))
    this.#stops.push(async () => {
      endTree(agent)
      await gone
    })
    const said: string[] = []
    for await (const line of createInterface({ input: agent.stderr! })) {
      said.push(line)
      const port = /listens on 127\.0\.0\.1:(\d+)/.exec(line)?.[1]
      if (port === undefined) continue
      agent.stderr!.resume()
      this.daemons.push({ name: 'agent', pid: agent.pid! })
      return Number(port)
    }
    this.#runner.signal.throwIfAborted()
    throw new Error(`the agent did not start:\n${said.join('\n')}`)
  }

  #agent(...args: string[]): Command {
    return { argv: [process.execPath, this.#programs.agent, ...args], name: 'agent' }
  }
}
