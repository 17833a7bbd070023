/** The server's main job over several hosts, and what it says of how it went. */
import assert from 'node:assert/strict'
import { renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const quick = "connection: { attempts: 1, timeout: '3 seconds', pause: '100 ms' },"

async function addHost(site: Site, name: string) {
  writeTree(site.tree(name), { one: `one of ${name}`, 'folder/two': 'two' })
  return site.addHost(name)
}

test('a host that is dead, one that says nothing, and one with a broken module harm no other', async () => {
  await using site = await Site.create({ settings: quick })
  for (const name of ['web1', 'web2', 'web3']) await (await addHost(site, name)).start()
  const dead = await addHost(site, 'dead')
  const silent = await addHost(site, 'silent')
  const broken = await addHost(site, 'broken')
  broken.changeModule(() => 'export default { address: 7 }\n')
  const mute = createServer(() => {}).listen(0, '127.0.0.1')
  await new Promise((resolve) => mute.once('listening', resolve))
  silent.setPort((mute.address() as { port: number }).port)
  dead.setPort(1)
  try {
    const { code, ends, stderr } = await site.run()
    for (const name of ['web1', 'web2', 'web3']) assert.equal(ends[name]!.outcome, 'complete')
    assert.equal(ends.dead!.error!.code, 'connection-refused')
    assert.equal(ends.silent!.error!.code, 'handshake-timeout')
    assert.match(stderr, /broken\.ts/)
    assert.equal(code, 2)
    assert.equal((await site.run('web1', 'dead')).code, 10)
  } finally {
    mute.close()
  }
})

test('a connection is tried again until the agent is there', async () => {
  await using site = await Site.create({ settings: "connection: { attempts: 100, pause: '100 ms' }," })
  const host = await addHost(site, 'web1')
  await host.start()
  const { port } = host
  await host.stop()
  const run = site.startServer(['run', '--json'])
  await run.untilPrinted(({ event }) => event === 'retry')
  host.configure((text) => text.replace('127.0.0.1:0', `127.0.0.1:${port}`))
  await host.start()
  assert.equal((await run.endWithin(60_000)).code, 0)
})

test('every line of --json is an object that names its event and host', async () => {
  await using site = await Site.create()
  const host = await addHost(site, 'web1')
  host.changeModule((text) => text.replace('paths: [', "paths: ['/nothing/here', "))
  await host.start()
  const { code, stdout, ends, warnings } = await site.run()
  assert.equal(code, 3)
  for (const line of stdout.trimEnd().split('\n')) {
    const { event, host: name } = JSON.parse(line) as { event: string; host: string }
    assert.equal(typeof event, 'string')
    assert.equal(name, 'web1')
  }
  assert.equal(ends.web1!.outcome, 'incomplete')
  assert.equal(warnings[0]!.code, 'path-not-found')
})

test('the status names a host that is late, and its exit code says so', async () => {
  await using site = await Site.create()
  const host = await addHost(site, 'web1')
  assert.equal((await site.server('status')).code, 1)
  await host.start()
  await site.run()
  const good = await site.server('status', '--json')
  assert.equal(good.code, 0)
  assert.equal((JSON.parse(good.stdout) as { hosts: { state: string }[] }).hosts[0]!.state, 'good')
  host.changeModule((text) => text.replace('paths:', "expectEvery: '1 ms', paths:"))
  const late = await site.server('status')
  assert.equal(late.code, 1)
  assert.match(late.stdout, /web1 +late/)
})

test('without a command all hosts are backed up, and a name that is no host is refused with those that are', async () => {
  await using site = await Site.create()
  await (await addHost(site, 'web1')).start()
  assert.equal((await site.server()).code, 0)
  assert.equal(site.archives('web1').length, 1)
  const { code, stderr } = await site.server('run', 'web9')
  assert.equal(code, 2)
  assert.match(stderr, /web9/)
  assert.match(stderr, /web1/)
})

test('check tells of each part whether it is well, and asks no agent with --offline', async () => {
  await using site = await Site.create({ settings: quick })
  const host = await addHost(site, 'web1')
  assert.equal((await site.server('check', '--offline')).code, 0)
  assert.equal((await site.server('check')).code, 10)
  await host.start()
  const good = await site.server('check')
  assert.equal(good.code, 0)
  assert.match(good.stdout, /host +ok +web1/)
  host.changeModule((text) => text.replace('paths: [', "paths: ['/etc/shadow', "))
  await host.stop()
  host.configure((text) => text.replace('read = ["/"]', `read = ["${site.folder}"]`))
  await host.start()
  const denied = await site.server('check')
  assert.equal(denied.code, 1)
  assert.match(denied.stdout, /\/etc\/shadow/)
})

test('files that change while they are read are an outcome of their own, and --strict makes it the exit code 3', async () => {
  await using site = await Site.create()
  const host = await addHost(site, 'web1')
  const path = join(site.tree('web1'), 'growing')
  writeFileSync(path, Buffer.alloc(64 * 1024 * 1024))
  await host.start()
  let writing = true
  const write = (count: number) => {
    if (!writing) return
    writeFileSync(path, `more ${count}`, { flag: 'a' })
    setImmediate(write, count + 1)
  }
  write(0)
  try {
    const { code, ends } = await site.run('--full')
    assert.equal(ends.web1!.outcome, 'complete-with-changes')
    assert.equal(code, 0)
    assert.equal((await site.run('--full', '--strict')).code, 3)
  } finally {
    writing = false
  }
})

test('two runs of a host at once do no harm: one is told that it is busy', async () => {
  await using site = await Site.create()
  const host = await addHost(site, 'web1')
  writeFileSync(join(site.tree('web1'), 'large'), Buffer.alloc(200 * 1024 * 1024))
  const agent = await host.start()
  const first = site.startServer(['run', '--json'])
  await agent.untilLogged(({ msg }) => msg === 'session began')
  const second = await site.run()
  assert.equal(second.code, 13)
  assert.equal(second.ends.web1!.error!.code, 'busy')
  assert.equal((await first.endWithin(60_000)).code, 0)
})

test('a destination that is not mounted is told before anything is written', async () => {
  await using site = await Site.create()
  await (await addHost(site, 'web1')).start()
  const marker = join(site.repository, 'central-backup.json')
  renameSync(marker, `${marker}.away`)
  assert.equal((await site.server('run')).code, 11)
  renameSync(`${marker}.away`, marker)
  assert.equal((await site.run()).code, 0)
})

test('an archive that a crash kept out of the catalog is taken in by the next run', async () => {
  await using site = await Site.create()
  await (await addHost(site, 'web1')).start()
  assert.equal((await site.run()).code, 0)
  for (const suffix of ['', '-wal', '-shm']) {
    try {
      unlinkSync(join(site.repository, `catalog.sqlite${suffix}`))
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT')
    }
  }
  const { code, ends } = await site.run()
  assert.equal(code, 0)
  assert.equal(ends.web1!.kind, 'incremental')
  const { runs } = JSON.parse((await site.server('list', '--json')).stdout) as { runs: unknown[] }
  assert.equal(runs.length, 2)
})
