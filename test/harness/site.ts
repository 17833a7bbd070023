/**
 * A whole installation in a temporary folder: a server with its home, its CA and its repository, and hosts with their
 * agents on ports of loopback that the system chose. Made as a person would, by the commands of the programs, but in this
 * process, which is quicker.
 */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import argon2 from 'argon2'
import { runProgram as runServer } from '../../packages/central-server/src/cli/program.ts'
import { runProgram as runAgent } from '../../packages/host-agent/src/cli.ts'
import {
  type Ended,
  type JsonLine,
  jsonLines,
  type Program,
  patienceMs,
  runCommand,
  type StartOptions,
  startAgent,
  startServer,
} from './program.ts'

// Modules of hosts that the group may write to are refused: nothing may depend on who runs the tests.
process.umask(0o022)

export interface SiteOptions {
  /** Fields of settings.ts beside `repository`, as TypeScript. */
  settings?: string
  /** Where the repository is, in place of a folder of its own: a mount of the test. */
  repository?: string
}

export interface HostOptions {
  paths?: readonly string[]
  exclude?: readonly string[]
  /** Lines of TOML that come after what `init` has written. */
  settings?: string
  /** Sets no agent up: another one takes its place. */
  withoutAgent?: boolean
  /** Leaves the hash of the password as `init` made it: for what is about its costs. */
  costlyPassword?: boolean
}

/** What a command said that ran in this process. */
export interface Said {
  code: number
  stdout: string
  stderr: string
  /** The lines of standard output that are JSON objects. */
  json: JsonLine[]
}

/** What `run --json` said of one host in the end. */
export interface HostEnd {
  run: number | null
  kind: string
  outcome: string
  startedAtMs: number
  finishedAtMs: number
  error: { code: string; message: string; hint?: string } | null
  archive: { name: string; bytes: number; digest: string } | null
  counts: Record<string, number>
  contentBytes: number
  warningCount: number
  localCopy: { kept: boolean; name: string; error?: string } | null
}

export interface RunEnded extends Ended {
  /** By host. */
  ends: Record<string, HostEnd>
  warnings: JsonLine[]
}

export class Site implements AsyncDisposable {
  readonly folder: string
  readonly home: string
  readonly repository: string
  readonly hosts: TestHost[] = []
  readonly #programs: Program[] = []

  private constructor(folder: string, repository: string | undefined) {
    this.folder = folder
    this.home = join(folder, 'server')
    this.repository = repository ?? join(folder, 'repository')
  }

  /** A server without hosts. One attempt to reach a host is made unless `settings` say otherwise. */
  static async create(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(mkdtempSync(join(tmpdir(), 'central-backup-test-')), options.repository)
    try {
      const made = await site.ask('-q', 'init', '--repository', site.repository)
      assert.equal(made.code, 0, made.stderr)
      site.configure(options.settings ?? `connection: { attempts: 1 },`)
      return site
    } catch (error) {
      await site[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A path in the temporary folder. */
  at(...parts: string[]): string {
    return join(this.folder, ...parts)
  }

  /** Writes settings.ts anew: the repository, and `fields`. */
  configure(fields: string): void {
    const text = `export default {\n  repository: ${JSON.stringify(this.repository)},\n  ${fields}\n}\n`
    writeFileSync(join(this.home, 'settings.ts'), text)
  }

  /** Adds a host and sets its agent up, which is not started yet. */
  async addHost(name: string, options: HostOptions = {}): Promise<TestHost> {
    const { paths = [this.tree(name)], exclude = [], settings = '', withoutAgent, costlyPassword } = options
    const selection = [
      ...paths.flatMap((path) => ['--path', path]),
      ...exclude.flatMap((pattern) => ['--exclude', pattern]),
    ]
    const host = new TestHost(this, name)
    const address = ['--address', '127.0.0.1:7911', '--bundle', host.bundle]
    const added = await this.ask('-q', 'host', 'add', name, ...address, ...selection)
    assert.equal(added.code, 0, added.stderr)
    if (!withoutAgent) await host.init(settings)
    if (!withoutAgent && !costlyPassword) await host.cheapenPassword()
    this.hosts.push(host)
    return host
  }

  /** A folder to be backed up, made where it is not there. */
  tree(name = 'tree'): string {
    const path = this.at('trees', name)
    mkdirSync(path, { recursive: true })
    return path
  }

  /** backup-server with this home, on its way. It is killed with the site, if it is still there. */
  startServer(args: readonly string[], options: StartOptions = {}): Program {
    return this.#follow(startServer(['--home', this.home, ...args], options))
  }

  /** backup-server with this home, to its end. */
  server(...args: string[]): Promise<Ended> {
    return this.startServer(args).endWithin(patienceMs)
  }

  /**
   * The same in this process, which is quicker: for what is only looked at, many times over. Nothing that others start or
   * kill, and nothing that is measured. Never throws.
   */
  async ask(...args: string[]): Promise<Said> {
    return askServer('--home', this.home, ...args)
  }

  /** `run --json`, to its end. */
  async run(...args: string[]): Promise<RunEnded> {
    return readRun(await this.server('run', '--json', ...args))
  }

  /** backup-host, on its way, and killed with the site. */
  startAgent(args: readonly string[], options: StartOptions = {}): Program {
    return this.#follow(startAgent(args, options))
  }

  /** Names of all files in the repository's folder of a host, sorted. */
  files(host: string): string[] {
    try {
      return readdirSync(join(this.repository, 'archives', host)).sort()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  }

  /** Paths of the archives of a host, oldest first. */
  archives(host: string): string[] {
    const names = this.files(host).filter((name) => !name.endsWith('.partial'))
    return names.map((name) => join(this.repository, 'archives', host, name))
  }

  partials(host: string): string[] {
    return this.files(host).filter((name) => name.endsWith('.partial'))
  }

  /** The lines of the server's log. */
  serverLog(): JsonLine[] {
    const text = readFileSync(join(this.repository, 'backup-server.log'), 'utf8')
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as JsonLine)
  }

  /** Kills what still runs and removes all that was made. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program[Symbol.asyncDispose]()))
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 })
  }

  #follow(program: Program): Program {
    this.#programs.push(program)
    return program
  }
}

/** What `run --json` printed. */
export function readRun(ended: Ended): RunEnded {
  const ends = ended.json.filter(({ event }) => event === 'end')
  return {
    ...ended,
    ends: Object.fromEntries(ends.map((line) => [line.host!, line as unknown as HostEnd])),
    warnings: ended.json.filter(({ event }) => event === 'warning'),
  }
}

/** A host of a site, and its agent where that was started. */
export class TestHost {
  readonly site: Site
  readonly name: string
  /** The agent's folder: settings, key, certificates. */
  readonly folder: string
  readonly config: string
  /** The host module of the server. */
  readonly module: string
  /** Where the server finds the password. */
  readonly secret: string
  /** What `host add` made for the host. */
  readonly bundle: string
  #agent: Program | null = null
  #port = 0

  constructor(site: Site, name: string) {
    this.site = site
    this.name = name
    this.folder = site.at('hosts', name)
    this.config = join(this.folder, 'backup-host.toml')
    this.module = join(site.home, 'hosts', `${name}.ts`)
    this.secret = join(site.home, 'secrets', name)
    this.bundle = site.at(`${name}.bundle.json`)
  }

  get agent(): Program {
    assert.ok(this.#agent, `the agent of ${this.name} was not started`)
    return this.#agent
  }

  get isRunning(): boolean {
    return this.#agent?.running ?? false
  }

  /** Where the agent listens. */
  get port(): number {
    return this.#port
  }

  /** Sets the agent up from the bundle, on a port that the system will choose. */
  async init(settings = ''): Promise<void> {
    const made = await askAgent('--config', this.config, 'init', '--bundle', this.bundle)
    assert.equal(made.code, 0, made.stderr)
    this.configure((text) => `${text.replace(/^listen = .*$/m, 'listen = "127.0.0.1:0"')}\n${settings}\n`)
  }

  /** Replaces the hash of the password by one that is as cheap to verify as the settings allow: tests log in often. */
  async cheapenPassword(): Promise<void> {
    const password = readFileSync(this.secret, 'utf8').trim()
    const hash = await argon2.hash(password, { memoryCost: 7168, timeCost: 1, parallelism: 1 })
    this.configure((text) => text.replace(/^password_hash = .*$/m, `password_hash = ${JSON.stringify(hash)}`))
  }

  /** Changes the agent's settings file. */
  configure(change: (text: string) => string): void {
    writeFileSync(this.config, change(readFileSync(this.config, 'utf8')), { mode: 0o600 })
  }

  /** Changes the host module of the server. */
  changeModule(change: (text: string) => string): void {
    writeFileSync(this.module, change(readFileSync(this.module, 'utf8')))
  }

  /** Where the server dials. */
  setPort(port: number): void {
    this.changeModule((text) => text.replace(/port: \d+/, `port: ${port}`))
  }

  /**
   * Starts the agent and waits until it listens. The host module gets its port, unless `keepModule` says that the server
   * is to go on dialing where it did, as through a proxy.
   */
  async start(options: StartOptions & { keepModule?: boolean } = {}): Promise<Program> {
    assert.ok(!this.isRunning, `the agent of ${this.name} runs already`)
    const agent = this.site.startAgent(['--config', this.config], options)
    this.#agent = agent
    this.#port = await agent.until(() => {
      const listens = agent.log.find(({ msg }) => msg?.includes(' listens on '))
      return listens && Number(/:(\d+)$/.exec(listens.msg!)![1])
    }, 'listening')
    if (!options.keepModule) this.setPort(this.#port)
    return agent
  }

  /** Ends the agent and waits for it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.agent.kill(signal)
    return this.agent.endWithin(patienceMs)
  }
}

/** `system('strace')`: a reason to skip a test where the machine has no such program, or `false`. */
export async function lacksProgram(name: string): Promise<string | false> {
  const { code } = await runCommand(['sh', '-c', `command -v ${name}`])
  return code === 0 ? false : `this machine has no ${name}`
}

async function askServer(...args: string[]): Promise<Said> {
  const said = { stdout: '', stderr: '' }
  const code = await runServer(args, { ...surroundings(said), environment: {} })
  return { code, ...said, json: jsonLines(said.stdout) }
}

async function askAgent(...args: string[]): Promise<Said> {
  const said = { stdout: '', stderr: '' }
  const stdin = Readable.from([]) as unknown as NodeJS.ReadStream
  const code = await runAgent(args, { ...surroundings(said), stdin })
  return { code, ...said, json: jsonLines(said.stdout) }
}

function surroundings(said: { stdout: string; stderr: string }) {
  return {
    workingDirectory: '/nonexistent',
    uid: process.geteuid!(),
    now: Date.now,
    stdout: { write: (text: string) => (said.stdout += text) },
    stderr: { write: (text: string) => (said.stderr += text) },
  }
}
