/**
 * Random histories of a tree and of its backups, with the real programs: what was there at any run comes back exactly,
 * whatever happened before and after it. CENTRAL_BACKUP_HISTORIES=20 makes more of them, from the seed
 * CENTRAL_BACKUP_HISTORY_SEED on; a failure names the seed and tells the history.
 */
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, test } from 'node:test'
import { Mutator } from './harness/mutate.ts'
import { runCommand } from './harness/program.ts'
import { BreakingProxy } from './harness/proxy.ts'
import { Random } from './harness/random.ts'
import { Site, type TestHost } from './harness/site.ts'
import { linesOf, listingOf, readSnapshot, type Snapshot } from './harness/snapshot.ts'
import { noise } from './harness/tree.ts'

const histories = Number(process.env.CENTRAL_BACKUP_HISTORIES ?? 3)
const firstSeed = Number(process.env.CENTRAL_BACKUP_HISTORY_SEED ?? 1)
const steps = 12
const momentsChecked = 3

/** What is left out, by patterns of names and as the model has it. */
const exclusions = [
  { patterns: [], leavesOut: () => false },
  { patterns: ['skip*'], leavesOut: (name: string) => name.startsWith('skip') },
  {
    patterns: ['*.tmp', 'a'],
    leavesOut: (name: string) => name.endsWith('.tmp') || name === 'a',
  },
]

const runsKept = 3

const noStrace = (await runCommand(['strace', '-o', '/dev/null', 'true'])).code !== 0

/** Of a file that the line breaks in: a batch of the index comes before its end. */
const largeBytes = 12 * 1024 * 1024

/** A run that can be seen. */
interface ListedRun {
  id: number
  startedAtMs: number
  kind: string
  outcome: string
  archive: { name: string } | null
}

class History {
  readonly #site: Site
  readonly #host: TestHost
  readonly #proxy: BreakingProxy
  readonly #root: string
  readonly #random: Random
  readonly #mutator: Mutator
  #exclusion = exclusions[0]!
  /** What stood at each run, by the archive that it left, the oldest first. */
  readonly #model = new Map<string, Snapshot>()
  /** How many archives were merged into others. */
  merged = 0
  /** The archives whose runs can be seen. */
  #visible: string[] = []

  constructor(site: Site, host: TestHost, proxy: BreakingProxy, root: string, random: Random) {
    this.#proxy = proxy
    this.#site = site
    this.#host = host
    this.#root = root
    this.#random = random
    this.#mutator = new Mutator(root, random)
  }

  get log(): string {
    return this.#mutator.log.join('\n')
  }

  async live(): Promise<void> {
    this.#mutator.change(25)
    await this.#run()
    for (let step = 1; step < steps; step++) {
      // Now and then so much that little is left of what was.
      this.#mutator.change(this.#random.chance(0.25) ? 60 : this.#random.below(7))
      const dice = this.#random.next()
      if (dice < 0.16) await this.#prune()
      else if (dice < 0.22) await this.#rebuild()
      else if (dice < 0.28) await this.#run('--full')
      else if (dice < 0.42) await this.#breakRun()
      else {
        if (dice < 0.54) this.#exclude(this.#random.of(exclusions))
        await this.#run()
      }
      await this.#checkRestore(this.#random.of(this.#whole(await this.#runs())))
    }
    this.#mutator.change(3)
    await this.#run()
    await this.#prune()
  }

  /** Compares random moments, and the newest, with what is remembered of them. */
  async check(): Promise<void> {
    const runs = await this.#runs()
    const whole = this.#whole(runs)
    const moments = [whole.at(-1)!]
    while (moments.length < momentsChecked) moments.push(this.#random.of(whole))
    for (const run of new Set(moments)) {
      await this.#checkListing(run)
      await this.#checkRestore(run)
    }
    const verified = await this.#server('verify')
    assert.match(verified, /all is well/)
  }

  async #run(...options: string[]): Promise<void> {
    const snapshot = readSnapshot(this.#root, this.#exclusion.leavesOut)
    const { code, ends, stderr } = await this.#site.run(...options)
    const end = ends.web1!
    assert.equal(end?.outcome, 'complete', stderr)
    assert.equal(code, 0)
    const { name } = end.archive!
    const kind = options.includes('--full') || this.#model.size === 0 ? 'full' : 'incremental'
    assert.equal(end.kind, kind)
    this.#mutator.log.push(`run ${end.run}: ${name}`)
    this.#model.set(name, snapshot)
    this.#visible.push(name)
  }

  /** The line breaks while a file is sent that is removed again: what came before it is kept. */
  async #breakRun(): Promise<void> {
    const large = `${this.#root}/zz-large`
    writeFileSync(large, noise(largeBytes, `large ${this.#random.below(1000)}`))
    const snapshot = readSnapshot(this.#root, this.#exclusion.leavesOut)
    const afterBytes = this.#random.below(largeBytes)
    void this.#proxy.arm({ direction: 'fromAgent', afterBytes, what: 'cut' })
    const { ends, stderr } = await this.#site.run()
    this.#proxy.disarm()
    rmSync(large)
    const { outcome, archive } = ends.web1!
    this.#mutator.log.push(`broken run after ${afterBytes} bytes: ${outcome} ${archive?.name}`)
    assert.notEqual(outcome, 'complete-with-changes', stderr)
    if (archive === null) return
    if (outcome === 'complete') this.#model.set(archive.name, snapshot)
    this.#visible.push(archive.name)
  }

  /** Of broken runs it is not known what they have. */
  #whole(runs: readonly ListedRun[]): ListedRun[] {
    return runs.filter(({ archive }) => this.#model.has(archive!.name))
  }

  async #prune(): Promise<void> {
    this.#mutator.log.push('prune')
    const prune = async () => {
      const printed = await this.#server('prune', '--json')
      const { repacked } = JSON.parse(printed) as { repacked: { absorbed: string[] }[] }
      if (repacked.length === 0) return
      const absorbed = repacked.flatMap((one) => one.absorbed).length
      this.merged += absorbed
      this.#mutator.log.push(
        `${absorbed} archives merged into others`,
        `${repacked.length} archives packed anew`,
      )
    }
    await prune()
    const kept = this.#visible.filter((name) => this.#model.has(name)).slice(-runsKept)
    const lastGood = this.#visible.indexOf(kept.at(-1)!)
    this.#visible = this.#visible.filter((name, place) => kept.includes(name) || place > lastGood)
    await this.#runs()
    // By now what was removed has been in the trash for its time.
    await this.#server('verify')
    if (this.#random.chance(0.4)) await this.#killPrune()
    await prune()
    await this.#runs()
  }

  /** What it has begun is finished by the next one, or has not happened. */
  async #killPrune(): Promise<void> {
    if (noStrace) return
    const calls = this.#random.of(['rename', 'unlink', 'fsync'])
    const inject = `inject=${calls}:signal=KILL:when=${1 + this.#random.below(3)}`
    const wrapper = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${calls}`, '-e', inject]
    const env = { NODE_DISABLE_COMPILE_CACHE: '1', UV_THREADPOOL_SIZE: '1' }
    const { code, signal } = await this.#site
      .startServer(['prune', '--json'], { wrapper, env })
      .endWithin(60_000)
    this.#mutator.log.push(`prune was to be killed by ${inject}: ${signal ?? code}`)
    // It may have packed archives anew, and told nobody.
    if (signal !== null) this.#mutator.log.push('archives may be packed anew')
    await this.#runs()
  }

  /** Runs that were removed, but whose archives others need, are seen again, as long as none of these was packed anew. */
  async #rebuild(): Promise<void> {
    this.#mutator.log.push('catalog rebuild')
    await this.#server('catalog', 'rebuild')
    const seenBefore = this.#visible
    this.#visible = (await this.#list()).map(({ archive }) => archive!.name)
    assert.deepEqual(
      seenBefore.filter((name) => !this.#visible.includes(name)),
      [],
    )
    if (!this.#mutator.log.some((line) => line.endsWith('packed anew'))) {
      const archives = this.#site.archives('web1').map((path) => basename(path))
      assert.deepEqual(this.#visible, archives)
    }
  }

  #exclude(exclusion: (typeof exclusions)[number]): void {
    this.#exclusion = exclusion
    this.#mutator.log.push(`exclude ${exclusion.patterns}`)
    this.#host.changeModule((text) =>
      text.replace(/exclude: .*,\n/, `exclude: ${JSON.stringify(exclusion.patterns)},\n`),
    )
  }

  /** The runs that can be seen, which are those that should be, the oldest first. */
  async #runs(): Promise<ListedRun[]> {
    const runs = await this.#list()
    assert.deepEqual(
      runs.map(({ archive }) => archive!.name),
      this.#visible,
    )
    return runs
  }

  async #list(): Promise<ListedRun[]> {
    const { runs } = JSON.parse(await this.#server('--json', 'list', 'web1')) as { runs: ListedRun[] }
    return runs.filter(({ archive }) => archive !== null)
  }

  async #checkListing(run: ListedRun): Promise<void> {
    const printed = await this.#server('--json', 'ls', 'web1', this.#root, '-R', '--at', String(run.id))
    const lines = printed
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const keys = ['path', 'type', 'mode', 'uid', 'gid', 'size', 'mtime', 'target', 'digest']
    const found = lines.map((line) => Object.fromEntries(keys.map((key) => [key, line[key]])))
    // Of what was stored with its holes, no digest of the content is known.
    const sparse = new Set(lines.filter(({ storedSize }) => storedSize !== null).map(({ path }) => path))
    const expected = listingOf(this.#snapshotOf(run), this.#root).map((line) =>
      sparse.has(line.path) ? { ...line, digest: null } : line,
    )
    assert.deepEqual(found, expected, `ls of run ${run.id}`)
  }

  async #checkRestore(run: ListedRun): Promise<void> {
    const target = this.#site.at('restored')
    // A time means the newest run that had begun by then.
    const time = new Date(Math.floor(run.startedAtMs / 1000) * 1000 + 1000).toISOString()
    const at = this.#random.chance(0.5) ? String(run.id) : `${time.slice(0, 19)}Z`
    await this.#server('restore', 'web1', this.#root, '--target', target, '--at', at)
    assert.deepEqual(
      linesOf(readSnapshot(`${target}${this.#root}`)),
      linesOf(this.#snapshotOf(run)),
      `restore of run ${run.id}, by ${at}`,
    )
    rmSync(target, { recursive: true })
  }

  #snapshotOf({ archive }: ListedRun): Snapshot {
    return this.#model.get(archive!.name)!
  }

  async #server(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#site.ask(...args)
    assert.equal(code, 0, `${args.join(' ')}\n${stdout.slice(-4000)}\n${stderr.slice(-4000)}`)
    return stdout
  }
}

describe('every moment of a random history can be seen and restored', { concurrency: 2 }, () => {
  for (let seed = firstSeed; seed < firstSeed + histories; seed++) {
    test(`seed ${seed}`, async () => {
      await using site = await Site.create({
        settings: `connection: { attempts: 1 }, prune: 'by-hand', trash: '1 second',`,
      })
      const root = site.tree('web1')
      const host = await site.addHost('web1')
      host.changeModule((text) => text.replace(/ {2}paths:/, `  retention: { last: ${runsKept} },\n  paths:`))
      await host.start()
      using proxy = await BreakingProxy.start(host.port)
      host.setPort(proxy.port)
      const history = new History(site, host, proxy, root, new Random(seed))
      try {
        await history.live()
        await history.check()
      } catch (error) {
        const { message } = error as Error
        throw new Error(`seed ${seed}: ${message}\nThe history:\n${history.log}`, { cause: error })
      }
    })
  }
})
