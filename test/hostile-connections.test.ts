/**
 * Whoever reaches the agent's port, or answers in an agent's place, without being who they should be. Each is refused for
 * its own reason, in bounded time, and the agent goes on serving its server.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { after, afterEach, before, describe, test } from 'node:test'
import { type Credentials, PeerError } from '@central-backup/protocol'
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
import { dialPlain, dialTls, hearOut, provoke, rawMessage } from './harness/dialer.ts'
import { FakeAgent, readCredentials } from './harness/fake-agent.ts'
import { type HostEnd, Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const _mebibyte = 1024 * 1024
const settings = 'connection: { attempts: 1 },'

/** A site with one host whose agent is at work. */
async function makeSite(): Promise<{ site: Site; host: TestHost; server: Credentials }> {
  const site = await Site.create({ settings })
  const host = await site.addHost('web1')
  writeTree(site.tree('web1'), { 'etc/motd': 'hello\n', 'srv/data': randomBytes(50_000) })
  await host.start()
  return { site, host, server: serverCredentials(site) }
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
    if (other.isRunning) await other.stop()
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

  test('because it is another host of the same CA learns no password', async () => {
    await using fake = await FakeAgent.start(host, readCredentials(other))
    const { promise, resolve } = Promise.withResolvers<unknown>()
    fake.greeting = (channel) => channel.receive(['hello', 'authenticate']).then(resolve, resolve)
    const error = await failedRun(site, 12)
    assert.equal(error.code, 'wrong-host', error.message)
    // All that it is ever told is why it is not talked to.
    const told = await promise
    assert.ok(told instanceof PeerError, String(told))
    assert.equal(told.code, 'wrong-host')
  })

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
