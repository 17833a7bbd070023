/**
 * A small installation that every fault finds in the same state: a server, a host with its agent behind a proxy, and what
 * runs have left that were good. What is known of it is what was reported, and how the tree stood then.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Mount } from '../harness/mount.ts'
import { type Program, runCommand, type StartOptions } from '../harness/program.ts'
import { BreakingProxy } from '../harness/proxy.ts'
import { type Said, Site, type TestHost } from '../harness/site.ts'
import { linesOf, readSnapshot, type Snapshot } from '../harness/snapshot.ts'
import { noise, prose, writeTree } from '../harness/tree.ts'
import { tracedProcess } from './steps.ts'

/** How long something may go on that has to end by itself. */
export const endMsMax = 120_000

/** How long a server may wait for an agent of which it hears nothing: `finishedMsMax`, the longest of its deadlines, and more. */
export const silenceMsMax = 330_000

export const copiesKept = 2
export const runsKept = 2

export class Scene implements AsyncDisposable {
  readonly site: Site
  readonly host: TestHost
  readonly proxy: BreakingProxy
  /** The file system that all data is on, where it is one of its own. */
  readonly mount: Mount | null
  /** Repository, local copies and target of restores are below it. */
  readonly data: string
  /** How the tree stood at each run that was reported good, by the name of its archive, the oldest first. */
  readonly good = new Map<string, Snapshot>()
  /** Descriptors of the agent while it only waits. */
  #idleDescriptors = 0
  #saved: Map<string, Snapshot> = new Map()

  private constructor(site: Site, host: TestHost, proxy: BreakingProxy, mount: Mount | null, data: string) {
    this.site = site
    this.host = host
    this.proxy = proxy
    this.mount = mount
    this.data = data
  }

  /** Disposes of `mount`, too. */
  static async create(mount: Mount | null = null): Promise<Scene> {
    const data = mount?.path ?? mkdtempSync(join(tmpdir(), 'central-backup-faults-'))
    const settings = `connection: { attempts: 1 }, prune: 'by-hand', trash: '1 second',`
    const site = await Site.create({ repository: join(data, 'repository'), settings })
    const copies = `[local_copy]\ndirectory = ${JSON.stringify(join(data, 'copies'))}\nkeep = ${copiesKept}\nkeep_days = 0\nmin_free_percent = 0\n`
    // An agent that steps back for others makes a busy machine wait.
    const limits = '[limits]\ncpu_nice = 0\nruns_per_hour = 3600\n'
    const host = await site.addHost('web1', { settings: copies + limits })
    host.configure((text) =>
      text.replace('read = ["/"]', `read = ["/"]\nrestore = [${JSON.stringify(join(data, 'target'))}]`),
    )
    host.changeModule((text) => text.replace(/ {2}paths:/, `  retention: { last: ${runsKept} },\n  paths:`))
    mkdirSync(site.at('tmp'))
    mkdirSync(join(data, 'target'), { mode: 0o700 })
    const proxy = await BreakingProxy.start(0)
    host.setPort(proxy.port)
    const scene = new Scene(site, host, proxy, mount, data)
    await scene.startAgent()
    return scene
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.proxy[Symbol.dispose]()
    await this.site[Symbol.asyncDispose]()
    if (this.mount === null) rmSync(this.data, { recursive: true, force: true })
    else this.mount[Symbol.dispose]()
  }

  get target(): string {
    return join(this.data, 'target')
  }

  get copies(): string {
    return join(this.data, 'copies')
  }

  /** Where `backup-server restore` puts the tree. */
  get restored(): string {
    return join(this.target, this.tree)
  }

  get tree(): string {
    return this.site.tree('web1')
  }

  async startAgent(options: StartOptions = {}): Promise<Program> {
    const env = { TMPDIR: this.site.at('tmp'), ...options.env }
    const agent = await this.host.start({ ...options, env, keepModule: true })
    this.proxy.targetPort = this.host.port
    return agent
  }

  /** After a strike that went wrong: ends the agent, as the next reset starts another, and mounts the disk anew. */
  async mend(): Promise<void> {
    if (this.host.isRunning) {
      const traced = tracedProcess(this.host.agent.pid)
      if (traced !== null) process.kill(traced, 'SIGKILL')
      await this.host.stop('SIGKILL')
    }
    this.mount?.restore()
  }

  startServer(args: readonly string[], options: StartOptions = {}): Program {
    return this.site.startServer(args, { ...options, env: { TMPDIR: this.site.at('tmp'), ...options.env } })
  }

  /** backup-server in this process, which is quicker: for what is only looked at. Never throws. */
  ask(...args: string[]): Promise<Said> {
    return this.site.ask(...args)
  }

  /** A run in which nothing strikes. */
  async backUp(...options: string[]): Promise<void> {
    const standing = readSnapshot(this.tree)
    const { code, json, stdout, stderr } = await this.ask('run', '--json', ...options)
    assert.equal(code, 0, stdout + stderr)
    const end = json.find(({ event }) => event === 'end') as unknown as { archive: { name: string } }
    this.good.set(end.archive.name, standing)
  }

  /** A few files of each kind, some of which are larger than a frame. */
  fillTree(): void {
    const files: Record<string, string | Buffer> = {
      'large/noise': noise(900_000, 'noise'),
      'large/prose': prose(5_000_000, 'prose'),
      'large/more': noise(400_000, 'more'),
      'empty/nothing': '',
    }
    for (let index = 0; index < 18; index++)
      files[`small/${index % 3}/file-${index}`] = prose(index * 700, `file ${index}`)
    writeTree(this.tree, files)
    const names = join(this.tree, 'names')
    mkdirSync(names)
    symlinkSync('../large/prose', join(names, 'link'))
    linkSync(join(this.tree, 'small/2/file-17'), join(names, 'second name'))
    execFileSync('mkfifo', [join(names, 'fifo')])
  }

  /** Replaces most files, removes and adds some. */
  changeTree(round: number): void {
    const files: Record<string, string | Buffer> = {
      'large/noise': noise(500_000, `noise ${round}`),
      'large/prose': prose(4_500_000, `prose ${round}`),
      [`added/${round}`]: noise(20_000, `added ${round}`),
    }
    for (let index = 0; index < 12; index++)
      files[`small/${index % 3}/file-${index}`] = prose(index * 500, `file ${index} of ${round}`)
    writeTree(this.tree, files)
    rmSync(join(this.tree, `small/0/file-${12 + 3 * (round % 2)}`), { force: true })
    rmSync(join(this.tree, `added/${round - 2}`), { force: true })
  }

  /** Nothing was ever backed up or restored, and there is nothing to be. */
  async clear(): Promise<void> {
    const { repository } = this.site
    const made = readNames(repository).filter((name) => name !== 'central-backup.json')
    for (const path of [...made.map((name) => join(repository, name)), this.copies, this.target, this.tree])
      rmSync(path, { recursive: true, force: true })
    mkdirSync(join(repository, 'archives'), { mode: 0o700 })
    mkdirSync(this.target, { mode: 0o700 })
    rmSync(this.site.at('saved'), { recursive: true, force: true })
    this.good.clear()
    if (!this.host.isRunning) await this.startAgent()
  }

  /** What is there now is what every fault finds from here on. */
  async save(): Promise<void> {
    await run('cp', '-a', this.data, this.site.at('saved'))
    this.#saved = new Map(this.good)
    assert.ok(await comesTrue(() => this.agentIsIdle), 'the agent does not come to rest')
    // Threads that were at work may still have some open, so that this is rather too much.
    this.#idleDescriptors = this.#agentDescriptors() + 8
  }

  async reset(): Promise<void> {
    rmSync(this.site.at('tmp'), { recursive: true, force: true })
    mkdirSync(this.site.at('tmp'))
    for (const name of readdirSync(this.data))
      if (name !== 'lost+found') await run('rm', '-rf', join(this.data, name))
    const saved = this.site.at('saved')
    const names = readdirSync(saved).filter((name) => name !== 'lost+found')
    await run('cp', '-a', ...names.map((name) => join(saved, name)), this.data)
    if (this.mount !== null) await run('sync', '-f', this.data)
    this.good.clear()
    for (const [name, standing] of this.#saved) this.good.set(name, standing)
    if (!this.host.isRunning) await this.startAgent()
    this.proxy.disarm()
  }

  /** Whether the agent has ended what it was at. */
  get agentIsIdle(): boolean {
    const { log } = this.host.agent
    const sessionsOf = (message: RegExp) =>
      log.filter(({ msg }) => message.test(msg ?? '')).map(({ session }) => session)
    const ended = new Set(sessionsOf(/^session (ended|failed)/))
    return sessionsOf(/^session began/).every((session) => ended.has(session))
  }

  /** Whether the agent has as few open files as when it had done what it does for the first time. */
  get agentHoldsLittle(): boolean {
    return this.#idleDescriptors === 0 || this.#agentDescriptors() <= this.#idleDescriptors
  }

  /** What the agent has open, for people. */
  agentOpen(): string[] {
    const folder = `/proc/${this.host.agent.pid}/fd`
    return readNames(folder).map((name) => {
      try {
        return readlinkSync(join(folder, name))
      } catch {
        return 'closed'
      }
    })
  }

  /** Processes whose arguments name this scene, but for the agent: their ids and arguments. */
  otherProcesses(): string[] {
    const own = [process.pid, this.host.isRunning ? this.host.agent.pid : 0]
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && !own.includes(Number(name)))
      .map((name) => `${name} ${argumentsOf(Number(name)).replaceAll('\0', ' ')}`)
      .filter((line) => line.includes(this.site.folder))
  }

  #agentDescriptors(): number {
    return readNames(`/proc/${this.host.agent.pid}/fd`).length
  }
}

/** The lines by which what was restored is compared with what stood. */
export function treeLines(root: string): string[] {
  return existsSync(root) ? linesOf(readSnapshot(root)) : []
}

/** Resolves to whether `holds` came true in time. */
export async function comesTrue(holds: () => boolean, ms = endMsMax): Promise<boolean> {
  const deadlineMs = performance.now() + ms
  while (!holds()) {
    if (performance.now() > deadlineMs) return false
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return true
}

export function readNames(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function argumentsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It has ended meanwhile.
    return ''
  }
}

async function run(...command: string[]): Promise<void> {
  const { code, stderr } = await runCommand(command)
  assert.equal(code, 0, `${command.join(' ')}: ${stderr}`)
}
