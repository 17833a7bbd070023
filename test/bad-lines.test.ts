/** Runs over lines as they are far away: slow, with losses, reset by what is between, and half open. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Line, lacksLine } from './harness/line.ts'
import { patienceMs } from './harness/program.ts'
import { type RunEnded, readRun, Site, type TestHost } from './harness/site.ts'
import { noise, writeTree } from './harness/tree.ts'

const skip = await lacksLine()

const treeBytes = 6 << 20

/** A site whose agent and server have nothing but a line of their own between them. */
class Scene implements AsyncDisposable {
  readonly site: Site
  readonly host: TestHost
  readonly line: Line

  private constructor(site: Site, host: TestHost, line: Line) {
    this.site = site
    this.host = host
    this.line = line
  }

  static async make(): Promise<Scene> {
    const site = await Site.create({ settings: `connection: { attempts: 3, pause: '1 second' },` })
    const host = await site.addHost('web1', { settings: '[limits]\ncpu_nice = 0' })
    for (let i = 0; i < 8; i++) writeTree(site.tree('web1'), { [`noise-${i}`]: noise(treeBytes / 8, `${i}`) })
    const line = await Line.make()
    await host.start({ wrapper: line.wrapper })
    return new Scene(site, host, line)
  }

  start() {
    return this.site.startServer(['run', '--full', '--json'], { wrapper: this.line.wrapper })
  }

  async run(): Promise<RunEnded> {
    return readRun(await this.start().endWithin(patienceMs))
  }

  async requireGood(): Promise<void> {
    const run = await this.run()
    assert.equal(run.code, 0, run.stdout + run.stderr)
    assert.equal(run.ends.web1!.outcome, 'complete')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.site[Symbol.asyncDispose]()
    await this.line[Symbol.asyncDispose]()
  }
}

/** Resolves once `look` is true. */
async function comesTrue(look: () => Promise<boolean>): Promise<void> {
  for (const deadlineMs = performance.now() + patienceMs; !(await look()); )
    if (performance.now() > deadlineMs) throw new Error('it never came true')
}

describe('a line', { concurrency: 1, skip }, () => {
  let scene: Scene
  before(async () => {
    scene = await Scene.make()
  })
  after(() => scene?.[Symbol.asyncDispose]())

  test('of 16 Mbit/s, whose buffer overflows, carries a run', async () => {
    await scene.line.limitTo('16mbit')
    const startedMs = performance.now()
    await scene.requireGood()
    const seconds = (performance.now() - startedMs) / 1000
    assert.ok(seconds > 1, `6 MiB in ${seconds} s, as if there were no limit`)
    assert.match(await scene.line.run('tc -s qdisc show dev lo'), /Sent \d{7,} bytes/)
    await scene.line.beGood()
  })

  test('that loses every tenth packet carries a run', async () => {
    const loses = '-m statistic --mode random --probability .1 -j DROP'
    await scene.line.addRule(`--dport ${scene.host.port} ${loses}`)
    await scene.line.addRule(`--sport ${scene.host.port} ${loses}`)
    await scene.requireGood()
    assert.match(await scene.line.run('iptables -w -vnxL INPUT'), /^ *[1-9]\d* .*DROP/m, 'some were lost')
    await scene.line.beGood()
  })

  test('that resets what has carried a mebibyte ends the run, which the next goes on from', async () => {
    const { host, line } = scene
    const resets = '-j REJECT --reject-with tcp-reset'
    await line.addRule(
      `--dport ${host.port} ! --tcp-flags RST RST -m connbytes --connbytes 1048576: --connbytes-dir both ` +
        `--connbytes-mode bytes ${resets}`,
    )
    const run = await scene.run()
    const { outcome, error } = run.ends.web1!
    assert.match(outcome, /^(incomplete|failed)$/)
    assert.equal(error?.code, 'connection-lost', error?.message)
    await host.agent.untilLogged(({ msg }) => /session failed/.test(msg ?? ''), 0)
    await line.beGood()
    await scene.requireGood()
  })

  test('that goes dead beneath a server that dies leaves an agent half open, which serves the next', async () => {
    const { site, host, line } = scene
    await line.limitTo('8mbit')
    const lost = scene.start()
    await comesTrue(async () => (await sentBy(scene)) > 1 << 20)
    const [, far] = new RegExp(`127\\.0\\.0\\.1:(\\d+) +127\\.0\\.0\\.1:${host.port}\\b`).exec(
      await line.run('ss -Htn state established'),
    )!
    await line.addRule(`--dport ${host.port} --sport ${far} -j DROP`)
    await line.addRule(`--sport ${host.port} --dport ${far} -j DROP`)
    lost.kill('SIGKILL')
    await lost.ended
    await line.run('tc qdisc del dev lo root')
    await scene.requireGood()
    const isOpen = `sport = :${host.port} and dport = :${far}`
    assert.match(
      await line.run(`ss -Htn state established '( ${isOpen} )'`),
      /\S/,
      'the agent knows of nothing',
    )
    await line.beGood()
    assert.equal((await host.stop()).code, 0)
    const verified = await site.server('verify')
    assert.equal(verified.code, 0, verified.stderr)
  })
})

/** Bytes of an open session that the agent knows to have arrived. */
async function sentBy({ line, host }: Scene): Promise<number> {
  const told = await line.run(`ss -Htin state established 'sport = :${host.port}'`)
  return Number(/bytes_acked:(\d+)/.exec(told)?.[1] ?? 0)
}
