/** Many hosts in one run: how many at a time, in what order, and what the slow and the broken cost the others. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArchiveReader } from '@central-backup/archive'
import { FakeAgent } from './harness/fake-agent.ts'
import { honestPack, messagesOf, sending } from './harness/pack.ts'
import { type JsonLine, patienceMs } from './harness/program.ts'
import { readRun, Site } from './harness/site.ts'

type Script = FakeAgent['script']

const behave = sending()

/** Hosts whose agents are played by the test. */
async function addHosts(site: Site, scripts: Readonly<Record<string, Script>>): Promise<AsyncDisposable> {
  const agents: FakeAgent[] = []
  for (const [name, script] of Object.entries(scripts)) {
    const agent = await FakeAgent.start(await site.addHost(name))
    agent.script = script
    agents.push(agent)
  }
  return {
    [Symbol.asyncDispose]: async () => {
      for (const agent of agents) await agent[Symbol.asyncDispose]()
    },
  }
}

/** How many hosts were at work after each line. */
function atWork(lines: readonly JsonLine[]): number[] {
  let count = 0
  return lines.map(({ event }) => {
    if (event === 'begin') count++
    if (event === 'end') count--
    return count
  })
}

test('as many hosts as the settings say are backed up at a time, and a slow one holds up no other', async () => {
  await using site = await Site.create({ settings: 'concurrency: 2, connection: { attempts: 1 },' })
  const others = Promise.withResolvers<void>()
  const slow: Script = async (conversation) => {
    await conversation.channel.send({ type: 'archive-name', name: conversation.archive })
    await others.promise
    const { channel, request } = conversation
    for (const message of messagesOf(honestPack(request))) await channel.send(message)
    await channel.receive(['stored'])
    await channel.send({ type: 'finished', localCopy: null })
  }
  await using _ = await addHosts(site, { a: slow, b: behave, c: behave, d: behave })
  const program = site.startServer(['run', '--json'])
  // All others end while the first is still at work: only then does it go on.
  await program.until(() => program.json.filter(({ event }) => event === 'end')[2])
  assert.deepEqual(
    program.json.filter(({ event }) => event === 'end').map(({ host }) => host),
    ['b', 'c', 'd'],
  )
  others.resolve()
  const { code, ends, json } = readRun(await program.endWithin(patienceMs))
  assert.equal(code, 0)
  assert.deepEqual(
    Object.values(ends).map(({ outcome }) => outcome),
    Array(4).fill('complete'),
  )
  assert.deepEqual(
    json.filter(({ event }) => event === 'begin').map(({ host }) => host),
    ['a', 'b', 'c', 'd'],
  )
  assert.equal(Math.max(...atWork(json)), 2)
})

test('a run that has begun is never begun again by itself, however often a connection may be tried', async () => {
  await using site = await Site.create({ settings: "connection: { attempts: 50, pause: '10 ms' }," })
  let sessions = 0
  const hangsUp: Script = async ({ channel, socket, request, archive }) => {
    sessions++
    await channel.send({ type: 'archive-name', name: archive })
    await channel.send(messagesOf(honestPack(request))[0]!)
    socket.destroy()
  }
  await using _ = await addHosts(site, { web1: hangsUp })
  const { code, ends, json } = await site.run()
  assert.equal(sessions, 1)
  assert.ok(!json.some(({ event }) => event === 'retry'))
  assert.equal(ends.web1!.error!.code, 'connection-lost')
  assert.ok([1, 3].includes(code!), `exit code ${code}`)
})

test('what the agents of several hosts do wrong, each in its way, is the result of each, and the worst decides', async () => {
  await using site = await Site.create()
  const says = (code: 'busy' | 'policy-denied' | 'source-failed'): Script => {
    return async ({ channel }) => {
      await channel.send({ type: 'error', code, message: `because of ${code}`, hint: '' })
    }
  }
  await using _ = await addHosts(site, {
    a: says('busy'),
    b: behave,
    c: says('source-failed'),
    d: says('policy-denied'),
    e: async ({ channel }) => channel.destroy(),
  })
  const run = async (...names: string[]) => {
    const { code, ends } = await site.run('--full', ...names)
    return [code, ...names.map((name) => ends[name]!.error?.code ?? ends[name]!.outcome)]
  }
  assert.deepEqual(await run('b'), [0, 'complete'])
  assert.deepEqual(await run('a', 'b'), [13, 'busy', 'complete'])
  assert.deepEqual(await run('a', 'b', 'c', 'd', 'e'), [
    1,
    'busy',
    'complete',
    'source-failed',
    'policy-denied',
    'connection-lost',
  ])
})

test('the lines of --json tell all of a run, in order, and its end has what the archive has', async () => {
  await using site = await Site.create()
  const warns: Script = async (conversation) => {
    const { channel, request, archive } = conversation
    await channel.send({ type: 'archive-name', name: archive })
    await channel.send({
      type: 'progress',
      phase: 'select',
      entries: 0,
      contentBytes: 0,
      path: Buffer.from('/srv'),
    })
    await channel.send({
      type: 'warning',
      code: 'vanished',
      path: Buffer.from('/srv/caf\xe9\n', 'latin1'),
      message: 'gone',
    })
    for (const message of messagesOf(honestPack(request))) await channel.send(message)
    await channel.receive(['stored'])
    await channel.send({ type: 'finished', localCopy: { kept: true, name: archive } })
  }
  await using _ = await addHosts(site, { web1: warns })
  const { code, stdout, json, ends, warnings } = await site.run()
  assert.equal(code, 0)
  assert.equal(stdout.trimEnd().split('\n').length, json.length, 'each line is one object')
  const events = json.map(({ event }) => event).filter((event) => event !== 'progress')
  assert.deepEqual(events, ['begin', 'connected', 'warning', 'end'])
  assert.equal(json[1]!.software, 'fake-agent 1')
  assert.deepEqual([warnings[0]!.code, warnings[0]!.message], ['vanished', 'gone'])
  assert.match(String(warnings[0]!.path), /^\/srv\/caf/)
  const end = ends.web1!
  await using reader = await ArchiveReader.open(site.archives('web1')[0]!)
  assert.equal(end.archive!.bytes, reader.archiveBytes)
  assert.match(end.archive!.digest, /^[0-9a-f]{64}$/)
  assert.deepEqual([end.counts.files, end.contentBytes, end.warningCount], [3, 200_011, 1])
  assert.deepEqual(end.localCopy, { kept: true, name: end.archive!.name })
  assert.ok(end.finishedAtMs >= end.startedAtMs)

  const [run] = JSON.parse((await site.server('list', 'web1', '--json')).stdout).runs
  assert.deepEqual([run.id, run.outcome, run.archive.name], [end.run, 'complete', end.archive!.name])
  const plain = await site.server('list', 'web1')
  assert.match(plain.stdout, new RegExp(`web1 .* complete .*${end.archive!.name}`))
  const nobody = await site.server('list', 'nobody')
  assert.match(nobody.stdout + nobody.stderr, /nobody/)
})
