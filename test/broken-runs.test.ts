/**
 * Runs that are broken at every stage: the agent dies, the server dies, the connection breaks. After each of them nothing
 * that looks like an archive is anything but a whole one, nobody hangs, the catalog knows why, and what came is kept: the
 * next run comes through by itself, and sends only what is missing.
 */
import assert from 'node:assert/strict'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Catalog, type Run } from '../packages/central-server/src/catalog/catalog.ts'
import { requireWholeArchives } from './harness/archives.ts'
import { type Program, runCommand } from './harness/program.ts'
import { BreakingProxy, type Fault, type Passed } from './harness/proxy.ts'
import { type HostEnd, type RunEnded, readRun, Site, type TestHost } from './harness/site.ts'
import { fillTree } from './harness/tree.ts'

const treeMegabytes = 18

/** What is left of a run may take so long to end by itself, on a busy machine. */
const endMsMax = 25_000

/** When something happens, in bytes that the proxy has passed; `total` is what passes in a whole run. */
interface Point {
  name: string
  at(total: Passed): Omit<Fault, 'what'>
  /** Whether the archive is stored by then: the run is a success in that case, whatever becomes of the agent. */
  stored?: boolean | 'perhaps'
  /** Enough has come by then for an index to be among it. */
  kept?: boolean
}

const fromServer =
  (afterBytes: number): Point['at'] =>
  () => ({ direction: 'fromServer', afterBytes })
const fromAgent =
  (afterBytes: number): Point['at'] =>
  () => ({ direction: 'fromAgent', afterBytes })
const fractionOfAgent =
  (fraction: number): Point['at'] =>
  (total) => ({ direction: 'fromAgent', afterBytes: Math.floor(total.fromAgent * fraction) })
const beforeEndOfAgent =
  (bytes: number): Point['at'] =>
  (total) => ({ direction: 'fromAgent', afterBytes: total.fromAgent - bytes })

const points: Point[] = [
  { name: 'before the first byte', at: fromServer(0) },
  { name: 'within the first message of the handshake', at: fromServer(100) },
  { name: 'before the first byte of the agent', at: fromAgent(0) },
  { name: 'within the certificate of the agent', at: fromAgent(700) },
  { name: 'within the certificate of the server', at: fromServer(1000) },
  { name: 'at the end of the handshake', at: fromAgent(1800) },
  { name: 'at the password', at: fromServer(1900) },
  { name: 'at the request', at: fromServer(2150) },
  { name: 'at the welcome', at: fromAgent(2100) },
  { name: 'within the first frame', at: fromAgent(20_000) },
  { name: 'at a tenth', at: fractionOfAgent(0.1) },
  { name: 'at a quarter', at: fractionOfAgent(0.25) },
  { name: 'at 40 per cent', at: fractionOfAgent(0.4) },
  { name: 'at the half', at: fractionOfAgent(0.5) },
  { name: 'at 65 per cent', at: fractionOfAgent(0.65) },
  { name: 'at three quarters', at: fractionOfAgent(0.75) },
  { name: 'at 90 per cent', at: fractionOfAgent(0.9), kept: true },
  { name: 'at the end of the index', at: beforeEndOfAgent(1000), kept: true },
  // Runs differ in length by the reports of progress, so that these may come a little sooner or later.
  { name: 'about the summary', at: beforeEndOfAgent(350), stored: 'perhaps' },
  {
    name: 'between the summary and the answer',
    at: (total) => ({
      direction: 'fromServer',
      afterBytes: 0,
      afterOtherBytes: Math.floor(total.fromAgent * 0.9),
    }),
    stored: true,
  },
  {
    name: 'after the answer',
    at: (total) => ({
      direction: 'fromAgent',
      afterBytes: 0,
      afterOtherBytes: total.fromServer - 40,
    }),
    stored: true,
  },
]

/** A site with one host, whose server reaches the agent through a proxy, and a good run that was measured. */
class Scene implements AsyncDisposable {
  readonly site: Site
  readonly host: TestHost
  readonly proxy: BreakingProxy
  readonly total: Passed
  /** The run of all of the tree. */
  readonly first: HostEnd
  /** Archives that were found whole; they do not change any more. */
  readonly #whole = new Set<string>()

  private constructor(site: Site, host: TestHost, proxy: BreakingProxy, first: RunEnded) {
    this.site = site
    this.host = host
    this.proxy = proxy
    this.total = proxy.passed
    this.first = first.ends.web1!
  }

  static async make(): Promise<Scene> {
    const site = await Site.create()
    const host = await site.addHost('web1', {
      settings: `[local_copy]\ndirectory = ${JSON.stringify(site.at('copies'))}\nkeep = 1\nkeep_days = 0\n`,
    })
    fillTree(site.tree('web1'), treeMegabytes)
    await host.start()
    const proxy = await BreakingProxy.start(host.port)
    host.setPort(proxy.port)
    const run = await site.run('--full')
    assert.equal(run.code, 0, run.stdout + run.stderr)
    return new Scene(site, host, proxy, run)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.proxy[Symbol.dispose]()
    await this.site[Symbol.asyncDispose]()
  }

  /** A full run in which something strikes once. */
  async breakRun(point: Point, what: Fault['what'], strike?: (server: Program) => void): Promise<RunEnded> {
    for (let earlier = 0; ; earlier += 200) {
      const fault = point.at(this.total)
      const afterBytes = Math.max(0, fault.afterBytes - earlier)
      let server: Program | undefined
      let hasStruck = false
      const onStrike = () => {
        hasStruck = true
        strike?.(server!)
      }
      this.proxy.arm({ ...fault, afterBytes, what, onStrike })
      server = this.site.startServer(['run', '--full', '--json'])
      const run = readRun(await server.endWithin(endMsMax))
      if (hasStruck) return run
      assert.equal(point.stored, 'perhaps', `it never came to it: ${point.name}`)
    }
  }

  async restartAgent(): Promise<void> {
    await this.host.start({ keepModule: true })
    this.proxy.targetPort = this.host.port
  }

  /** An agent cleans up when it starts, beside its work. */
  async copiesCleaned(): Promise<void> {
    const partials = () => readdirSync(this.site.at('copies')).filter((name) => name.endsWith('.partial'))
    const untilMs = performance.now() + endMsMax
    while (partials().length > 0) {
      assert.ok(performance.now() < untilMs, `${partials()} are left`)
      await pause(20)
    }
  }

  /** The run before the last. */
  runBefore(): Run {
    using catalog = new Catalog(join(this.site.repository, 'catalog.sqlite'))
    return catalog.runs('web1', 2)[1]!
  }

  requireWholeArchives(): Promise<void> {
    return requireWholeArchives(this.site, 'web1', this.#whole)
  }

  /** The next run comes through by itself, sends what the broken one has not kept, and has all of the tree. */
  async requireRecovery(): Promise<void> {
    await this.requireWholeArchives()
    const run = await this.site.run()
    assert.equal(run.code, 0, run.stdout + run.stderr)
    const { outcome, localCopy, archive, contentBytes } = run.ends.web1!
    assert.equal(outcome, 'complete')
    assert.equal(localCopy?.kept, true)
    assert.deepEqual(this.site.partials('web1'), [])
    await this.requireWholeArchives()
    const copies = readdirSync(this.site.at('copies'))
    assert.deepEqual(copies, [archive!.name])
    const before = this.runBefore()
    if (before.broken) {
      const { contentBytes: all } = this.first
      assert.equal(contentBytes, all - before.contentBytes, 'each file is sent once')
      await this.requireWholeTree()
    }
  }

  /** What the newest run says to have is what stands on the host. */
  async requireWholeTree(): Promise<void> {
    const target = this.site.at('restored')
    rmSync(target, { recursive: true, force: true })
    const restored = await this.site.ask('restore', 'web1', '--target', target)
    assert.equal(restored.code, 0, restored.stderr)
    const root = this.site.tree('web1')
    const compared = await runCommand(['diff', '-r', '--no-dereference', root, join(target, root)])
    assert.equal(compared.code, 0, compared.stdout)
  }

  /** The agent has ended its session, and left nothing in the folder of the copies. */
  async requireQuietAgent(logged: number): Promise<void> {
    await this.host.agent.untilLogged(({ msg }) => /session (failed|ended)|refused/.test(msg ?? ''), logged)
    assert.ok(!readdirSync(this.site.at('copies')).some((name) => name.endsWith('.partial')))
  }
}

/** What the server says of a run that the other side or the network broke. */
function requireBroken(run: RunEnded, { stored = false, kept = false }: Point, codes: RegExp): void {
  const { outcome, error, archive, warningCount } = run.ends.web1!
  const isStored = stored === 'perhaps' ? error === null : stored
  if (isStored) {
    assert.equal(outcome, 'complete', run.stdout)
    assert.equal(run.code, 0)
    // Unless its last word had gone out before.
    assert.ok(warningCount <= 1)
  } else {
    assert.match(error!.code, codes)
    assert.notEqual(error!.message, '')
    if (kept) assert.notEqual(archive, null)
    if (archive === null) {
      assert.equal(outcome, 'failed', run.stdout)
      assert.ok(run.code === 1 || run.code === 10, `exit code ${run.code}`)
    } else {
      assert.equal(outcome, 'incomplete', run.stdout)
      assert.equal(run.code, 3)
    }
  }
}

/**
 * Dead processes look like cut lines to the other side, so that each of the two that are killed is so at every fourth point.
 * `CENTRAL_BACKUP_DEATHS=all`: at every one.
 */
function someOf(points: readonly Point[], first: number): Point[] {
  const all = process.env.CENTRAL_BACKUP_DEATHS === 'all'
  return points.filter((_, number) => all || number % 4 === first)
}

/** What a process has sent comes through although it is dead: at a late point, that may have been all. */
function orStored(point: Point): Point {
  return point.kept === true ? { ...point, stored: point.stored ?? 'perhaps' } : point
}

// The one that stalls only waits.
describe('a run', { concurrency: 4 }, () => {
  describe('that stalls', { concurrency: 1 }, () => {
    test('in the middle of a frame is given up, and the next succeeds', async () => {
      await using scene = await Scene.make()
      const point = { name: 'stall', at: fractionOfAgent(0.5) }
      scene.proxy.arm({ ...point.at(scene.total), what: 'stall' })
      const run = readRun(await scene.site.startServer(['run', '--full', '--json']).endWithin(90_000))
      assert.equal(run.code, 1)
      assert.equal(run.ends.web1!.error?.code, 'stalled')
      // The agent would wait for five minutes until it is sure.
      scene.proxy.breakAll()
      await scene.requireRecovery()
    })
  })

  describe('whose connection breaks', { concurrency: 1 }, () => {
    let scene: Scene
    before(async () => {
      scene = await Scene.make()
    })
    after(() => scene?.[Symbol.asyncDispose]())

    for (const [number, point] of points.entries()) {
      const what = number % 2 === 0 ? 'cut' : 'reset'
      test(`${point.name} (${what}) has a reason, and the next succeeds`, async () => {
        const logged = scene.host.agent.log.length
        const run = await scene.breakRun(point, what)
        requireBroken(run, point, /^(connection-lost|connection-refused|tls-failed)$/)
        if (scene.proxy.passed.fromServer > 1500) await scene.requireQuietAgent(logged)
        const { name } = run.ends.web1!.archive ?? { name: null }
        await scene.requireRecovery()
        const { outcome, error, archive } = scene.runBefore()
        assert.equal(outcome, run.ends.web1!.outcome)
        assert.equal(error?.code, run.ends.web1!.error?.code)
        assert.equal(archive?.name ?? null, name)
      })
    }

    for (const fraction of [0.2, 0.6, 0.95]) {
      const point = { name: 'a corrupt bit', at: fractionOfAgent(fraction) }
      test(`with one bit turned over at ${fraction * 100} per cent is broken, and the next succeeds`, async () => {
        const run = await scene.breakRun(point, 'corrupt')
        const { outcome, error, archive } = run.ends.web1!
        assert.equal(outcome, archive === null ? 'failed' : 'incomplete')
        assert.match(error!.code, /^(tls-failed|connection-lost)$/)
        await scene.requireRecovery()
      })
    }
  })

  describe('whose agent is killed', { concurrency: 1 }, () => {
    let scene: Scene
    before(async () => {
      scene = await Scene.make()
    })
    after(() => scene?.[Symbol.asyncDispose]())

    for (const point of someOf(points, 0).map(orStored)) {
      test(`${point.name} has a reason, and the next succeeds`, async () => {
        const { agent } = scene.host
        const run = await scene.breakRun(point, 'none', () => agent.kill('SIGKILL'))
        assert.equal((await agent.endWithin(endMsMax)).signal, 'SIGKILL')
        requireBroken(run, point, /^(connection-lost|connection-refused)$/)
        await scene.restartAgent()
        await scene.copiesCleaned()
        await scene.requireRecovery()
        const { outcome, error } = scene.runBefore()
        assert.equal(outcome, run.ends.web1!.outcome)
        assert.equal(error?.code, run.ends.web1!.error?.code)
      })
    }

    test('when it is told to end, in good order, says so', async () => {
      const { agent } = scene.host
      // Early, as the agent is ahead of the proxy by as much as the buffers of the connection hold.
      const point = { name: 'SIGTERM', at: fractionOfAgent(0.1) }
      const run = await scene.breakRun(point, 'none', () => agent.kill('SIGTERM'))
      const { outcome, error, archive } = run.ends.web1!
      assert.equal(error?.code, 'cancelled', error?.message)
      assert.match(error.message, /shutting down/)
      assert.deepEqual([outcome, run.code], archive === null ? ['failed', 1] : ['incomplete', 3])
      const ended = await agent.endWithin(endMsMax)
      assert.deepEqual([ended.code, ended.signal], [0, null])
      assert.ok(!readdirSync(scene.site.at('copies')).some((name) => name.endsWith('.partial')))
      await scene.restartAgent()
      await scene.requireRecovery()
    })
  })

  describe('whose server is killed', { concurrency: 1 }, () => {
    let scene: Scene
    before(async () => {
      scene = await Scene.make()
    })
    after(() => scene?.[Symbol.asyncDispose]())

    for (const point of someOf(points, 3)) {
      test(`${point.name} is known as interrupted, and the next succeeds`, async () => {
        const logged = scene.host.agent.log.length
        const run = await scene.breakRun(point, 'none', (server) => server.kill('SIGKILL'))
        assert.equal(run.signal, 'SIGKILL')
        if (scene.proxy.passed.fromServer > 1500) await scene.requireQuietAgent(logged)
        await scene.requireRecovery()
        const { outcome, error, archive } = scene.runBefore()
        if (point.stored === true || point.kept) assert.notEqual(archive, null)
        if (!point.stored) {
          assert.equal(outcome, archive === null ? 'failed' : 'incomplete')
          assert.equal(error?.code, 'interrupted')
        }
      })
    }

    for (const [signal, exit] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      test(`by ${signal} ends in good order with exit code ${exit}`, async () => {
        const logged = scene.host.agent.log.length
        const point = { name: signal, at: fractionOfAgent(0.75) }
        const run = await scene.breakRun(point, 'none', (server) => server.kill(signal))
        assert.deepEqual([run.code, run.signal], [exit, null])
        const { outcome, error } = run.ends.web1!
        assert.deepEqual([outcome, error?.code], ['failed', 'cancelled'])
        await scene.requireQuietAgent(logged)
        using catalog = new Catalog(join(scene.site.repository, 'catalog.sqlite'))
        const [last] = catalog.runs('web1', 1)
        assert.deepEqual([last!.outcome, last!.error?.code], ['failed', 'cancelled'])
        assert.deepEqual(catalog.statements.leases.all(), [])
        await scene.requireRecovery()
        const { outcome: later, error: reason, archive } = scene.runBefore()
        assert.deepEqual([later, reason?.code], [archive === null ? 'failed' : 'incomplete', 'cancelled'])
      })
    }
  })
})
