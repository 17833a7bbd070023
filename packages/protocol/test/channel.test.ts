import assert from 'node:assert/strict'
import { type Duplex, duplexPair } from 'node:stream'
import { after, test } from 'node:test'
import {
  Channel,
  type ChannelOptions,
  dataPayloadBytesMax,
  encodeMessage,
  type Message,
  PeerError,
  ProtocolError,
  type ProtocolErrorCode,
} from '../src/index.ts'
import { examples } from './examples.ts'

const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => unhandled.push(reason))
after(() => assert.deepEqual(unhandled, []))

const frame = (bytes: number, fill = 1): Message => ({ type: 'frame', payload: Buffer.alloc(bytes, fill) })
const busy = new ProtocolError('busy', 'a run is under way', { hint: 'wait' })

/** Two channels that talk to each other, and the streams below them. */
function pair(mine: ChannelOptions = {}, theirs: ChannelOptions = {}) {
  const [a, b] = duplexPair()
  return { channel: new Channel(a, mine), peer: new Channel(b, theirs), a, b }
}

/** A channel, and its other side as a bare stream, which collects what the channel sends. */
function half(options: ChannelOptions = {}) {
  const [a, b] = duplexPair()
  const sent: Buffer[] = []
  b.on('data', (piece: Buffer) => sent.push(piece))
  b.on('error', () => {})
  return {
    channel: new Channel(a, options),
    stream: b,
    own: a,
    sentText: () => Buffer.concat(sent).toString('latin1'),
  }
}

function write(stream: Duplex, ...messages: Message[]): void {
  for (const message of messages) stream.write(Buffer.concat(encodeMessage(message)))
}

async function fails(promise: Promise<unknown>, code: ProtocolErrorCode): Promise<ProtocolError> {
  const error = await promise.then(
    () => assert.fail(`no error ${code}`),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof ProtocolError, `a ProtocolError, not ${error}`)
  assert.equal(error.code, code)
  return error
}

test('messages arrive in the order in which they were sent', async () => {
  const { channel, peer } = pair()
  const all = Object.values(examples).filter((message) => message.type !== 'error')
  const sending = Promise.all(all.map((message) => channel.send(message)))
  for (const message of all) assert.deepEqual(await peer.receive([message.type]), message)
  await sending
  await Promise.all([channel.close(), peer.close()])
})

test('frames beyond what a stream buffers arrive whole', async () => {
  const { channel, peer } = pair()
  const sending = Promise.all([1, 2, 3].map((fill) => channel.send(frame(dataPayloadBytesMax, fill))))
  for (const fill of [1, 2, 3]) {
    const { payload } = await peer.receive(['frame'])
    assert.ok(payload.equals(Buffer.alloc(dataPayloadBytesMax, fill)))
  }
  await sending
  await Promise.all([channel.close(), peer.close()])
})

test('a message that is not due ends the session, and the other side is told', async () => {
  const { channel, peer } = pair()
  const told = fails(channel.receive(['welcome']), 'message-out-of-turn')
  await channel.send(examples['hello of a server']!)
  const error = await fails(peer.receive(['authenticate']), 'message-out-of-turn')
  assert.equal(error.message, 'a message hello arrived where authenticate was due')
  assert.ok((await told) instanceof PeerError)
  await Promise.all([channel.closed, peer.closed])
})

test('a message that was read ahead and is not due after all ends the session as well', async () => {
  const { channel, stream } = half()
  write(stream, examples['hello of a server']!, examples['hello of a server']!)
  await channel.receive(['hello'])
  await fails(channel.receive(['authenticate']), 'message-out-of-turn')
  stream.destroy()
  await channel.closed
})

test('nothing is kept of the payload of a message that nobody asked for', async () => {
  const { channel, stream, own } = half()
  let written = 0
  const piece = Buffer.alloc(65_536)
  stream.write(encodeMessage(frame(dataPayloadBytesMax))[0]!)
  const more = () =>
    stream.write(piece, () => {
      written += piece.length
      if (written < dataPayloadBytesMax) more()
    })
  more()
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  assert.ok(own.isPaused())
  assert.ok(written <= 4 * piece.length, `${written} bytes were taken`)
  await fails(channel.receive(['hello']), 'message-out-of-turn')
  stream.destroy()
})

test('no more than two messages are read ahead', async () => {
  const { channel, peer, b } = pair()
  const flushed: number[] = []
  const sends = [1, 2, 3, 4, 5, 6].map(async (fill) => {
    await channel.send(frame(1_000_000, fill))
    flushed.push(fill)
  })
  assert.equal((await peer.receive(['frame'])).payload[0], 1)
  while (!b.isPaused()) await new Promise(setImmediate)
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  assert.deepEqual(flushed, [1, 2, 3])
  for (const fill of [2, 3, 4, 5, 6]) assert.equal((await peer.receive(['frame'])).payload[0], fill)
  await Promise.all(sends)
  await Promise.all([channel.close(), peer.close()])
})

test('an error message of the other side is thrown with its code, message and hint', async () => {
  const { channel, peer } = pair()
  const receiving = channel.receive(['welcome'])
  await peer.fail(busy)
  const error = await fails(receiving, 'busy')
  assert.ok(error instanceof PeerError)
  assert.equal(error.message, 'a run is under way')
  assert.equal(error.hint, 'wait')
  await channel.closed
})

test('an error message reaches a side that only sends', async () => {
  const { channel, peer } = pair()
  const ended = new Promise((resolve) => channel.ended.addEventListener('abort', resolve, { once: true }))
  const send = channel.send(frame(dataPayloadBytesMax))
  void peer.fail(busy)
  await ended
  await fails(send, 'busy')
  await fails(channel.send(frame(1)), 'busy')
  assert.equal(channel.ended.reason.code, 'busy')
})

test('an error code of a later version is kept, and taken for an internal error', async () => {
  const { channel, stream } = half()
  write(stream, { type: 'error', code: 'moon-phase', message: 'wait\nfor it' })
  const error = await fails(channel.receive(['hello']), 'internal')
  assert.ok(error instanceof PeerError)
  assert.equal(error.peerCode, 'moon-phase')
  assert.equal(error.message, 'wait\ufffdfor it')
})

test('what arrived before an error message is still delivered', async () => {
  const { channel, stream } = half()
  write(stream, frame(10, 1), frame(10, 2), frame(10, 3))
  assert.equal((await channel.receive(['frame'])).payload[0], 1)
  write(stream, { type: 'error', code: 'source-failed', message: 'gone' })
  assert.equal((await channel.receive(['frame'])).payload[0], 2)
  assert.equal((await channel.receive(['frame'])).payload[0], 3)
  await fails(channel.receive(['frame']), 'source-failed')
})

test('what arrived before the connection ended is still delivered', async () => {
  const { channel, stream } = half()
  write(stream, frame(10, 1), frame(10, 2))
  assert.equal((await channel.receive(['frame'])).payload[0], 1)
  stream.end()
  await channel.closed
  assert.equal((await channel.receive(['frame'])).payload[0], 2)
  await fails(channel.receive(['frame']), 'connection-lost')
})

test('of an error that is not of the protocol the other side hears only that there was one', async () => {
  const { channel, peer } = pair()
  const receiving = channel.receive(['welcome'])
  await peer.fail(new Error('/etc/secret is missing'))
  const error = await fails(receiving, 'internal')
  assert.doesNotMatch(error.message, /secret/)
})

test('a message that is malformed ends the session with an error message', async () => {
  const { channel, stream, sentText } = half()
  stream.write(Buffer.from('0c00000001c1', 'hex'))
  await fails(channel.receive(['stored']), 'message-malformed')
  stream.end()
  await channel.closed
  assert.match(sentText(), /^\x04.*message-malformed/s)
})

test('after a message that is malformed nothing else is read', async () => {
  const { channel, stream } = half()
  stream.write(Buffer.concat([Buffer.from('0c00000001c1', 'hex'), ...encodeMessage(examples.stored!)]))
  await fails(channel.receive(['stored']), 'message-malformed')
  await fails(channel.receive(['stored']), 'message-malformed')
  stream.end()
})

test('a message of this side that is not valid is refused, and the session goes on', async () => {
  const { channel, peer } = pair()
  await fails(channel.send({ type: 'archive-name', name: '/etc' }), 'internal')
  await channel.send(examples['archive-name']!)
  await peer.receive(['archive-name'])
  await Promise.all([channel.close(), peer.close()])
})

for (const at of ['nowhere', 'in a header', 'in a payload'] as const) {
  test(`the end of the connection, ${at}, ends every wait`, async () => {
    const { channel, stream } = half()
    const receiving = channel.receive(['frame'])
    const bytes = Buffer.concat(encodeMessage(frame(100)))
    stream.write(bytes.subarray(0, { nowhere: 0, 'in a header': 3, 'in a payload': 50 }[at]))
    stream.end()
    const error = await fails(receiving, 'connection-lost')
    assert.match(error.message, at === 'nowhere' ? /closed the connection/ : /in the middle of a message/)
    await fails(channel.send(frame(1)), 'connection-lost')
    await fails(channel.receive(['frame']), 'connection-lost')
    await channel.closed
  })
}

test('an error of the stream ends every wait and is not thrown', async () => {
  const { channel, own } = half()
  const receiving = channel.receive(['hello'])
  own.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))
  await fails(receiving, 'connection-lost')
  await channel.closed
})

test('a stream that is gone already gives its error', async () => {
  const [a] = duplexPair()
  a.on('error', () => {})
  a.destroy(Object.assign(new Error('SSL alert number 45'), { code: 'ERR_SSL_X' }))
  await new Promise(setImmediate)
  const channel = new Channel(a)
  await channel.closed
  await fails(channel.receive(['hello']), 'certificate-expired')
})

test('close lets what was sent arrive, and the other side sees the end', async () => {
  const { channel, peer } = pair()
  const sending = channel.send(frame(3_000_000))
  const closing = channel.close()
  assert.equal((await peer.receive(['frame'])).payload.length, 3_000_000)
  await fails(peer.receive(['frame']), 'connection-lost')
  await sending
  await closing
  await peer.closed
})

test('after close nothing is sent or received', async () => {
  const { channel, peer } = pair()
  const receiving = fails(channel.receive(['hello']), 'connection-lost')
  const closing = channel.close()
  await receiving
  await fails(channel.send(frame(1)), 'connection-lost')
  await fails(channel.receive(['hello']), 'connection-lost')
  await closing
  await peer.closed
})

test('destroy drops the connection at once', async () => {
  const { channel, peer } = pair()
  const sending = fails(channel.send(frame(dataPayloadBytesMax)), 'connection-lost')
  channel.destroy()
  await sending
  await channel.closed
  peer.destroy()
})

test('an error message overtakes the messages that have not begun to go out', async () => {
  const { channel, peer } = pair()
  const sends = [1, 2, 3].map((fill) => channel.send(frame(1_000_000, fill)))
  const outcomes = Promise.allSettled(sends)
  void channel.fail(busy)
  assert.equal((await peer.receive(['frame'])).payload[0], 1)
  await fails(peer.receive(['frame']), 'busy')
  assert.deepEqual(
    (await outcomes).map((outcome) => outcome.status),
    ['fulfilled', 'rejected', 'rejected'],
  )
})

test('a signal cancels every wait, and the other side is told', async () => {
  const abort = new AbortController()
  const { channel, peer } = pair({ signal: abort.signal })
  const told = fails(peer.receive(['hello']), 'cancelled')
  const receiving = channel.receive(['hello'])
  abort.abort()
  await fails(receiving, 'cancelled')
  await told
})

test('a signal with a reason of the protocol gives that reason', async () => {
  const { channel, peer } = pair({ signal: AbortSignal.abort(new ProtocolError('storage-failed')) })
  await fails(channel.receive(['hello']), 'storage-failed')
  await fails(peer.receive(['hello']), 'storage-failed')
})

test('a channel that ended leaves nothing on its signal', async () => {
  const abort = new AbortController()
  const { channel, peer } = pair({ signal: abort.signal })
  await Promise.all([channel.close(), peer.close()])
  abort.abort()
  assert.equal(channel.ended.reason.code, 'connection-lost')
})

test('a second receiver is a mistake', async () => {
  const { channel, peer } = pair()
  const first = fails(channel.receive(['hello']), 'connection-lost')
  assert.throws(() => channel.receive(['hello']), /one receiver/)
  await channel.close()
  await first
  await peer.close()
})
