import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import type { Server } from 'node:tls'
import { Channel, createListener, dial, type MessageOf, PeerError, ProtocolError } from '../src/index.ts'
import { createAuthority, type TestAuthority } from './certificates.ts'
import { counts } from './examples.ts'

// Whole conversations over real mutual TLS, with an agent and a server of a few lines.

let authority: TestAuthority
before(async () => {
  authority = await createAuthority()
})

const listeners: Server[] = []
after(() => {
  for (const listener of listeners) listener.close()
})

/** The server's end of a connection to an agent, which lives as long as `serve`. */
async function meet(
  serve: (channel: Channel) => Promise<void>,
): Promise<{ channel: Channel; served: Promise<void> }> {
  const served = Promise.withResolvers<void>()
  const listener = createListener(await authority.host('web1'), {
    onConnection: (socket) => serve(new Channel(socket)).then(served.resolve, served.reject),
    onRefused: served.reject,
  })
  listeners.push(listener)
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as AddressInfo
  const expect = { role: 'host', name: 'web1' } as const
  const socket = await dial({ host: '127.0.0.1', port, ...(await authority.server('main')), expect })
  return { channel: new Channel(socket), served: served.promise }
}

const request: MessageOf<'backup'> = {
  type: 'backup',
  host: 'web1',
  kind: 'full',
  base: null,
  startedAtMs: 1,
  paths: [Buffer.from('/etc')],
  exclude: [],
}
const digest = Buffer.alloc(32, 7)
const payload = Buffer.alloc(4_000_000, 1)

test('a backup goes through all its turns', async () => {
  const { channel, served } = await meet(async (agent) => {
    assert.equal((await agent.receive(['hello'])).name, 'main')
    await agent.send({ type: 'hello', protocol: 1, software: 'agent', role: 'host', name: 'web1' })
    assert.equal((await agent.receive(['authenticate'])).password, 'secret')
    await agent.send({ type: 'welcome', name: 'web1', policy: { read: [], restore: [] }, localCopy: false })
    const { paths } = await agent.receive(['backup', 'check'])
    assert.deepEqual(paths, [Buffer.from('/etc')])
    await agent.send({ type: 'archive-name', name: 'a.tar.zst' })
    await Promise.all([1, 2, 3].map(() => agent.send({ type: 'frame', payload })))
    await agent.send({ type: 'entries', payload: Buffer.from('x') })
    const totals = { archiveBytes: 12_000_001, tarBytes: 1, finishedAtMs: 2 }
    await agent.send({ type: 'summary', outcome: 'complete', counts, digest, ...totals })
    assert.deepEqual((await agent.receive(['stored'], { timeoutMs: 5000 })).digest, digest)
    await agent.send({ type: 'finished', localCopy: null })
    await agent.close()
  })
  await channel.send({ type: 'hello', protocol: 1, software: 'server', role: 'server', name: 'main' })
  await channel.receive(['hello'])
  await channel.send({ type: 'authenticate', password: 'secret' })
  await channel.receive(['welcome'])
  await channel.send(request)
  await channel.receive(['archive-name'])
  const types: string[] = []
  for (;;) {
    const message = await channel.receive(['entries', 'frame', 'warning', 'progress', 'summary'])
    types.push(message.type)
    if (message.type === 'summary') break
  }
  assert.deepEqual(types, ['frame', 'frame', 'frame', 'entries', 'summary'])
  await channel.send({ type: 'stored', digest, archiveBytes: 12_000_001 })
  assert.equal((await channel.receive(['finished'])).localCopy, null)
  await channel.close()
  await served
})

test('an agent pulls the baseline while it sends', async () => {
  const batches = [1, 2, 3].map((number) => Buffer.alloc(1_000_000, number))
  const { channel, served } = await meet(async (agent) => {
    assert.equal((await agent.receive(['backup'])).base, 'base.tar.zst')
    const sending = Promise.all([1, 2, 3, 4, 5].map(() => agent.send({ type: 'frame', payload })))
    for (const batch of batches) {
      await agent.send({ type: 'baseline-next' })
      const answer = await agent.receive(['baseline', 'baseline-end'])
      assert.ok(answer.type === 'baseline' && answer.payload.equals(batch))
    }
    await agent.send({ type: 'baseline-next' })
    assert.equal((await agent.receive(['baseline', 'baseline-end'])).type, 'baseline-end')
    await sending
    await agent.close()
  })
  await channel.send({ ...request, kind: 'incremental', base: 'base.tar.zst' })
  let [frames, asked] = [0, 0]
  while (frames < 5 || asked < 4) {
    const { type } = await channel.receive(['frame', 'baseline-next'])
    if (type === 'frame') frames++
    else {
      const batch = batches[asked++]
      await channel.send(batch ? { type: 'baseline', payload: batch } : { type: 'baseline-end' })
    }
  }
  await served
  await channel.closed
})

test('a server that sends a baseline nobody asked for is out of turn', async () => {
  const { channel, served } = await meet(async (agent) => {
    await agent.receive(['backup'])
    await agent.receive(['stored'], { timeoutMs: 5000 })
  })
  const reason = served.catch((error: unknown) => error)
  await channel.send(request)
  await channel.send({ type: 'baseline', payload: Buffer.from('x') })
  await assert.rejects(() => channel.receive(['summary']), { code: 'message-out-of-turn' })
  assert.ok((await reason) instanceof ProtocolError)
  await channel.closed
})

/** An agent that sends frames, four at a time, until something ends it. */
async function sendForever(agent: Channel): Promise<never> {
  for (;;) await Promise.all([1, 2, 3, 4].map(() => agent.send({ type: 'frame', payload })))
}

test('an agent that sends at full speed hears why the server ends the session', async () => {
  for (let round = 0; round < 5; round++) {
    const { channel, served } = await meet(sendForever)
    const reason = served.catch((error: unknown) => error)
    await channel.receive(['frame'])
    await channel.fail(new ProtocolError('storage-failed', 'no space left on device'))
    const error = await reason
    assert.ok(error instanceof PeerError, String(error))
    assert.equal(error.code, 'storage-failed')
    assert.equal(error.message, 'no space left on device')
  }
})

test('an agent that sends at full speed to a server that dies is not kept waiting', async () => {
  const { channel, served } = await meet(sendForever)
  const reason = served.catch((error: unknown) => error)
  await channel.receive(['frame'])
  channel.destroy()
  const error = await reason
  assert.ok(error instanceof ProtocolError && error.code === 'connection-lost', String(error))
})

test('a server hears of an agent that dies in the middle of a frame, after the frames before it', async () => {
  const { channel, served } = await meet(async (agent) => {
    await agent.send({ type: 'frame', payload })
    const sending = agent.send({ type: 'frame', payload }).catch(() => {})
    agent.destroy()
    await sending
  })
  assert.ok((await channel.receive(['frame'])).payload.equals(payload))
  await assert.rejects(() => channel.receive(['frame']), { code: 'connection-lost' })
  await served
  await channel.closed
})
