import assert from 'node:assert/strict'
import { Duplex, duplexPair } from 'node:stream'
import { test } from 'node:test'
import { Channel, type ChannelWaits, encodeMessage, PeerError, ProtocolError } from '../src/index.ts'
import { examples } from './examples.ts'

// The deadlines are short ones; what must not happen has a deadline far beyond the test.
const far = 1_000_000
const soon = 40
const waits: ChannelWaits = { idleMs: far, messageMs: far, stallMs: far, closeMs: soon }

const archiveName = Buffer.concat(encodeMessage(examples['archive-name']!))

/** A channel whose other side never takes what the channel sends. */
function deafPeer(waits: Partial<ChannelWaits>): Channel {
  return new Channel(new Duplex({ read: () => {}, write: () => {} }), { waits })
}

function pair(own: Partial<ChannelWaits>) {
  const [a, b] = duplexPair()
  b.on('error', () => {})
  b.resume()
  return { channel: new Channel(a, { waits: { ...waits, ...own } }), stream: b }
}

async function stalls(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error: unknown = await promise.then(
    () => assert.fail('no error'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof ProtocolError && error.code === 'stalled', String(error))
  assert.match(error.message, message)
}

/** Writes a byte of `bytes` every 5 ms until the stream is closed. */
function trickle(stream: Duplex, bytes: Buffer): void {
  let at = 0
  const timer = setInterval(() => stream.write(bytes.subarray(at, ++at)), 5)
  stream.on('close', () => clearInterval(timer))
  stream.on('end', () => stream.destroy())
}

test('silence beyond the deadline ends the session', async () => {
  const { channel } = pair({ idleMs: soon })
  await stalls(channel.receive(['stored']), /nothing arrived for 0.04 s \(waiting for stored\)/)
  await channel.closed
})

test('the other side is told of the missed deadline', async () => {
  const [a, b] = duplexPair()
  const channel = new Channel(a, { waits: { ...waits, idleMs: soon } })
  const peer = new Channel(b, { waits })
  const told = peer.receive(['hello']).catch((error: unknown) => error)
  await stalls(channel.receive(['stored']), /nothing arrived/)
  const error = await told
  assert.ok(error instanceof PeerError && error.code === 'stalled')
})

test('bytes that keep coming are no silence', async () => {
  const { channel, stream } = pair({ idleMs: soon })
  trickle(stream, archiveName)
  assert.deepEqual(await channel.receive(['archive-name']), examples['archive-name'])
  stream.destroy()
  await channel.closed
})

test('a message that trickles for too long ends the session', async () => {
  const { channel, stream } = pair({ messageMs: soon })
  trickle(stream, Buffer.concat([archiveName.subarray(0, 5), Buffer.alloc(1000)]))
  await stalls(channel.receive(['archive-name']), /not complete after 0.04 s \(waiting for archive-name\)/)
  await channel.closed
})

test('a time-out of the caller covers a message that trickles', async () => {
  const { channel, stream } = pair({})
  trickle(stream, archiveName)
  await stalls(channel.receive(['archive-name'], { timeoutMs: soon }), /did not arrive in time/)
  await channel.closed
})

test('a time-out of the caller replaces the deadline for silence', async () => {
  const { channel, stream } = pair({ idleMs: 5 })
  const receiving = channel.receive(['archive-name'], { timeoutMs: far })
  setTimeout(() => stream.write(archiveName), soon)
  assert.deepEqual(await receiving, examples['archive-name'])
  channel.destroy()
})

test('silence while nobody waits is none', async () => {
  const { channel, stream } = pair({ idleMs: 20 })
  await new Promise((resolve) => setTimeout(resolve, soon))
  stream.write(archiveName)
  await channel.receive(['archive-name'])
  channel.destroy()
})

test('a peer that takes nothing of a message ends the session', async () => {
  const channel = deafPeer({ ...waits, stallMs: soon })
  await stalls(channel.send(examples['archive-name']!), /took nothing of a message/)
  await channel.closed
})

test('a peer that takes a message too slowly ends the session', async () => {
  const slow = new Duplex({ read: () => {}, write: (_piece, _encoding, done) => void setTimeout(done, 15) })
  const channel = new Channel(slow, { waits: { ...waits, stallMs: far, messageMs: soon } })
  await stalls(channel.send({ type: 'frame', payload: Buffer.alloc(4_000_000) }), /a message/)
  await channel.closed
})

test('a peer that takes a message slowly, but takes it, ends nothing', async () => {
  const slow = new Duplex({ read: () => {}, write: (_piece, _encoding, done) => void setTimeout(done, 15) })
  const channel = new Channel(slow, { waits: { ...waits, stallMs: 200 } })
  await channel.send({ type: 'frame', payload: Buffer.alloc(4_000_000) })
  channel.destroy()
})

test('fail ends in time though the other side takes nothing', async () => {
  const channel = deafPeer(waits)
  const sending = channel.send(examples['archive-name']!).catch((error: unknown) => error)
  await channel.fail(new ProtocolError('busy'))
  assert.equal(((await sending) as ProtocolError).code, 'busy')
})

test('close ends in time though the other side neither takes nor closes', async () => {
  await deafPeer(waits).close()
})

test('close ends in time though the other side goes on sending', async () => {
  const { channel, stream } = pair({})
  const timer = setInterval(() => stream.write(Buffer.alloc(1000)), 1)
  await channel.close()
  clearInterval(timer)
})

test('a session that ended leaves no timer behind', async () => {
  const { channel, stream } = pair({})
  const receiving = channel.receive(['archive-name']).catch(() => {})
  stream.write(archiveName.subarray(0, 3))
  await new Promise(setImmediate)
  const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
  const before = timers()
  channel.destroy()
  await receiving
  await channel.closed
  assert.equal(before - timers(), 2)
})
