/**
 * Whoever reaches the agent's port, or answers in an agent's place, without being who they should be. Each is refused for
 * its own reason, in bounded time, and the agent goes on serving its server.
 */
import assert from 'node:assert/strict'
import { randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import {
  type Credentials,
  handshakeMsMax,
  identityFromAltNames,
  type Message,
  protocolVersion,
} from '@central-backup/protocol'
import { issueCertificate, type KeyPair } from '../packages/central-server/src/pki/certificate.ts'
import {
  issue,
  madeInTheFuture,
  madeLongAgo,
  makeCertificateFolder,
  replaceCertificate,
  serverCredentials,
  strangeAuthority,
} from './harness/certificates.ts'
import { bytesOf, dialPlain, dialTls, hearOut, provoke, rawMessage } from './harness/dialer.ts'
import { openDescriptors, residentBytes } from './harness/measure.ts'
import { patienceMs } from './harness/program.ts'
import { type HostEnd, Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const mebibyte = 1024 * 1024
const settings = 'connection: { attempts: 1 },'

/** A site with one host whose agent is at work. */
async function makeSite(): Promise<{ site: Site; host: TestHost; server: Credentials; name: string }> {
  const site = await Site.create({ settings })
  const host = await site.addHost('web1')
  writeTree(site.tree('web1'), { 'etc/motd': 'hello\n', 'srv/data': randomBytes(50_000) })
  await host.start()
  const server = serverCredentials(site)
  const { name } = identityFromAltNames(new X509Certificate(server.cert).subjectAltName)
  return { site, host, server, name }
}

/** One run, which fails; what the server says of it. */
async function failedRun(site: Site, exit: number): Promise<NonNullable<HostEnd['error']>> {
  const run = await site.run('web1')
  assert.equal(run.code, exit, run.stdout + run.stderr)
  const end = run.ends.web1!
  assert.equal(end.outcome, 'failed')
  return end.error!
}

/** One run, which succeeds. */
async function requireService(site: Site): Promise<void> {
  const run = await site.run('web1')
  assert.equal(run.code, 0, run.stdout + run.stderr)
  assert.equal(run.ends.web1!.outcome, 'complete')
}

describe('a server that is not the one', () => {
  let site: Site
  let host: TestHost
  before(async () => {
    ;({ site, host } = await makeSite())
  })
  after(() => site?.[Symbol.asyncDispose]())
  afterEach(async () => {
    site.configure(settings)
    await requireService(site)
  })

  /** A run with other certificates. The agent has to say `code` in its log, and the server as its result. */
  async function refused(code: string, folder: string): Promise<void> {
    const logged = host.agent.log.length
    site.configure(`${settings} certs: ${JSON.stringify(folder)},`)
    const error = await failedRun(site, 12)
    assert.equal(error.code, code, error.message)
    await host.agent.untilLogged((line) => line.code === code, logged)
  }

  test('with a wrong password is refused', async () => {
    const logged = host.agent.log.length
    const password = readFileSync(host.secret)
    try {
      writeFileSync(host.secret, 'wrong\n', { mode: 0o600 })
      const error = await failedRun(site, 12)
      assert.equal(error.code, 'authentication-failed')
      await host.agent.untilLogged(({ code }) => code === 'authentication-failed', logged)
    } finally {
      writeFileSync(host.secret, password)
    }
    assert.ok(!host.agent.stderr.includes('wrong\n'))
  })

  test('with a certificate of another CA is refused by the agent', async () => {
    const stranger = await strangeAuthority()
    const pair = await issueCertificate(stranger, { role: 'server', name: 'backup' }, Date.now())
    await refused('certificate-untrusted', await makeCertificateFolder(site, 'strange', pair))
  })

  test('that trusts another CA refuses the agent', async () => {
    const stranger = await strangeAuthority()
    const pair = await issueCertificate(stranger, { role: 'server', name: 'backup' }, Date.now())
    const folder = await makeCertificateFolder(site, 'trusting', pair, stranger)
    site.configure(`${settings} certs: ${JSON.stringify(folder)},`)
    const error = await failedRun(site, 12)
    assert.equal(error.code, 'certificate-untrusted', error.message)
  })

  test('with the certificate of a host is refused', async () => {
    const pair = await issue(site, { role: 'host', name: 'web1' })
    await refused('wrong-role', await makeCertificateFolder(site, 'role', pair))
  })

  test('with an expired certificate is refused', async () => {
    const pair = await issue(site, { role: 'server', name: 'backup' }, madeLongAgo())
    await refused('certificate-expired', await makeCertificateFolder(site, 'expired', pair))
  })

  test('with a certificate that is not valid yet is refused', async () => {
    const pair = await issue(site, { role: 'server', name: 'backup' }, madeInTheFuture())
    await refused('certificate-not-yet-valid', await makeCertificateFolder(site, 'future', pair))
  })
})

describe('an agent that is not the one', () => {
  let site: Site
  let host: TestHost
  let other: TestHost
  before(async () => {
    ;({ site, host } = await makeSite())
    other = await site.addHost('web2')
  })
  after(() => site?.[Symbol.asyncDispose]())
  afterEach(async () => {
    if (other.agent.running) await other.stop()
    host.setPort(host.port)
    await requireService(site)
  })

  /** The server dials web1, and the agent of web2 answers, with this certificate. */
  async function refused(code: string, pair?: KeyPair): Promise<void> {
    if (pair !== undefined) replaceCertificate(other, pair)
    await other.start()
    host.setPort(other.port)
    const error = await failedRun(site, 12)
    assert.equal(error.code, code, error.message)
    await other.agent.untilLogged((line) => line.code === code)
    assert.deepEqual(site.partials('web1'), [])
  }

  test('because it is another host of the same CA is refused', () => refused('wrong-host'))

  test('because it has the certificate of a server is refused', async () => {
    await refused('wrong-role', await issue(site, { role: 'server', name: 'web1' }))
  })

  test('because its CA is another one is refused', async () => {
    const stranger = await strangeAuthority()
    await refused(
      'certificate-untrusted',
      await issueCertificate(stranger, { role: 'host', name: 'web1' }, Date.now()),
    )
  })

  test('because its certificate has expired is refused', async () => {
    await refused('certificate-expired', await issue(site, { role: 'host', name: 'web1' }, madeLongAgo()))
  })

  test('because its certificate is not valid yet is refused', async () => {
    const pair = await issue(site, { role: 'host', name: 'web1' }, madeInTheFuture())
    await refused('certificate-not-yet-valid', pair)
  })
})

describe('a client that does not speak the protocol', () => {
  let site: Site
  let host: TestHost
  let server: Credentials
  before(async () => {
    ;({ site, host, server } = await makeSite())
  })
  after(() => site?.[Symbol.asyncDispose]())
  afterEach(() => requireService(site))

  /** Does something to the agent, which has to say so in its log. */
  async function refused(codes: readonly string[], work: () => Promise<unknown>): Promise<void> {
    const logged = host.agent.log.length
    await work()
    await host.agent.untilLogged(({ code }) => codes.includes(code ?? ''), logged)
  }

  /** Says `bytes` without TLS and goes on until the agent hangs up. */
  async function say(bytes: Uint8Array | string): Promise<void> {
    const socket = await dialPlain(host.port)
    socket.write(bytes)
    const said = await hearOut(socket)
    // A TLS alert at most.
    assert.ok(said.length < 100, `the agent said ${said.length} bytes`)
  }

  test('but TLS 1.2 is refused', async () => {
    await refused(['tls-version'], () =>
      assert.rejects(dialTls(host.port, server, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })),
    )
  })

  test('but HTTP is refused', async () => {
    await refused(['not-tls'], () => say('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'))
  })

  test('but SSH is refused', async () => {
    await refused(['not-tls'], () => say('SSH-2.0-OpenSSH_9.2\r\n'))
  })

  test('but noise is refused', async () => {
    await refused(['not-tls', 'tls-failed'], () => say(randomBytes(100_000)))
  })

  test('but a message of 4 GiB without TLS is refused', async () => {
    await refused(['not-tls'], () =>
      say(Buffer.concat([rawMessage(8, Buffer.alloc(0), 0xffffffff), Buffer.alloc(100)])),
    )
  })

  test('but a TLS record that is longer than any is refused', async () => {
    await refused(['tls-failed', 'not-tls'], () =>
      say(Buffer.concat([Buffer.from('160301ffff', 'hex'), Buffer.alloc(70_000)])),
    )
  })

  test('and has no certificate is refused', async () => {
    await refused(['certificate-missing'], async () => {
      const socket = await dialTls(host.port, { ca: server.ca })
      assert.equal(await provoke(socket), 'certificate-missing')
    })
  })

  test('but another application protocol is refused', async () => {
    await refused(['application-protocol'], async () => {
      await assert.rejects(dialTls(host.port, server, { ALPNProtocols: ['h2', 'http/1.1'] }))
    })
  })

  test('and names no application protocol is refused', async () => {
    await refused(['application-protocol'], async () => {
      // Its own handshake is done before the agent looks.
      const socket = await dialTls(host.port, server, { ALPNProtocols: [] })
      assert.equal((await hearOut(socket)).length, 0)
    })
  })
})

describe('a server that breaks the rules of the conversation', () => {
  let site: Site
  let host: TestHost
  let server: Credentials
  let hello: Message
  let password: string
  before(async () => {
    const made = await makeSite()
    ;({ site, host, server } = made)
    hello = {
      type: 'hello',
      protocol: protocolVersion,
      software: 'hostile 1',
      role: 'server',
      name: made.name,
    }
    password = readFileSync(host.secret, 'utf8').trim()
  })
  after(() => site?.[Symbol.asyncDispose]())

  const map = (...parts: (string | Buffer | number[])[]) =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? strOf(part) : Buffer.from(part))))

  /** What is said after the TLS handshake, in the order in which it is said. */
  interface Break {
    name: string
    code: string
    /** How far the conversation had come: 0 nothing said, 1 greeted, 2 logged in. */
    after: 0 | 1 | 2
    bytes: () => Buffer
  }

  const authenticate = (text: string): Message => ({ type: 'authenticate', password: text })
  const request = (fields: object = {}): Message => ({
    type: 'backup',
    host: 'web1',
    paths: [Buffer.from(site.tree('web1'))],
    exclude: [],
    kind: 'full',
    startedAtMs: Date.now(),
    ...fields,
  })

  const breaks: Break[] = [
    {
      name: 'a message of 4 GiB',
      code: 'message-too-large',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(9), 0xffffffff),
    },
    {
      name: 'a hello over its limit',
      code: 'message-too-large',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(9), 64 * 1024 + 1),
    },
    {
      name: 'a message of an unknown type',
      code: 'message-unknown',
      after: 0,
      bytes: () => rawMessage(99, Buffer.alloc(9)),
    },
    {
      name: 'a message of type 0',
      code: 'message-unknown',
      after: 0,
      bytes: () => rawMessage(0, Buffer.alloc(9)),
    },
    {
      name: 'a message without payload',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(0)),
    },
    {
      name: 'the password before hello',
      code: 'message-out-of-turn',
      after: 0,
      bytes: () => bytesOf(authenticate(password)),
    },
    {
      name: 'a request before hello',
      code: 'message-out-of-turn',
      after: 0,
      bytes: () => bytesOf(request()),
    },
    {
      name: 'another version',
      code: 'version-unsupported',
      after: 0,
      bytes: () => rawMessage(1, map([0x81], 'protocol', [2])),
    },
    {
      name: 'the name of another server',
      code: 'wrong-role',
      after: 0,
      bytes: () => bytesOf({ ...hello, name: 'somebody' } as Message),
    },
    {
      name: 'that it is a host',
      code: 'wrong-role',
      after: 0,
      bytes: () => bytesOf({ ...hello, role: 'host' } as Message),
    },
    {
      name: 'a map of four billion pairs',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('dfffffffff00', 'hex')),
    },
    {
      name: 'an array of four billion values',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('ddffffffff00', 'hex')),
    },
    {
      name: 'a string of 4 GiB',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81dbffffffff00', 'hex')),
    },
    {
      name: 'arrays in arrays, sixty thousand deep',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(60_000, 0x91)),
    },
    {
      name: 'maps in maps, thirty thousand deep',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.alloc(60_000, Buffer.from('81a161', 'hex'))),
    },
    {
      name: 'sixty thousand empty arrays',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, map([0x81, 0xa1, 0x61, 0xdc, 0xea, 0x60], Buffer.alloc(60_000, 0x90))),
    },
    {
      name: 'an extension',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161c70101ff', 'hex')),
    },
    {
      name: 'a record, as msgpackr has them',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161d4724091a161', 'hex')),
    },
    {
      name: 'a time',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161d6ff00000000', 'hex')),
    },
    {
      name: 'a fraction',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161cb3ff8000000000000', 'hex')),
    },
    {
      name: 'byte 0xc1',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a161c1', 'hex')),
    },
    {
      name: 'a key that stands twice',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('82a16101a16102', 'hex')),
    },
    {
      name: 'the key __proto__',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, map([0x81], '__proto__', [0x80])),
    },
    {
      name: 'a string that is not UTF-8',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('81a2c32801', 'hex')),
    },
    {
      name: 'bytes behind the map',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('8000', 'hex')),
    },
    {
      name: 'noise',
      code: 'message-malformed',
      after: 0,
      bytes: () => rawMessage(1, Buffer.from('c3'.repeat(500), 'hex')),
    },
    { name: 'hello twice', code: 'message-out-of-turn', after: 1, bytes: () => bytesOf(hello) },
    {
      name: 'a request without the password',
      code: 'message-out-of-turn',
      after: 1,
      bytes: () => bytesOf(request()),
    },
    {
      name: 'a password that is no string',
      code: 'message-malformed',
      after: 1,
      bytes: () => rawMessage(2, map([0x81], 'password', [0xc0])),
    },
    {
      name: 'a password of 60 KB',
      code: 'message-malformed',
      after: 1,
      bytes: () =>
        rawMessage(2, map([0x81], 'password', Buffer.from([0xda, 0xea, 0x60]), Buffer.alloc(60_000, 'x'))),
    },
    {
      name: 'an empty password',
      code: 'authentication-failed',
      after: 1,
      bytes: () => bytesOf(authenticate('')),
    },
    {
      name: 'the password with a space behind it',
      code: 'authentication-failed',
      after: 1,
      bytes: () => bytesOf(authenticate(`${password} `)),
    },
    {
      name: 'a request for another host',
      code: 'wrong-host',
      after: 2,
      bytes: () => bytesOf(request({ host: 'web2' })),
    },
    {
      name: 'a message of the agent',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => bytesOf({ type: 'archive-name', name: 'x' }),
    },
    {
      name: 'a request without paths',
      code: 'message-malformed',
      after: 2,
      bytes: () => rawMessage(5, map([0x81], 'paths', [0x90])),
    },
    {
      name: 'a request for a path that is not absolute',
      code: 'request-invalid',
      after: 2,
      bytes: () => bytesOf(request({ paths: [Buffer.from('etc')] })),
    },
    {
      name: 'a request for a path with a NUL',
      code: 'request-invalid',
      after: 2,
      bytes: () => bytesOf(request({ paths: [Buffer.from('/etc\0/x')] })),
    },
    {
      name: 'a request of a megabyte of nothing',
      code: 'message-malformed',
      after: 2,
      bytes: () => rawMessage(5, map([0x81], 'paths', [0xdd, 0, 0x0f, 0, 0], Buffer.alloc(0x0f0000, 0x90))),
    },
    {
      name: 'a request at a time that no archive can have',
      code: 'request-invalid',
      after: 2,
      bytes: () => bytesOf(request({ startedAtMs: Number.MAX_SAFE_INTEGER })),
    },
    {
      name: 'the login again',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => bytesOf(authenticate(password)),
    },
    {
      name: 'a second request in the middle of the first',
      code: 'message-out-of-turn',
      after: 2,
      bytes: () => Buffer.concat([bytesOf(request()), bytesOf(request())]),
    },
  ]

  for (const { name, code, after: stage, bytes } of breaks) {
    test(`${name}: refused as ${code}`, async () => {
      const logged = host.agent.log.length
      const socket = await dialTls(host.port, server)
      const opening = [[], [bytesOf(hello)], [bytesOf(hello), bytesOf(authenticate(password))]][stage]!
      assert.equal(await provoke(socket, ...opening, bytes()), code)
      const line = await host.agent.untilLogged((one) => one.code !== undefined, logged)
      assert.equal(line.code, code)
      assert.equal(line.stack, undefined, 'no bug of the agent')
      await requireService(site)
    })
  }

  test('no password of any attempt stands in the log', () => {
    assert.ok(!host.agent.stderr.includes(password))
  })
})

describe('clients in great numbers', () => {
  let site: Site
  let host: TestHost
  let server: Credentials
  let hello: Message
  before(async () => {
    const made = await makeSite()
    ;({ site, host, server } = made)
    hello = {
      type: 'hello',
      protocol: protocolVersion,
      software: 'hostile 1',
      role: 'server',
      name: made.name,
    }
    await requireService(site)
  })
  after(() => site?.[Symbol.asyncDispose]())
  afterEach(() => requireService(site))

  /** Does `round` several times; the agent's memory and descriptors are to be the same after the last as after the first. */
  async function staysFlat(round: () => Promise<void>): Promise<void> {
    const { pid } = host.agent
    await round()
    await requireService(site)
    const descriptors = openDescriptors(pid)
    const resident = residentBytes(pid)
    for (let again = 0; again < 3; again++) await round()
    await requireService(site)
    await until(
      () => openDescriptors(pid) <= descriptors,
      () => `${openDescriptors(pid)} descriptors, ${descriptors} before`,
    )
    const grown = residentBytes(pid) - resident
    assert.ok(grown < 48 * mebibyte, `the agent has grown by ${grown} bytes`)
  }

  test('that go as soon as they came: 1000 connections leave nothing behind', async () => {
    const beginning = Buffer.from('1603010200010001fc0303', 'hex')
    await staysFlat(async () => {
      for (let batch = 0; batch < 5; batch++) {
        const sockets = await Promise.all(Array.from({ length: 50 }, () => dialPlain(host.port)))
        for (const [number, socket] of sockets.entries()) {
          if (number % 3 === 0) socket.write(beginning)
          if (number % 2 === 0) socket.resetAndDestroy()
          else socket.destroy()
        }
      }
    })
  })

  test('that try passwords: 300 at a time are turned away, and the next good one is served', async () => {
    /** What one of them is told; `null` where it was not even let in. */
    const tryPassword = async (sockets: Socket[]): Promise<string | null> => {
      let socket: TLSSocket
      try {
        socket = await dialTls(host.port, server)
      } catch {
        return null
      }
      sockets.push(socket)
      socket.on('error', () => {})
      return provoke(
        socket,
        bytesOf(hello),
        bytesOf({ type: 'authenticate', password: `guess ${sockets.length}` }),
      )
    }
    await staysFlat(async () => {
      const sockets: Socket[] = []
      const told: Record<string, number> = {}
      let failures = 0
      const attempts = Array.from({ length: 300 }, async () => {
        const code = await tryPassword(sockets)
        told[code ?? 'dropped'] = (told[code ?? 'dropped'] ?? 0) + 1
        // Those that wait for their turn would wait ever longer.
        if (code === 'authentication-failed' && ++failures === 2)
          for (const socket of sockets) socket.destroy()
      })
      await Promise.all(attempts)
      const { busy = 0, dropped = 0, 'authentication-failed': failed = 0 } = told
      assert.equal(busy + dropped + failed, 300, JSON.stringify(told))
      assert.ok(failed >= 2 && failed <= 4, JSON.stringify(told))
    })
  })
})

describe('a client that is silent', () => {
  let site: Site
  let host: TestHost
  let server: Credentials
  let hello: Message
  before(async () => {
    const made = await makeSite()
    ;({ site, host, server } = made)
    hello = {
      type: 'hello',
      protocol: protocolVersion,
      software: 'hostile 1',
      role: 'server',
      name: made.name,
    }
  })
  after(() => site?.[Symbol.asyncDispose]())

  test('wherever it falls silent, is hung up on, and until then others are served', async () => {
    const startedMs = performance.now()
    const seconds = async (work: Promise<unknown>) => {
      await work
      return (performance.now() - startedMs) / 1000
    }
    const greeted = await dialTls(host.port, server)
    greeted.write(bytesOf(hello))
    const halfway = await dialTls(host.port, server)
    halfway.write(bytesOf(hello).subarray(0, 7))
    const dripping = await dialTls(host.port, server)
    const drops = [...bytesOf(hello)]
    const tap = setInterval(() => dripping.write(Buffer.from([drops.shift() ?? 0])), 900)
    const beginning = await dialPlain(host.port)
    beginning.write(Buffer.from('160301', 'hex'))
    const silent = {
      plain: seconds(hearOut(await dialPlain(host.port))),
      beginning: seconds(hearOut(beginning)),
    }
    const withTls = {
      tls: provoke(await dialTls(host.port, server)),
      greeted: provoke(greeted),
      halfway: provoke(halfway),
      dripping: provoke(dripping),
    }
    await requireService(site)
    for (const [name, ended] of Object.entries(silent)) {
      const took = await ended
      assert.ok(took < handshakeMsMax / 1000 + 5, `${name}: hung up on after ${took} s`)
    }
    for (const [name, ended] of Object.entries(withTls)) assert.equal(await ended, 'stalled', name)
    clearInterval(tap)
    const took = (performance.now() - startedMs) / 1000
    assert.ok(took < 30, `the last was hung up on after ${took} s`)
    const codes = host.agent.log.map(({ code }) => code).filter((code) => code !== undefined)
    assert.deepEqual(codes.sort(), [
      'handshake-timeout',
      'handshake-timeout',
      'stalled',
      'stalled',
      'stalled',
      'stalled',
    ])
    await requireService(site)
  })

  test('in greater number than an agent takes: they are hung up on, and the server is served after that', async () => {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => dialPlain(host.port)))
    await Promise.all(sockets.map(hearOut))
    await requireService(site)
  })
})

/** Waits until `condition` holds, looking again and again. */
async function until(condition: () => boolean, describeState: () => string): Promise<void> {
  const deadline = performance.now() + patienceMs
  while (!condition()) {
    if (performance.now() > deadline) assert.fail(describeState())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function strOf(text: string): Buffer {
  return Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(text)]), Buffer.from(text)])
}
