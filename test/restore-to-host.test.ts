/** Restores through the agent of a host: what comes back, what is refused, and what becomes of one that is broken off. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacksMount, Mount } from './harness/mount.ts'
import { type Ended, type JsonLine, patienceMs, runCommand } from './harness/program.ts'
import { BreakingProxy } from './harness/proxy.ts'
import { type HostOptions, type Said, Site, type TestHost } from './harness/site.ts'
import { linesOf, readSnapshot } from './harness/snapshot.ts'
import { noise, prose, writeTree } from './harness/tree.ts'

/** A host that may be restored to below `folder`, which is made, and whose agent is at work. */
async function addReceiver(
  site: Site,
  name: string,
  folders: readonly string[],
  options: HostOptions = {},
): Promise<TestHost> {
  for (const folder of folders) mkdirSync(folder, { recursive: true })
  const host = await site.addHost(name, options)
  host.configure((text) => text.replace('read = ["/"]', `read = ["/"]\nrestore = ${JSON.stringify(folders)}`))
  await host.start()
  return host
}

/** A tree with something of each kind. */
function fillTree(tree: string): void {
  writeTree(tree, {
    'etc/hosts': 'hosts\n',
    'etc/empty': '',
    'etc/deep/er/file': noise(70_000, 'deep'),
    'srv/large': prose(9_000_000, 'large'),
    'srv/noise': noise(5_000_000, 'noise'),
    'srv/first': 'two names\n',
  })
  for (let i = 0; i < 300; i++) writeTree(tree, { [`many/${i % 7}/file-${i}`]: prose(i * 97, `file ${i}`) })
  linkSync(join(tree, 'srv/first'), join(tree, 'etc/second'))
  linkSync(join(tree, 'srv/first'), join(tree, 'srv/third'))
  writeTree(tree, { 'srv/sparse': 'data, and after it a hole' })
  truncateSync(join(tree, 'srv/sparse'), 50_000_000)
  symlinkSync('../srv/large', join(tree, 'etc/link'))
  symlinkSync('/nowhere', join(tree, 'etc/dangling'))
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/etc/caf`), Buffer.from([0xe9, 0x0a])]), 'odd name')
  chmodSync(join(tree, 'etc/hosts'), 0o4640)
  chmodSync(join(tree, 'etc/deep'), 0o2750)
  utimesSync(join(tree, 'etc/deep/er'), 1_600_000_000.5, 1_600_000_000.5)
  utimesSync(join(tree, 'many'), 1, 1)
}

function errorOf({ json, stdout, stderr }: Said | Ended): { code: string; message: string; hint?: string } {
  const { error } = json.at(-1) as JsonLine & { error: { code: string; message: string; hint?: string } }
  assert.ok(error, stdout + stderr)
  return error
}

function endOf({ json, stdout, stderr }: Ended): JsonLine & {
  restored: Record<string, number>
  equal: number
  damaged: number
  notSet: Record<string, { count: number; reason: string; examples: string[] }>
} {
  const end = json.find(({ event }) => event === 'end')
  assert.ok(end, stdout + stderr)
  return end as ReturnType<typeof endOf>
}

function temporaryNames(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true }) as string[]
  return names.filter((name) => name.includes('.central-backup-restore-'))
}

const treeOf = (folder: string) => linesOf(readSnapshot(folder))

test('a host gets back what stood there, in the one folder that it allows, and nothing twice', async () => {
  await using site = await Site.create()
  const folder = site.at('restored')
  const tree = site.tree('web1')
  fillTree(tree)
  await addReceiver(site, 'web1', [folder])
  assert.equal((await site.run()).code, 0)
  const restored = join(folder, tree)
  const ended = await site.server('restore', 'web1', '--to-host', '--json')
  assert.equal(ended.code, 0, ended.stdout + ended.stderr)
  const begin = ended.json.find(({ event }) => event === 'begin')!
  assert.deepEqual([begin.host, begin.toHost, begin.target], ['web1', 'web1', folder])
  assert.deepEqual(treeOf(restored), treeOf(tree))
  assert.equal(endOf(ended).restored.hardlinks, 2)
  assert.ok(statSync(join(restored, 'srv/sparse')).blocks < 1000, 'holes are holes')
  assert.deepEqual(temporaryNames(folder), [])

  const again = await site.server('restore', 'web1', '--to-host', 'web1')
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stderr, /restored 0 files with 0 B, 0 folders, 0 links; \d+ were there already/)
  assert.match(again.stderr, new RegExp(`to ${folder} on web1`))

  rmSync(join(restored, 'etc/hosts'))
  writeFileSync(join(restored, 'many/3/file-3'), 'changed')
  const third = await site.server('restore', 'web1', `${tree}/etc`, `${tree}/many`, '--to-host', '--json')
  assert.equal(endOf(third).restored.files, 1)
  assert.equal(endOf(third).kept, 1)
  const fourth = await site.server('restore', 'web1', '--to-host', '--overwrite', 'always', '--json')
  assert.equal(endOf(fourth).restored.files, 1)
  assert.deepEqual(treeOf(restored), treeOf(tree))

  const check = await site.server('check', 'web1', '--json')
  assert.deepEqual(JSON.parse(check.stdout).hosts[0].agent.allowRestore, [folder])
  const log = site.serverLog().find(({ msg }) => msg?.includes('restore of run 1 to web1 ended'))
  assert.ok(log)
})

test('another host gets paths of that one, as they stood then, below the folder that is named', async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  fillTree(tree)
  const web1 = await site.addHost('web1')
  await web1.start()
  await addReceiver(site, 'web2', [site.at('a'), site.at('b')])
  assert.equal((await site.run('web1')).code, 0)
  const before = treeOf(join(tree, 'etc'))
  writeFileSync(join(tree, 'etc/hosts'), 'newer')
  assert.equal((await site.run('web1')).code, 0)
  await web1.stop()

  const target = site.at('b/new/folder')
  const args = ['restore', 'web1', `${tree}/etc`, '--to-host', 'web2', '--at', '1', '--json']
  const several = await site.server(...args)
  assert.equal(several.code, 2)
  assert.match(errorOf(several).message, /several folders/)
  const ended = await site.server(...args, '--target', target)
  assert.equal(ended.code, 0, ended.stdout + ended.stderr)
  // Of the names of one object only the selected one is there, with the content of the first.
  assert.deepEqual(treeOf(join(target, tree, 'etc')), before)
  assert.ok(!existsSync(join(target, tree, 'srv')))
  assert.equal(statSync(site.at('b/new')).mode & 0o777, 0o700)
  assert.deepEqual(readdirSync(site.at('a')), [])
})

test('what a host does not allow is refused before any work, in one way whatever is there', async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  writeTree(tree, { 'etc/hosts': 'hosts\n' })
  const web1 = await site.addHost('web1')
  await web1.start()
  await addReceiver(site, 'web2', [site.at('allowed')])
  assert.equal((await site.run('web1')).code, 0)
  const refusals = new Set<string>()
  const refused = async (...args: string[]) => {
    const ended = await site.ask('restore', 'web1', '--json', ...args)
    assert.equal(ended.code, 1, ended.stdout)
    const { code, message, hint } = errorOf(ended)
    assert.equal(code, 'policy-denied')
    assert.deepEqual(ended.json.length, 1, 'nothing was begun')
    refusals.add(`${message} ${hint}`)
  }
  await refused('--to-host')
  await refused('--to-host', '--target', '/etc')
  assert.equal(refusals.size, 1)
  refusals.clear()
  for (const target of ['/', '/etc', '/nothing', site.at('allowed/../hosts'), site.at('allowed2')])
    await refused('--to-host', 'web2', '--target', target)
  await refused('--to-host', 'web2', '--target', '/etc', '--dry-run')
  assert.equal(refusals.size, 1)
  assert.match([...refusals][0]!, /allow\.restore.*allowed/)

  const usage = async (...args: string[]) => {
    const ended = await site.ask('restore', 'web1', '--json', ...args)
    assert.equal(ended.code, 2, ended.stdout)
    return errorOf(ended).message
  }
  assert.match(await usage('--to-host', 'web2', '--target', 'relative'), /no absolute path/)
  assert.match(await usage('--to-host', `${tree}/etc`), /which is no host/)
  assert.match(await usage('--to-host', 'web3'), /no host web3/)
  assert.match(await usage(), /Nothing says where/)
  await site.hosts[1]!.stop()
  assert.equal((await site.server('restore', 'web1', '--to-host', 'web2')).code, 10)
})

test('a host that allows all is restored to only where the folder is named', async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  writeTree(tree, { 'etc/hosts': 'hosts\n', 'etc/motd': 'hello\n' })
  const host = await site.addHost('web1')
  host.configure((text) => text.replace('read = ["/"]', 'read = ["/"]\nrestore = ["/"]'))
  await host.start()
  assert.equal((await site.run()).code, 0)
  const unnamed = await site.server('restore', 'web1', '--to-host', '--json')
  assert.equal(unnamed.code, 2)
  assert.match(errorOf(unnamed).hint!, /--target \/ in place/)
  const before = treeOf(tree)
  rmSync(join(tree, 'etc'), { recursive: true })
  const ended = await site.server('restore', 'web1', `${tree}/etc`, '--to-host', '--target', '/', '--json')
  assert.equal(ended.code, 0, ended.stdout)
  assert.deepEqual(
    treeOf(join(tree, 'etc')),
    before.slice(1).map((line) => line.replace(/^"etc\/?/, '"')),
  )
})

test('a dry run tells what the agent would do, and nothing is done', async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  fillTree(tree)
  const folder = site.at('restored')
  await addReceiver(site, 'web1', [folder])
  assert.equal((await site.run()).code, 0)
  const here = await site.server('restore', 'web1', '--target', folder, '--dry-run')
  const there = await site.server('restore', 'web1', '--to-host', '--dry-run')
  assert.equal(there.code, 0, there.stderr)
  assert.equal(there.stdout, here.stdout)
  assert.deepEqual(readdirSync(folder), [])
  await site.server('restore', 'web1', `${tree}/etc`, '--to-host')
  writeFileSync(join(folder, tree, 'etc/hosts'), 'other')
  const before = treeOf(folder)
  const planned = await site.server('restore', 'web1', '--to-host', '--dry-run', '--json')
  const steps = planned.json.filter(({ event }) => event === 'entry')
  const action = (path: string) => steps.find((step) => step.path === `${tree}/${path}`)?.action
  assert.deepEqual(['etc/hosts', 'etc/link', 'etc/second', 'srv/large'].map(action), [
    'keep',
    'equal',
    'equal',
    'create',
  ])
  assert.ok(Number(endOf(planned).create) > 300)
  assert.deepEqual(treeOf(folder), before)
})

test('damage in an archive costs the files in it, which are named, and exits 3', async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  fillTree(tree)
  const folder = site.at('restored')
  await addReceiver(site, 'web1', [folder])
  assert.equal((await site.run()).code, 0)
  const [archive] = site.archives('web1')
  const bytes = readFileSync(archive!)
  const middle = Math.floor(bytes.length / 2)
  bytes.fill(0x5a, middle, middle + 100)
  chmodSync(archive!, 0o600)
  writeFileSync(archive!, bytes)
  const ended = await site.server('restore', 'web1', '--to-host', '--json')
  assert.equal(ended.code, 3, ended.stdout)
  const damaged = ended.json.filter(({ event }) => event === 'damaged').map(({ path }) => String(path))
  assert.ok(damaged.length > 0 && damaged.length === endOf(ended).damaged)
  const restored = new Set(treeOf(join(folder, tree)))
  const missing = treeOf(tree).filter((line) => !restored.has(line))
  const lost = damaged.map((path) => JSON.stringify(path.slice(tree.length + 1)))
  for (const line of missing)
    assert.ok(
      lost.some((path) => line.startsWith(path)),
      line,
    )
  assert.deepEqual(temporaryNames(folder), [])
})

/** A host that is dialed through a proxy, with a backup of 14 MB in some 300 files. */
async function breakableSite(site: Site) {
  const tree = site.tree('web1')
  fillTree(tree)
  const folder = site.at('restored')
  const host = await addReceiver(site, 'web1', [folder])
  assert.equal((await site.run()).code, 0)
  const proxy = await BreakingProxy.start(host.port)
  host.setPort(proxy.port)
  const restored = join(folder, tree)
  /** A restore that was broken off has left nothing half done, and the next one goes on from there. */
  const goesOn = async () => {
    assert.deepEqual(temporaryNames(folder), [])
    const done = readdirSync(folder, { recursive: true }).length
    assert.ok(done > 0, 'it had begun')
    const ended = await site.server('restore', 'web1', '--to-host', '--json')
    assert.equal(ended.code, 0, ended.stdout + ended.stderr)
    assert.deepEqual(treeOf(restored), treeOf(tree))
    return endOf(ended)
  }
  return { host, proxy, folder, goesOn }
}

test('Ctrl-C ends a restore on the host in good order, and the next one goes on', async () => {
  await using site = await Site.create()
  const { proxy, host, goesOn } = await breakableSite(site)
  using _ = proxy
  const program = site.startServer(['restore', 'web1', '--to-host'])
  void proxy.arm({
    direction: 'fromServer',
    afterBytes: 3_000_000,
    what: 'none',
    onStrike: () => program.kill('SIGINT'),
  })
  const ended = await program.endWithin(patienceMs)
  assert.equal(ended.code, 130, ended.stderr)
  const line = await host.agent.untilLogged(({ code }) => code !== undefined)
  assert.equal(line.code, 'cancelled')
  await goesOn()
})

test('a connection that breaks ends a restore in good order on both sides, and the next one goes on', async () => {
  await using site = await Site.create()
  const { proxy, host, goesOn } = await breakableSite(site)
  using _ = proxy
  for (const what of ['cut', 'reset'] as const) {
    const struck = proxy.arm({ direction: 'fromServer', afterBytes: 3_000_000, what })
    const logged = host.agent.log.length
    const ended = await site.server('restore', 'web1', '--to-host', '--overwrite', 'always', '--json')
    await struck
    assert.equal(ended.code, 1, ended.stdout)
    assert.equal(errorOf(ended).code, 'connection-lost')
    await host.agent.untilLogged(({ code }) => code === 'connection-lost', logged)
    rmSync(join(site.at('restored'), site.tree('web1'), 'srv'), { recursive: true, force: true })
  }
  const { equal } = await goesOn()
  assert.ok(equal > 0, 'what was there was not restored again')
})

test('an agent that is told to end, and one that is killed, leave what the next restore completes', async () => {
  await using site = await Site.create()
  const { proxy, host, folder, goesOn } = await breakableSite(site)
  using _ = proxy
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    void proxy.arm({
      direction: 'fromServer',
      afterBytes: 3_000_000,
      what: 'none',
      onStrike: () => host.agent.kill(signal),
    })
    const ended = await site.server('restore', 'web1', '--to-host', '--json')
    assert.equal(ended.code, 1, ended.stdout)
    await host.agent.endWithin(patienceMs)
    if (signal === 'SIGTERM') assert.deepEqual(temporaryNames(folder), [])
    else assert.ok(temporaryNames(folder).length <= 1)
    for (const name of temporaryNames(folder)) rmSync(join(folder, name))
    await host.start({ keepModule: true })
    proxy.targetPort = host.port
  }
  await goesOn()
})

test('a full disk on the host ends the restore with an error that says so', {
  skip: lacksMount('tmpfs'),
}, async () => {
  using mount = Mount.tmpfs('size=8m')
  await using site = await Site.create()
  fillTree(site.tree('web1'))
  await addReceiver(site, 'web1', [mount.path])
  assert.equal((await site.run()).code, 0)
  const ended = await site.server('restore', 'web1', '--to-host', '--json')
  assert.equal(ended.code, 1, ended.stdout)
  const { code, message } = errorOf(ended)
  assert.equal(code, 'target-failed')
  assert.match(message, /ENOSPC/)
  assert.deepEqual(temporaryNames(mount.path), [])
  mount.remount('size=64m')
  assert.equal((await site.server('restore', 'web1', '--to-host')).code, 0)
  assert.deepEqual(treeOf(join(mount.path, site.tree('web1'))), treeOf(site.tree('web1')))
})

const noFreeze =
  lacksMount('ext4') ||
  ((await runCommand(['sh', '-c', 'command -v fsfreeze'])).code === 0
    ? false
    : 'this machine has no fsfreeze')

test('a target that hangs ends the restore, and holds up no other session of the agent', {
  skip: noFreeze,
}, async () => {
  using mount = Mount.ext4(64)
  await using site = await Site.create()
  fillTree(site.tree('web1'))
  const settings = '[limits]\nread_stall_seconds = 2'
  const host = await addReceiver(site, 'web1', [join(mount.path, 'restored')], { settings })
  assert.equal((await site.run()).code, 0)
  await runCommand(['fsfreeze', '--freeze', mount.path])
  try {
    const hanging = site.startServer(['restore', 'web1', '--to-host', '--json'])
    await host.agent.untilLogged(({ msg }) => msg?.includes('a restore of web1') ?? false)
    assert.equal((await site.run()).code, 0, 'a backup beside it')
    const ended = await hanging.endWithin(patienceMs)
    assert.equal(ended.code, 1, ended.stdout)
    assert.equal(errorOf(ended).code, 'target-failed')
    assert.match(errorOf(ended).message, /did not answer for 2 s at \//)
  } finally {
    await runCommand(['fsfreeze', '--unfreeze', mount.path])
  }
  assert.equal((await site.server('restore', 'web1', '--to-host')).code, 0)
})

const noSetpriv =
  process.geteuid!() !== 0
    ? 'only root can give files to others'
    : (await runCommand(['setpriv', '--bounding-set=-chown', 'true'])).code === 0
      ? false
      : 'this machine has no setpriv'

test('what the agent cannot set is told once for each kind, with examples, and exits 0', {
  skip: noSetpriv,
}, async () => {
  await using site = await Site.create()
  const tree = site.tree('web1')
  writeTree(tree, Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`file-${i}`, 'x'])))
  for (const name of readdirSync(tree)) chownSync(join(tree, name), 4711, 4711)
  chmodSync(join(tree, 'file-0'), 0o4755)
  const folder = site.at('restored')
  const host = await addReceiver(site, 'web1', [folder])
  await host.stop()
  await host.start({ wrapper: ['setpriv', '--bounding-set=-chown'] })
  assert.equal((await site.run()).code, 0)
  const ended = await site.server('restore', 'web1', '--to-host', '--json')
  assert.equal(ended.code, 0, ended.stdout)
  const { owner, mode } = endOf(ended).notSet
  assert.deepEqual([owner!.count, owner!.examples.length, mode!.count], [9, 5, 1])
  assert.match(owner!.reason, /EPERM/)
  assert.deepEqual(mode!.examples, [join(tree, 'file-0')])
  assert.equal(statSync(join(folder, tree, 'file-0')).mode & 0o7777, 0o755)
})
