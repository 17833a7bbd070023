import assert from 'node:assert/strict'
import { Duplex, duplexPair } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { Channel, type ChannelWaits, encodeMessage, PeerError, ProtocolError } from '../src/index.ts'
import { examples } from './examples.ts'
import { HandClock } from './hand-clock.ts'

const soon = 40
/** What must not happen has a deadline far beyond the test. */
const far = 1_000_000
const waits: ChannelWaits = { idleMs: far, messageMs: far, stallMs: far, closeMs: soon }

const archiveName = Buffer.concat(encodeMessage(examples['archive-name']!))

let clock: HandClock
beforeEach(() => {
  clock = new HandClock()
})
afterEach(() => clock[Symbol.dispose]())

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

/** A stream that takes a piece every 15 ms. */
function slowPeer(): Duplex {
  return new Duplex({ read: () => {}, write: (_piece, _encoding, done) => void setTimeout(done, 15) })
}

/** Fails unless `promise` is not settled a millisecond before `ms` have passed, and is rejected as stalled then. */
async function stallsAfter(ms: number, promise: Promise<unknown>, message: RegExp): Promise<void> {
  const ends: unknown[] = []
  promise.then(
    () => ends.push('no error'),
    (reason: unknown) => ends.push(reason),
  )
  await clock.pass(ms - 1)
  assert.equal(ends.length, 0, 'too early')
  await clock.pass(1)
  const [error] = ends
  assert.ok(error instanceof ProtocolError && error.code === 'stalled', String(error))
  assert.match(error.message, message)
}

/** Ends by itself, once the time has passed that is given for that. */
async function closes(channel: Channel): Promise<void> {
  await clock.pass(soon)
  await channel.closed
  assert.equal(clock.running, 0, 'a timer is left')
}

/** Writes a byte of `bytes` every 5 ms, until all are written or the stream is closed. */
function trickle(stream: Duplex, bytes: Buffer): void {
  let at = 0
  const write = () => {
    if (at === bytes.length || stream.destroyed) return
    stream.write(bytes.subarray(at, ++at))
    setTimeout(write, 5)
  }
  setTimeout(write, 5)
  stream.on('end', () => stream.destroy())
}

test('silence beyond the deadline ends the session', async () => {
  const { channel } = pair({ idleMs: soon })
  await stallsAfter(soon, channel.receive(['stored']), /nothing arrived for 0.04 s \(waiting for stored\)/)
  await closes(channel)
})

test('the other side is told of the missed deadline', async () => {
  const [a, b] = duplexPair()
  const channel = new Channel(a, { waits: { ...waits, idleMs: soon } })
  const peer = new Channel(b, { waits })
  const told = peer.receive(['hello']).catch((error: unknown) => error)
  await stallsAfter(soon, channel.receive(['stored']), /nothing arrived/)
  const error = await told
  assert.ok(error instanceof PeerError && error.code === 'stalled')
})

test('bytes that keep coming are no silence', async () => {
  const { channel, stream } = pair({ idleMs: 6 })
  trickle(stream, archiveName)
  const receiving = channel.receive(['archive-name'])
  await clock.pass(5 * archiveName.length)
  assert.deepEqual(await receiving, examples['archive-name'])
  stream.destroy()
  await closes(channel)
})

test('a message that trickles for too long ends the session', async () => {
  const { channel, stream } = pair({ messageMs: soon })
  trickle(stream, Buffer.concat([archiveName.subarray(0, 5), Buffer.alloc(1000)]))
  // It begins with its first byte.
  await stallsAfter(
    5 + soon,
    channel.receive(['archive-name']),
    /not complete after 0.04 s \(waiting for archive-name\)/,
  )
  await channel.closed
})

test('a time-out of the caller covers a message that trickles', async () => {
  const { channel, stream } = pair({})
  trickle(stream, archiveName)
  await stallsAfter(soon, channel.receive(['archive-name'], { timeoutMs: soon }), /did not arrive in time/)
  await channel.closed
})

test('a time-out of the caller replaces the deadline for silence', async () => {
  const { channel, stream } = pair({ idleMs: 5 })
  const receiving = channel.receive(['archive-name'], { timeoutMs: far })
  await clock.pass(far - 1)
  stream.write(archiveName)
  await clock.pass(0)
  assert.deepEqual(await receiving, examples['archive-name'])
  channel.destroy()
})

test('silence while nobody waits is none', async () => {
  const { channel, stream } = pair({ idleMs: 20 })
  await clock.pass(far)
  stream.write(archiveName)
  await channel.receive(['archive-name'])
  channel.destroy()
})

test('a peer that takes nothing of a message ends the session', async () => {
  const channel = deafPeer({ ...waits, stallMs: soon })
  // Whoever sends hears of it when the connection is closed.
  await stallsAfter(soon + soon, channel.send(examples['archive-name']!), /took nothing of a message/)
  await closes(channel)
})

test('a peer that takes a message too slowly ends the session', async () => {
  const channel = new Channel(slowPeer(), { waits: { ...waits, messageMs: soon } })
  const frame = { type: 'frame', payload: Buffer.alloc(4_000_000) } as const
  await stallsAfter(soon + soon, channel.send(frame), /a message/)
  await closes(channel)
})

test('a peer that takes a message slowly, but takes it, ends nothing', async () => {
  const channel = new Channel(slowPeer(), { waits: { ...waits, stallMs: 16 } })
  const sending = channel.send({ type: 'frame', payload: Buffer.alloc(4_000_000) })
  await clock.pass(100 * 15)
  await sending
  channel.destroy()
})

test('fail ends in time though the other side takes nothing', async () => {
  const channel = deafPeer(waits)
  const sending = channel.send(examples['archive-name']!).catch((error: unknown) => error)
  const failing = channel.fail(new ProtocolError('busy'))
  await clock.pass(soon)
  await failing
  assert.equal(((await sending) as ProtocolError).code, 'busy')
})

test('close ends in time though the other side neither takes nor closes', async () => {
  const closing = deafPeer(waits).close()
  await clock.pass(soon)
  await closing
})

test('close ends in time though the other side goes on sending', async () => {
  const { channel, stream } = pair({})
  trickle(stream, Buffer.alloc(1000))
  const closing = channel.close()
  await clock.pass(soon)
  await closing
})

test('a session that ended leaves no timer behind', async () => {
  const { channel, stream } = pair({})
  const receiving = channel.receive(['archive-name']).catch(() => {})
  stream.write(archiveName.subarray(0, 3))
  await clock.pass(0)
  assert.equal(clock.running, 2)
  channel.destroy()
  await receiving
  await channel.closed
  assert.equal(clock.running, 0)
})
