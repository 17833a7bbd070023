/** The agent as a service: what it refuses to start with, how it takes signals, and what it keeps and logs. */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Site, type TestHost } from './harness/site.ts'
import { fillTree, writeTree } from './harness/tree.ts'

const patienceMs = 60_000

/** A site with one host whose tree has a few files. */
async function makeHost(site: Site, settings = ''): Promise<TestHost> {
  const tree = site.tree()
  writeTree(tree, { 'a/one': 'one', 'b/two': 'two' })
  return site.addHost('web1', { paths: [tree], settings })
}

for (const [file, mode] of [
  ['host.key', 0o644],
  ['host.key', 0o660],
  ['backup-host.toml', 0o604],
  ['backup-host.toml', 0o620],
] as const) {
  test(`the agent does not start with a ${file} of mode ${mode.toString(8)}`, async () => {
    await using site = await Site.create()
    const host = await makeHost(site)
    chmodSync(join(host.folder, file), mode)
    const { code, stderr } = await site.startAgent(['--config', host.config]).endWithin(patienceMs)
    assert.equal(code, 2)
    assert.match(stderr, new RegExp(file.replace('.', '\\.')))
  })
}

test('an agent that is told to end does so in good order', async () => {
  await using site = await Site.create()
  const host = await makeHost(site)
  await host.start()
  const { code, log } = await host.stop('SIGTERM')
  assert.equal(code, 0)
  assert.ok(log.some(({ msg }) => msg?.startsWith('SIGTERM')))
})

test('the settings are read again on SIGHUP, and bad ones leave the good ones in force', async () => {
  await using site = await Site.create()
  const host = await makeHost(site)
  const agent = await host.start()
  assert.equal((await site.run()).code, 0)

  host.configure((text) => text.replace('read = ["/"]', 'read = ["/nowhere"]'))
  agent.kill('SIGHUP')
  await agent.until(() => agent.log.find(({ msg }) => msg?.includes('read again')), 'the new settings')
  const refused = await site.run('--full')
  assert.equal(refused.code, 1)
  assert.equal(refused.warnings[0]!.code, 'path-not-allowed')

  host.configure((text) => text.replace('read = ["/nowhere"]', 'read = 7'))
  agent.kill('SIGHUP')
  await agent.until(() => agent.log.find(({ msg }) => msg?.includes('stay as they were')), 'the complaint')
  host.configure((text) => text.replace('read = 7', 'read = ["/"]'))
  agent.kill('SIGHUP')
  const readAgain = () => agent.log.filter(({ msg }) => msg?.includes('read again'))
  await agent.until(() => readAgain()[1], 'the settings once more')
  assert.equal((await site.run()).code, 0)
})

test('more sessions than the settings allow are refused as busy', async () => {
  await using site = await Site.create()
  const host = await makeHost(site, '[limits]\nsessions = 1')
  fillTree(site.tree(), 60)
  const agent = await host.start()
  const first = site.startServer(['run', '--json'])
  await agent.until(() => agent.log.find(({ msg }) => msg === 'session began'), 'the first session')
  const second = await site.server('run', '--dry-run', 'web1', '--json')
  assert.equal(second.code, 13, second.stderr)
  assert.equal((await first.endWithin(patienceMs)).code, 0)
  assert.equal((await site.server('run', '--dry-run', 'web1')).code, 0)
})

test('each session has its line in the log: who, what, how much, and how it ended', async () => {
  await using site = await Site.create()
  const host = await makeHost(site)
  const agent = await host.start()
  await site.run()
  const ended = await agent.until(
    () => agent.log.find(({ msg }) => msg?.startsWith('session ended')),
    'the end',
  )
  const line = ended as unknown as Record<string, unknown>
  assert.equal(line.request, 'backup')
  assert.equal(line.outcome, 'complete')
  assert.equal(line.address, '127.0.0.1')
  assert.equal(typeof line.server, 'string')
  assert.ok(Number(line.archiveBytes) > 0)
  assert.equal((line.counts as { files: number }).files, 2)
})

test('the local copy has the bytes of the archive, and only as many are kept as the settings say', async () => {
  await using site = await Site.create()
  const copies = site.at('copies')
  const host = await makeHost(site, `[local_copy]\ndirectory = "${copies}"\nkeep = 2\nkeep_days = 0`)
  await host.start()
  for (let count = 1; count <= 3; count++) {
    const { code, stderr, ends } = await site.run('--full')
    assert.equal(code, 0, stderr)
    assert.deepEqual(ends.web1!.localCopy, { kept: true, name: ends.web1!.archive!.name })
  }
  const kept = readdirSync(copies).sort()
  assert.deepEqual(kept, site.files('web1').slice(-2))
  for (const name of kept) {
    const archive = join(site.repository, 'archives/web1', name)
    assert.ok(readFileSync(join(copies, name)).equals(readFileSync(archive)), name)
  }
})

test('the local copies are no part of a backup of the folder that holds them', async () => {
  await using site = await Site.create()
  const copies = join(site.tree(), 'kept [here]')
  const host = await makeHost(site, `[local_copy]\ndirectory = "${copies}"\nkeep = 2`)
  await host.start()
  assert.equal((await site.run('--full')).code, 0)
  const { code, ends } = await site.run('--full')
  assert.equal(code, 0)
  assert.equal(ends.web1!.counts.files, 2)
  assert.equal(readdirSync(copies).length, 2)
})

test('a local copy that cannot be written costs the copy and not the run', async () => {
  await using site = await Site.create()
  const copies = site.at('copies')
  mkdirSync(copies)
  chmodSync(copies, 0o777)
  const host = await makeHost(site, `[local_copy]\ndirectory = "${copies}"\nkeep = 1`)
  await host.start()
  const { code, ends, warnings } = await site.run()
  assert.equal(code, 0)
  assert.equal(ends.web1!.outcome, 'complete')
  assert.equal(warnings[0]!.code, 'local-copy-failed')
  assert.deepEqual(readdirSync(copies), [])
})

test('the log goes on in a new file after the old one was moved away', async () => {
  await using site = await Site.create()
  const log = site.at('agent.log')
  const host = await makeHost(site, `[log]\nfile = "${log}"`)
  const agent = site.startAgent(['--config', host.config])
  const hasLine = (text: string) => existsSync(log) && readFileSync(log, 'utf8').includes(text)
  await eventually(() => hasLine('listens on'))
  renameSync(log, `${log}.1`)
  agent.kill('SIGHUP')
  await eventually(() => hasLine('read again'))
  agent.kill('SIGTERM')
  assert.equal((await agent.endWithin(patienceMs)).code, 0)
  assert.ok(hasLine('SIGTERM'))
})

/** Looks again and again, as a file does not tell that it has changed. */
async function eventually(look: () => boolean): Promise<void> {
  const untilMs = performance.now() + patienceMs
  while (!look()) {
    assert.ok(performance.now() < untilMs, 'it never came to that')
    await delay(20)
  }
}
