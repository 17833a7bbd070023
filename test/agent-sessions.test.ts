/** What sessions of one agent have to do with each other: nothing, whatever becomes of one of them. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Channel, dial, type MessageOf } from '@central-backup/protocol'
import { DeadMount } from '../packages/archive/test/dead-mount.ts'
import { readWholeArchive } from './harness/archives.ts'
import { serverCredentials } from './harness/certificates.ts'
import { authenticationOf, helloOf, requestOf } from './harness/in-process-run.ts'
import { type Program, patienceMs, startServer } from './harness/program.ts'
import { readRun, Site, type TestHost } from './harness/site.ts'
import { fillTree, noise, writeTree } from './harness/tree.ts'

/** Another home of the same authority with a repository of its own: what a second server has. */
async function addServer(site: Site, name: string): Promise<{ home: string; repository: string }> {
  const home = site.at(name)
  const repository = site.at(`${name}-repository`)
  cpSync(site.home, home, { recursive: true })
  const settings = join(home, 'settings.ts')
  writeFileSync(settings, readFileSync(settings, 'utf8').replace(site.repository, repository))
  const made = await startServer(['--home', home, '-q', 'init', '--repository', repository]).endWithin(
    patienceMs,
  )
  assert.equal(made.code, 0, made.stderr)
  return { home, repository }
}

test('several servers are served at a time, and each gets all of the tree', async () => {
  await using site = await Site.create()
  const root = site.tree('web1')
  fillTree(root, 30)
  const host = await site.addHost('web1', {
    settings: `[local_copy]\ndirectory = "${site.at('copies')}"\nkeep = 9`,
  })
  // What an earlier agent that was killed has left.
  mkdirSync(site.at('copies'), { mode: 0o700 })
  writeFileSync(site.at('copies/2026-01-01T000000Z-full.tar.zst.partial'), '')
  const agent = await host.start()
  await agent.untilLogged(({ level, msg }) => level === 'warn' && /removed .*partial/.test(msg!))
  assert.deepEqual(readdirSync(site.at('copies')), [])

  const others = [await addServer(site, 'server2'), await addServer(site, 'server3')]
  const programs = [site.home, ...others.map(({ home }) => home)].map((home) =>
    startServer(['--home', home, 'run', '--json']),
  )
  for (const program of programs) {
    const { code, ends, stderr } = readRun(await program.endWithin(patienceMs))
    assert.equal(code, 0, stderr)
    assert.equal(ends.web1!.outcome, 'complete')
  }
  const lines = agent.log.map(({ msg }) => msg!).filter((msg) => msg.startsWith('session'))
  const firstEnd = lines.findIndex((msg) => msg.startsWith('session ended'))
  assert.equal(lines.length, 6)
  assert.ok(firstEnd > 1, `they came one after the other: ${lines}`)
  const contents = [site.repository, ...others.map(({ repository }) => repository)].map(
    async (repository) => {
      const folder = join(repository, 'archives/web1')
      const entries = await readWholeArchive(join(folder, readdirSync(folder)[0]!))
      return [...entries].map(([path, { size, digest }]) => [
        path,
        size,
        digest && Buffer.from(digest).toString('hex'),
      ])
    },
  )
  const [first, ...rest] = await Promise.all(contents)
  for (const other of rest) assert.deepEqual(other, first)
})

/** A session that has passed the password, and waits. */
async function logIn(host: TestHost): Promise<Channel> {
  const expect = { role: 'host', name: host.name } as const
  const credentials = serverCredentials(host.site)
  const channel = new Channel(await dial({ ...credentials, host: '127.0.0.1', port: host.port, expect }))
  for (const [message, answer] of [
    [helloOf(host.site), 'hello'],
    [authenticationOf(host), 'welcome'],
  ] as const) {
    await channel.send(message)
    await channel.receive([answer])
  }
  return channel
}

/** Has the agent pack, up to its summary: what comes then is the test's. */
async function receiveSummary(host: TestHost): Promise<{ channel: Channel; summary: MessageOf<'summary'> }> {
  const channel = await logIn(host)
  await channel.send(requestOf(host))
  await channel.receive(['archive-name'])
  for (;;) {
    const message = await channel.receive(['frame', 'entries', 'warning', 'progress', 'summary'])
    if (message.type === 'summary') return { channel, summary: message }
  }
}

test('sessions that only wait keep nobody out, and those that have made their request count', async () => {
  await using site = await Site.create()
  writeTree(site.tree('web1'), { file: 'content' })
  const host = await site.addHost('web1', { settings: '[limits]\nsessions = 1' })
  await host.start()
  const idle = [await logIn(host), await logIn(host), await logIn(host)]
  const ran = readRun(await startServer(['--home', site.home, 'run', '--json']).endWithin(patienceMs))
  assert.equal(ran.ends.web1!.outcome, 'complete', ran.stderr)
  for (const channel of idle) assert.equal(channel.ended.aborted, false)

  const { channel: atWork } = await receiveSummary(host)
  await idle[0]!.send(requestOf(host))
  await assert.rejects(idle[0]!.receive(['archive-name']), { code: 'busy' })
  // What a session does before its request is done all the same, as to bring a list of what is revoked.
  await idle[1]!.send({ type: 'trust' })
  await idle[1]!.receive(['trusted'])
  atWork.destroy()
  for (const channel of idle) channel.destroy()
})

test('a local copy is kept only when the server has confirmed that it has the same', async () => {
  await using site = await Site.create()
  writeTree(site.tree('web1'), { file: noise(200_000, 'copied') })
  const copies = site.at('copies')
  const host = await site.addHost('web1', { settings: `[local_copy]\ndirectory = "${copies}"\nkeep = 1` })
  const agent = await host.start()
  const failed = () => agent.log.filter(({ msg }) => msg?.startsWith('session failed'))

  const silent = await receiveSummary(host)
  assert.equal(readdirSync(copies).filter((name) => name.endsWith('.partial')).length, 1)
  silent.channel.destroy()
  await agent.until(() => failed()[0], 'the end of the first session')
  assert.deepEqual(readdirSync(copies), [])

  const { channel, summary } = await receiveSummary(host)
  const digest = Buffer.from(summary.digest!)
  digest[0]! ^= 1
  await channel.send({ type: 'stored', digest, archiveBytes: summary.archiveBytes })
  await assert.rejects(channel.receive(['finished']), { code: 'storage-failed' })
  await agent.until(() => failed()[1], 'the end of the second session')
  assert.deepEqual(readdirSync(copies), [])

  const good = await receiveSummary(host)
  const { digest: stored, archiveBytes } = good.summary
  await good.channel.send({ type: 'stored', digest: stored!, archiveBytes })
  const { localCopy } = await good.channel.receive(['finished'])
  assert.equal(localCopy!.kept, true)
  assert.deepEqual(readdirSync(copies), [localCopy!.name])
  const bytes = readFileSync(join(copies, localCopy!.name))
  assert.deepEqual([createHash('sha256').update(bytes).digest(), bytes.length], [stored, archiveBytes])
  await good.channel.close()
})

/** A host whose tree has a folder of files and a mount that does not answer; `null` where there is no such mount. */
async function withDeadMount(t: TestContext, site: Site) {
  const root = site.tree('web1')
  writeTree(root, { 'alive/file': noise(3_000_000, 'alive') })
  const mount = DeadMount.create(t, join(root, 'dead'))
  if (mount === null) return null
  const host = await site.addHost('web1', { settings: '[limits]\nread_stall_seconds = 2' })
  const agent = await host.start()
  return { root, mount, host, agent }
}

function changePaths(
  host: { changeModule(change: (text: string) => string): void },
  paths: readonly string[],
  exclude: readonly string[] = [],
): void {
  host.changeModule((text) =>
    text
      .replace(/paths: \[.*\],/, `paths: ${JSON.stringify(paths)},`)
      .replace(/exclude: \[.*\],/, `exclude: ${JSON.stringify(exclude)},`),
  )
}

test('a mount that does not answer ends the run that needs it, and its path is told; others go on', async (t) => {
  await using site = await Site.create()
  const made = await withDeadMount(t, site)
  if (made === null) return
  using _ = made.mount
  const { root, host, agent } = made
  for (const paths of [[root], [`${root}/*/file`]]) {
    changePaths(host, paths)
    const { code, ends } = await site.run('--full')
    assert.equal(code, 1)
    const { error } = ends.web1!
    assert.equal(error!.code, 'source-failed')
    assert.match(error!.message, /did not answer for 2 s at/)
    assert.ok(error!.message.includes(`${root}/dead`), error!.message)
    assert.deepEqual(site.archives('web1'), [])
  }
  changePaths(host, [root], ['dead'])
  const { code, ends } = await site.run('--full')
  assert.deepEqual([code, ends.web1!.outcome], [0, 'complete'])
  await requireEnd(agent)
})

/** The agent ends when it is told to, although threads of it hang in the kernel. */
async function requireEnd(agent: Program): Promise<void> {
  agent.kill('SIGTERM')
  const { code } = await agent.endWithin(20_000)
  assert.equal(code, 0)
}
