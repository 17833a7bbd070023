import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import net, { type AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import tls from 'node:tls'
import {
  applicationProtocol,
  Channel,
  type Credentials,
  createListener,
  dial,
  encodeMessage,
  errorFromSocket,
  type Identity,
  identityOf,
  type Message,
  ProtocolError,
  type ProtocolErrorCode,
  replaceCredentials,
} from '../src/index.ts'
import { createAuthority, type LeafOptions, type TestAuthority } from './certificates.ts'

// Every meeting is a real one on loopback, and says what each side makes of it.

let authority: TestAuthority
let foreign: TestAuthority
let host: Credentials
let server: Credentials

before(async () => {
  authority = await createAuthority()
  foreign = await createAuthority('another CA')
  host = await authority.host('web1')
  server = await authority.server('main')
})

const cleanups: (() => void)[] = []
after(() => {
  for (const clean of cleanups) clean()
})

type Verdict = 'ok' | ProtocolErrorCode

function verdictOf(error: unknown): ProtocolErrorCode {
  assert.ok(error instanceof ProtocolError, `a ProtocolError, not ${error}`)
  assert.ok(error.message.length > 10 && error.hint.length > 10)
  return error.code
}

function hello(role: 'server' | 'host'): Message {
  return { type: 'hello', protocol: 1, software: 'test', role, name: role === 'host' ? 'web1' : 'main' }
}

/** The role's first turn, over a verified connection. */
async function greet(socket: tls.TLSSocket, role: 'server' | 'host'): Promise<Verdict> {
  const channel = new Channel(socket)
  try {
    await channel.send(hello(role))
    await channel.receive(['hello'], { timeoutMs: 5000 })
    return 'ok'
  } catch (error) {
    return verdictOf(error)
  } finally {
    await channel.close()
  }
}

interface Agent {
  listener: tls.Server
  port: number
  /** What the agent makes of its next connection. */
  verdict(): Promise<Verdict>
  peers: Identity[]
  addresses: string[]
}

async function startAgent(credentials: Credentials, handshakeMs?: number): Promise<Agent> {
  const verdicts: Verdict[] = []
  const waiting: ((verdict: Verdict) => void)[] = []
  const peers: Identity[] = []
  const addresses: string[] = []
  const add = (verdict: Verdict) => {
    const next = waiting.shift()
    if (next === undefined) verdicts.push(verdict)
    else next(verdict)
  }
  const listener = createListener(
    credentials,
    {
      onConnection: (socket, peer) => {
        peers.push(peer)
        assert.deepEqual(identityOf(socket), peer)
        void greet(socket, 'host').then(add)
      },
      onRefused: (error, remoteAddress) => {
        addresses.push(remoteAddress)
        add(verdictOf(error))
      },
    },
    handshakeMs === undefined ? {} : { handshakeMs },
  )
  const port = await listen(listener)
  const verdict = async () => verdicts.shift() ?? new Promise<Verdict>((resolve) => waiting.push(resolve))
  return { listener, port, verdict, peers, addresses }
}

async function listen(listener: net.Server): Promise<number> {
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => listener.close())
  return (listener.address() as AddressInfo).port
}

async function dialAgent(
  port: number,
  credentials: Credentials,
  connectTimeoutMs?: number,
): Promise<Verdict> {
  const expect = { role: 'host', name: 'web1' } as const
  try {
    const socket = await dial({ host: '127.0.0.1', port, ...credentials, expect, connectTimeoutMs })
    assert.deepEqual(identityOf(socket), expect)
    return await greet(socket, 'server')
  } catch (error) {
    return verdictOf(error)
  }
}

/** Dials with TLS options of the test's own, as a program would that is not ours. */
async function dialRaw(port: number, options: tls.ConnectionOptions): Promise<Verdict> {
  const plain = { host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: [applicationProtocol] }
  const socket = tls.connect({ ...plain, ...options })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.on('error', reject)
    })
  } catch (error) {
    return errorFromSocket(error as Error).code
  }
  return greet(socket, 'server')
}

test('a server and a host of one CA meet, and know each other by name', async () => {
  const agent = await startAgent(host)
  assert.equal(await dialAgent(agent.port, server), 'ok')
  assert.equal(await agent.verdict(), 'ok')
  assert.deepEqual(agent.peers, [{ role: 'server', name: 'main' }])
})

const ours = (credentials: Credentials): Credentials => ({ ...credentials, ca: authority.cert })
const expired: LeafOptions = { notBeforeDays: -9, notAfterDays: -1 }
const early: LeafOptions = { notBeforeDays: 1 }
const uris = (...names: string[]): LeafOptions => ({
  uris: names.map((name) => `urn:central-backup:${name}`),
})

const serverCertificates: [string, () => Promise<Credentials>, ProtocolErrorCode][] = [
  ['of another CA', async () => ours(await foreign.server('main')), 'certificate-untrusted'],
  ['that has expired', () => authority.server('main', expired), 'certificate-expired'],
  ['that is not valid yet', () => authority.server('main', early), 'certificate-not-yet-valid'],
  ['that is a host’s', () => authority.host('web2'), 'wrong-role'],
  ['that is a host’s without key usages', () => authority.host('web2', { usages: null }), 'wrong-role'],
  ['without a role', () => authority.server('main', uris()), 'wrong-role'],
  ['with two roles', () => authority.server('main', uris('server:main', 'host:web1')), 'wrong-role'],
]

for (const [what, certificate, code] of serverCertificates) {
  test(`a server certificate ${what} is refused, both sides know why, and the agent serves on`, async () => {
    const agent = await startAgent(host)
    assert.equal(await dialAgent(agent.port, await certificate()), code)
    assert.equal(await agent.verdict(), code)
    assert.deepEqual(agent.addresses, ['127.0.0.1'])
    assert.equal(await dialAgent(agent.port, server), 'ok')
    assert.equal(await agent.verdict(), 'ok')
  })
}

const hostCertificates: [string, () => Promise<Credentials>, ProtocolErrorCode][] = [
  ['of another CA', async () => ours(await foreign.host('web1')), 'certificate-untrusted'],
  ['that has expired', () => authority.host('web1', expired), 'certificate-expired'],
  ['that is not valid yet', () => authority.host('web1', early), 'certificate-not-yet-valid'],
  ['of another host', () => authority.host('web2'), 'wrong-host'],
  ['of a host with nearly its name', () => authority.host('Web1'), 'wrong-host'],
  ['that is a server’s', () => authority.server('web1'), 'wrong-role'],
  ['that is a server’s without key usages', () => authority.server('web1', { usages: null }), 'wrong-role'],
  [
    'with the right DNS name but no role',
    () => authority.host('x', { ...uris(), dns: ['web1'] }),
    'wrong-role',
  ],
  ['with two roles', () => authority.host('web1', uris('host:web1', 'host:web2')), 'wrong-role'],
]

for (const [what, certificate, code] of hostCertificates) {
  test(`a host certificate ${what} is refused, and both sides know why`, async () => {
    const agent = await startAgent(await certificate())
    assert.equal(await dialAgent(agent.port, server), code)
    assert.equal(await agent.verdict(), code)
  })
}

const strangers: [string, () => tls.ConnectionOptions, ProtocolErrorCode][] = [
  ['without a certificate', () => ({}), 'certificate-missing'],
  ['with TLS 1.2', () => ({ ...server, maxVersion: 'TLSv1.2' }), 'tls-version'],
  ['with another application protocol', () => ({ ...server, ALPNProtocols: ['h2'] }), 'application-protocol'],
]

for (const [what, options, code] of strangers) {
  test(`a server ${what} is refused, both sides know why, and the agent serves on`, async () => {
    const agent = await startAgent(host)
    assert.equal(await dialRaw(agent.port, options()), code)
    assert.equal(await agent.verdict(), code)
    assert.equal(await dialAgent(agent.port, server), 'ok')
    assert.equal(await agent.verdict(), 'ok')
  })
}

test('a server that names no application protocol is dropped without a word', async () => {
  const agent = await startAgent(host)
  const socket = tls.connect({
    ...server,
    host: '127.0.0.1',
    port: agent.port,
    checkServerIdentity: () => undefined,
  })
  let bytes = 0
  socket.on('data', (piece) => {
    bytes += piece.length
  })
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('close', resolve))
  assert.equal(bytes, 0)
  assert.equal(await agent.verdict(), 'application-protocol')
})

const noise: [string, string, ProtocolErrorCode][] = [
  ['speaks HTTP', 'GET / HTTP/1.1\r\n\r\n', 'not-tls'],
  ['speaks garbage', 'x'.repeat(1000), 'not-tls'],
  ['speaks garbage that begins as TLS does', '\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00', 'tls-failed'],
  ['says nothing', '', 'handshake-timeout'],
  ['says half a greeting', '\x16\x03\x01\x02\x00\x01', 'handshake-timeout'],
]

for (const [what, bytes, code] of noise) {
  test(`a program that ${what} is dropped in time, and the agent serves on`, async () => {
    const agent = await startAgent(host, 200)
    const socket = net.connect(agent.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume().write(bytes, 'latin1')
    const closed = new Promise((resolve) => socket.once('close', resolve))
    assert.equal(await agent.verdict(), code)
    await closed
    assert.equal(await dialAgent(agent.port, server), 'ok')
    assert.equal(await agent.verdict(), 'ok')
  })
}

const otherServices: [string, (socket: net.Socket) => void, ProtocolErrorCode][] = [
  ['speaks SSH', (socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'), 'not-tls'],
  ['speaks HTTP', (socket) => socket.once('data', () => socket.end('HTTP/1.1 400 \r\n\r\n')), 'not-tls'],
  ['closes at once', (socket) => socket.end(), 'connection-lost'],
  ['resets', (socket) => socket.once('data', () => socket.resetAndDestroy()), 'connection-lost'],
  ['says nothing', (socket) => socket.resume(), 'handshake-timeout'],
]

for (const [what, act, code] of otherServices) {
  test(`a service that ${what} is not taken for an agent`, async () => {
    const sockets: net.Socket[] = []
    const service = net.createServer((socket) => {
      sockets.push(socket.on('error', () => {}))
      act(socket)
    })
    assert.equal(await dialAgent(await listen(service), server, 300), code)
    for (const socket of sockets) socket.destroy()
  })
}

const otherListeners: [string, () => tls.TlsOptions, ProtocolErrorCode][] = [
  ['with TLS 1.2', () => ({ maxVersion: 'TLSv1.2', ALPNProtocols: [applicationProtocol] }), 'tls-version'],
  ['with another application protocol', () => ({ ALPNProtocols: ['h2'] }), 'application-protocol'],
  ['without an application protocol', () => ({}), 'application-protocol'],
]

for (const [what, options, code] of otherListeners) {
  test(`a listener ${what} is not taken for an agent`, async () => {
    const listener = tls.createServer({ ...host, ...options() }, (socket) => socket.on('error', () => {}))
    assert.equal(await dialAgent(await listen(listener), server), code)
  })
}

test('a port where nothing listens is told apart', async () => {
  const port = await listen(net.createServer())
  cleanups.pop()?.()
  assert.equal(await dialAgent(port, server), 'connection-refused')
})

test('a signal ends the dialing', async () => {
  const port = await listen(net.createServer((socket) => socket.on('error', () => {})))
  const abort = new AbortController()
  const options = { host: '127.0.0.1', port, ...server, expect: { role: 'host', name: 'web1' } as const }
  const dialing = dial({ ...options, signal: abort.signal }).catch(verdictOf)
  setImmediate(() => abort.abort())
  assert.equal(await dialing, 'cancelled')
  assert.equal(await dial({ ...options, signal: abort.signal }).catch(verdictOf), 'cancelled')
})

for (const replaced of [false, true]) {
  const when = replaced ? ', not after new credentials either' : ''
  test(`a session cannot be resumed, so that the certificates cannot be skipped${when}`, async () => {
    const agent = await startAgent(host)
    if (replaced) replaceCredentials(agent.listener, await authority.host('web1'))
    const raw = {
      host: '127.0.0.1',
      port: agent.port,
      rejectUnauthorized: false,
      ALPNProtocols: [applicationProtocol],
    }
    const first = tls.connect({ ...raw, ...server })
    first.on('error', () => {})
    const session = await new Promise<Buffer>((resolve) => first.once('session', resolve))
    first.destroy()
    assert.equal(await agent.verdict(), 'connection-lost')
    const second = tls.connect({ ...raw, session })
    await new Promise<void>((resolve) => second.once('secureConnect', resolve))
    assert.equal(second.isSessionReused(), false)
    assert.equal(await greet(second, 'server'), 'certificate-missing')
    assert.equal(await agent.verdict(), 'certificate-missing')
  })
}

test('credentials can be replaced while the agent serves', async () => {
  const agent = await startAgent(await authority.host('web1', expired))
  assert.equal(await dialAgent(agent.port, server), 'certificate-expired')
  assert.equal(await agent.verdict(), 'certificate-expired')
  assert.throws(() => replaceCredentials(agent.listener, { ...host, ca: '' }), {
    code: 'credentials-invalid',
  })
  assert.equal(await dialAgent(agent.port, server), 'certificate-expired')
  assert.equal(await agent.verdict(), 'certificate-expired')
  replaceCredentials(agent.listener, host)
  assert.equal(await dialAgent(agent.port, server), 'ok')
  assert.equal(await agent.verdict(), 'ok')
  assert.equal(await dialRaw(agent.port, {}), 'certificate-missing')
  assert.equal(await agent.verdict(), 'certificate-missing')
})

test('credentials that cannot be used are named before anything is dialed', async () => {
  const other = await authority.server('other')
  const unusable: Partial<Credentials>[] = [
    { ca: '' },
    { ca: 'x' },
    { cert: '' },
    { key: '' },
    { key: other.key },
  ]
  for (const wrong of unusable) {
    assert.equal(await dialAgent(1, { ...server, ...wrong }), 'credentials-invalid', JSON.stringify(wrong))
    assert.throws(
      () => createListener({ ...host, ...wrong }, { onConnection: () => {}, onRefused: () => {} }),
      {
        code: 'credentials-invalid',
      },
    )
  }
})

test('all bytes arrive in their order, also those from before anybody read, and through pauses', async () => {
  const payloads = Array.from({ length: 300 }, (_, i) => randomBytes(1 + ((i * 7919) % 60_000)))
  const listener = createListener(host, {
    onConnection: (socket) => {
      // At once, so that the first come with the handshake; a message in many pieces, and many in one.
      for (const payload of payloads)
        for (const piece of encodeMessage({ type: 'frame', payload })) socket.write(piece)
    },
    onRefused: (error) => assert.fail(error),
  })
  const port = await listen(listener)
  const expect = { role: 'host', name: 'web1' } as const
  for (const isLate of [false, true]) {
    const socket = await dial({ host: '127.0.0.1', port, ...server, expect })
    if (isLate) await until(() => socket.readableLength > 0)
    const channel = new Channel(socket)
    for (const [i, payload] of payloads.entries()) {
      // Nothing is asked for at first, and now and then: the channel stops reading, with pieces that it has not used.
      if (i % 50 === 0) await until(() => socket.isPaused() || i > 250)
      const message = await channel.receive(['frame'])
      assert.ok(message.payload.equals(payload), `message ${i}`)
    }
    channel.destroy()
    await channel.closed
  }
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn()
}
