/**
 * The life of certificates with the real programs: listed, renewed over a session, revoked, and the authority changed; with
 * servers that try to get more out of it than an authority has signed.
 */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { copyFileSync, cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type MessageOf, ProtocolError, readCertificates, trustMessagesMax } from '@central-backup/protocol'
import {
  createRevocationList,
  endorseAuthority,
  issueCertificate,
  type KeyPair,
} from '../packages/central-server/src/pki/certificate.ts'
import {
  issuedPath,
  readAuthority,
  readServerCredentials,
  recordIssued,
} from '../packages/central-server/src/pki/folder.ts'
import { type AgentSession, openSession } from '../packages/central-server/src/session/open-session.ts'
import { backupServerInProcess } from '../packages/central-server/test/run-in-process.ts'
import { checkHost } from '../packages/host-agent/src/check.ts'
import {
  issue,
  makeCertificateFolder,
  replaceCertificate,
  serverCredentials,
  strangeAuthority,
} from './harness/certificates.ts'
import { runCommand } from './harness/program.ts'
import { lacksProgram, Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const dayMs = 86_400_000
const settings = 'connection: { attempts: 1 },'
const noStrace = await lacksProgram('strace')
const noFaketime = await lacksProgram('faketime')

interface Row {
  role: string
  name: string
  serial: string
  daysLeft: number
  state: string
  current: boolean
  host: { trustsIssuing: boolean; otherAuthorities: number; hasNewestList: boolean | null } | null
}

/** backup-server in this process, which is quicker: many of its commands are needed here. */
async function server(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const ended = await backupServerInProcess(['--home', site.home, ...args])
  return { code: ended.status!, stdout: ended.stdout, stderr: ended.stderr }
}

/** `certs list --json`. */
async function listOf(): Promise<{ certificates: Row[]; listNumber: number | null; changing: boolean }> {
  return JSON.parse(await succeeds('certs', 'list', '--json'))
}

async function rowOf(name: string): Promise<Row> {
  const { certificates } = await listOf()
  return certificates.find((one) => one.name === name && one.current)!
}

async function succeeds(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await server(...args)
  assert.equal(code, 0, stdout + stderr)
  return stdout
}

/** The error of one host in `check --json`. */
async function refusedCheck(host: string): Promise<{ code: string; message: string }> {
  const { code, stdout, stderr } = await server('check', host, '--json')
  assert.equal(code, 12, stdout + stderr)
  return (JSON.parse(stdout) as { hosts: { error: { code: string; message: string } }[] }).hosts[0]!.error
}

function fileOf(host: TestHost, name: string): string {
  return readFileSync(join(host.folder, name), 'utf8')
}

/** A session with the site's own key, as somebody has it who stole the server. */
async function breakIn(site: Site, host: TestHost, certs = join(site.home, 'certs')): Promise<AgentSession> {
  const credentials = await readServerCredentials(certs)
  const { subject } = new X509Certificate(credentials.cert)
  const password = { reveal: () => readFileSync(host.secret, 'utf8').trimEnd() }
  return openSession({
    host: { name: host.name, address: '127.0.0.1', port: host.port, password: password as never },
    credentials,
    serverName: /^CN=(.*)$/m.exec(subject)![1]!,
    connection: { timeoutMs: 20_000, attempts: 1, pauseMs: 0 },
    signal: new AbortController().signal,
  })
}

/** What makes a program see another time. Not by the program `faketime`, which would outlive a kill in its place. */
async function movedClock(by: string): Promise<Record<string, string>> {
  const { stdout } = await runCommand(['faketime', '-f', by, 'sh', '-c', 'echo "$LD_PRELOAD"'])
  return { LD_PRELOAD: stdout.trim(), FAKETIME: by, DONT_FAKE_MONOTONIC: '1' }
}

let site: Site
let web1: TestHost
let web2: TestHost

before(async () => {
  site = await Site.create({ settings })
  web1 = await site.addHost('web1')
  web2 = await site.addHost('web2')
  writeTree(site.tree('web1'), { 'etc/motd': 'hello\n' })
  writeTree(site.tree('web2'), { 'etc/motd': 'hello\n' })
  await Promise.all([web1.start(), web2.start()])
})
after(() => site?.[Symbol.asyncDispose]())

/** What the agent uses is whole, and its server gets on with it. */
async function requireService(host: TestHost): Promise<void> {
  await succeeds('check', host.name)
  assert.deepEqual(checkHost(host.config, process.geteuid!(), Date.now()).problems, [])
}

describe('a certificate of a host', () => {
  test('is renewed in a run when less than a third of its life is left, and used without a restart', async () => {
    await web1.stop()
    replaceCertificate(web1, await issue(site, { role: 'host', name: 'web1' }, Date.now() - 600 * dayMs))
    const before = new X509Certificate(fileOf(web1, 'host.crt'))
    const { pid } = await web1.start()
    const run = await site.run('web1')
    assert.equal(run.code, 0, run.stdout + run.stderr)
    assert.equal(run.ends.web1!.warningCount, 0, JSON.stringify(run.warnings))
    const now = new X509Certificate(fileOf(web1, 'host.crt'))
    assert.ok(!now.publicKey.equals(before.publicKey), 'the key is new, too')
    assert.ok(now.validToDate.getTime() > Date.now() + 800 * dayMs)
    assert.equal((await rowOf('web1')).serial, now.serialNumber)
    // The next connection has to be made with the new one: the server refuses the old.
    await succeeds('certs', 'revoke', before.serialNumber)
    await requireService(web1)
    assert.equal(web1.agent.pid, pid)
  })

  test('is not renewed for ever where the host uses none of those that it got', async () => {
    const certs = join(site.home, 'certs')
    await web2.stop()
    const madeAtMs = Date.now() - 600 * dayMs
    replaceCertificate(web2, await issue(site, { role: 'host', name: 'web2' }, madeAtMs))
    await web2.start()
    const before = fileOf(web2, 'host.crt')
    const others = await Promise.all(
      Array.from({ length: 100 }, () => issue(site, { role: 'host', name: 'web2' }, madeAtMs)),
    )
    for (const { certificate } of others) await recordIssued(certs, certificate)
    const said = await succeeds('check', 'web2')
    assert.match(said, /not renewed: 10\d of it are good already, as if it took none of them/)
    assert.equal(fileOf(web2, 'host.crt'), before)
    // By hand it is all the same.
    await succeeds('certs', 'renew', 'web2')
    assert.notEqual(fileOf(web2, 'host.crt'), before)
    for (const { certificate } of others) rmSync(issuedPath(certs, certificate))
  })

  test('can be renewed by several sessions at once while a backup runs, and fits its key in the end', async () => {
    const renew = () => site.server('certs', 'renew', 'web1')
    const [run, ...renewed] = await Promise.all([site.run('web1'), renew(), renew()])
    assert.equal(run.code, 0, run.stdout + run.stderr)
    for (const { code, stdout, stderr } of renewed) assert.equal(code, 0, stdout + stderr)
    await requireService(web1)
  })

  for (const [file, what] of [
    ['host.key', 'before the key has its name, is the old one with the old key'],
    ['host.crt', 'between the key and its copy of the certificate, is the new one with the new key'],
  ] as const) {
    test(`of an agent that dies ${what}`, { skip: noStrace }, async () => {
      await web2.stop()
      const before = fileOf(web2, 'host.key')
      const calls = 'rename,renameat,renameat2'
      const inject = `inject=${calls}:signal=KILL`
      const path = join(web2.folder, `${file}.new`)
      const strace = [
        'strace',
        '-f',
        '-qq',
        '-o',
        '/dev/null',
        '-P',
        path,
        '-e',
        `trace=${calls}`,
        '-e',
        inject,
      ]
      await web2.start({ wrapper: strace })
      const { code } = await server('certs', 'renew', 'web2')
      assert.notEqual(code, 0)
      await web2.agent.endWithin(60_000)
      assert.equal(fileOf(web2, 'host.key') === before, file === 'host.key')
      await web2.start()
      await requireService(web2)
    })
  }

  test('that was revoked is refused by the server, which says how to go on, and a bundle brings the host back', async () => {
    const { serial } = await rowOf('web2')
    const told = await succeeds('certs', 'revoke', 'web2')
    assert.match(told, new RegExp(serial))
    assert.match(told, /certs renew web2 --bundle/)
    assert.equal((await refusedCheck('web2')).code, 'certificate-revoked')
    assert.equal((await rowOf('web2')).state, 'revoked')
    const again = await server('certs', 'revoke', 'web2')
    assert.equal(again.code, 2, again.stdout + again.stderr)
    const bundle = site.at('again.bundle.json')
    await succeeds('certs', 'renew', 'web2', '--bundle', bundle)
    const kept = fileOf(web2, 'backup-host.toml')
    const init = ['--config', web2.config, 'init', '--force', '--bundle', bundle]
    assert.equal((await site.startAgent(init).endWithin(60_000)).code, 0)
    writeFileSync(web2.config, kept)
    await web2.stop()
    await web2.start()
    await requireService(web2)
  })
})

describe('a server whose key was stolen', () => {
  let session: AgentSession
  let answer: MessageOf<'trusted'>
  const files = () => ['ca.crt', 'host.key', 'host.crt', 'revoked.crl'].map((name) => fileOf(web1, name))
  let before: string[]

  /** Has the agent refuse, and keep what it has. */
  async function refused(words: RegExp): Promise<void> {
    answer = await session.channel.receive(['trusted'])
    assert.match(answer.fault ?? 'nothing was refused', words)
    assert.deepEqual(files(), before)
  }

  async function offer(authorities: [string, string][], lists: Buffer[] = []): Promise<void> {
    const der = (pem: string) => new X509Certificate(pem).raw
    const offered = authorities.map(([one, by]) => ({ certificate: der(one), endorsement: der(by) }))
    await session.channel.send({ type: 'trust-update', authorities: offered, lists })
  }

  test('cannot bring an authority of its own to a host, whoever signs for it', async () => {
    before = files()
    session = await breakIn(site, web1)
    const stranger = await strangeAuthority()
    await offer([[stranger.certificate, await endorseAuthority(stranger, stranger.certificate, Date.now())]])
    await refused(/no authority which is trusted here has signed for/)
    // A leaf of the authority is none of its endorsements, and neither is the authority itself.
    await offer([[stranger.certificate, String(serverCredentials(site).cert)]])
    await refused(/no authority which is trusted here has signed for/)
    await offer([[stranger.certificate, String(serverCredentials(site).ca)]])
    await refused(/no authority which is trusted here has signed for/)
    await offer([[String(serverCredentials(site).cert), String(serverCredentials(site).cert)]])
    await refused(/is none/)
    await session.channel.close()
  })

  test('cannot bring a list of its own, and an older list is of no effect', async () => {
    session = await breakIn(site, web1)
    const stranger = await strangeAuthority()
    const serial = new X509Certificate(serverCredentials(site).cert).serialNumber
    const number = Math.floor(Date.now() / 1000) + 1_000_000
    const revoked = new Map([[serial, Date.now()]])
    await offer([], [await createRevocationList(stranger, { number, revoked }, Date.now())])
    await refused(/no authority that is trusted here has signed/)
    await offer([], [Buffer.from('3003020101', 'hex')])
    await refused(/no revocation list/)
    const authority = await readAuthority(join(site.home, 'certs'))
    const older = await createRevocationList(authority, { number: 1, revoked: new Map() }, Date.now())
    await offer([], [older])
    answer = await session.channel.receive(['trusted'])
    assert.deepEqual(files(), before)
    assert.ok(answer.lists[0]!.number > 1)
    await session.channel.close()
  })

  test('cannot give a host another certificate than that of its new key', async () => {
    session = await breakIn(site, web1)
    const { channel } = session
    const signed = (pair: KeyPair) => new X509Certificate(pair.certificate).raw
    const forged: [Buffer, RegExp][] = [
      [signed(await issue(site, { role: 'host', name: 'web1' })), /for another key/],
      [new X509Certificate(serverCredentials(site).cert).raw, /for another key/],
      [
        signed(await issueCertificate(await strangeAuthority(), { role: 'host', name: 'web1' }, Date.now())),
        /for another key/,
      ],
      [Buffer.from('3000', 'hex'), /no certificate/],
    ]
    for (const [certificate, words] of forged) {
      await channel.send({ type: 'renew' })
      await channel.receive(['signing-request'])
      await channel.send({ type: 'certificate', certificate })
      await refused(words)
    }
    await channel.send({ type: 'certificate', certificate: forged[0]![0] })
    await assert.rejects(channel.receive(['trusted']), { code: 'message-out-of-turn' })
  })

  test('cannot have keys made without end', async () => {
    session = await breakIn(site, web1)
    await assert.rejects(
      async () => {
        for (let i = 0; i <= trustMessagesMax; i++) {
          await session.channel.send({ type: 'renew' })
          await session.channel.receive(['signing-request'])
        }
      },
      (error: unknown) => error instanceof ProtocolError && error.code === 'message-out-of-turn',
    )
    assert.deepEqual(files(), before)
  })

  test('is refused by each host that has the list, also when it is the first to dial, and its sessions end', async () => {
    const certs = join(site.home, 'certs')
    const stolen = site.at('stolen')
    cpSync(certs, stolen, { recursive: true })
    await succeeds('certs', 'renew', '--server')
    const use = (folder: string) => site.configure(`${settings} certs: ${JSON.stringify(folder)},`)
    use(stolen)
    session = await breakIn(site, web1, stolen)
    await succeeds('check', 'web1')
    use(certs)
    await succeeds('certs', 'revoke', '--server')
    const ended = assert.rejects(session.channel.receive(['trusted']), { code: 'certificate-revoked' })
    await succeeds('check', 'web1')
    await ended
    assert.equal((await rowOf('web1')).host!.hasNewestList, true)
    // To the other one, it is carried by hand.
    assert.ok(!(await rowOf('web2')).host?.hasNewestList)
    copyFileSync(join(certs, 'ca.crl'), join(web2.folder, 'revoked.crl'))
    const logged = web2.agent.log.length
    web2.agent.kill('SIGHUP')
    await web2.agent.untilLogged(({ msg }) => msg?.includes('were read again') ?? false, logged)
    use(stolen)
    for (const name of ['web1', 'web2']) assert.equal((await refusedCheck(name)).code, 'certificate-revoked')
    use(certs)
    await requireService(web1)
    await requireService(web2)
  })
})

describe('another authority', () => {
  const caOf = (host: TestHost) => readCertificates(fileOf(host, 'ca.crt'))
  const certs = () => join(site.home, 'certs')
  let old: X509Certificate
  let stolen: string

  test('is brought to hosts that can be reached, while the others are served as before', async () => {
    old = readCertificates(readFileSync(join(certs(), 'ca.crt'), 'utf8'))[0]!
    stolen = await makeCertificateFolder(site, 'of-old', await issue(site, { role: 'server', name: 'vm' }))
    await web2.stop()
    await succeeds('certs', 'change-ca')
    await requireService(web1)
    assert.equal(caOf(web1).length, 2)
    assert.ok(!new X509Certificate(fileOf(web1, 'host.crt')).checkIssued(old))
    assert.equal((await rowOf('web1')).host!.trustsIssuing, true)
    assert.ok(!(await rowOf('web2')).host?.trustsIssuing)
    const early = await server('certs', 'change-ca', '--finish')
    assert.equal(early.code, 2)
    assert.match(early.stderr, /web2 (does not have the new authority|was not seen)/)
    assert.doesNotMatch(early.stderr, /web1/)
    // Nor are those forgotten that are not backed up now.
    const module = readFileSync(web2.module, 'utf8')
    for (const other of [
      module.replace('\n} satisfies', '\n  disabled: true,\n} satisfies'),
      'export default { address: 1 }',
    ]) {
      web2.changeModule(() => other)
      const ended = await server('certs', 'change-ca', '--finish')
      assert.equal(ended.code, 2, ended.stdout)
      assert.match(ended.stderr, /web2 (does not have the new authority|was not seen)/)
    }
    web2.changeModule(() => module)
  })

  test('takes the place of the old one when all hosts have it, also where the change was cut short', async () => {
    // As a crash leaves it between two names.
    renameSync(join(certs(), 'ca.key'), join(certs(), 'ca-new.key'))
    await web2.start()
    await succeeds('check')
    await succeeds('certs', 'change-ca', '--finish')
    await succeeds('check')
    for (const host of [web1, web2]) {
      assert.equal(caOf(host).length, 1, host.name)
      assert.ok(!caOf(host)[0]!.raw.equals(old.raw))
      await requireService(host)
      assert.equal((await rowOf(host.name)).host!.otherAuthorities, 0)
    }
    const run = await site.run('web1', 'web2')
    assert.equal(run.code, 0, run.stdout + run.stderr)
    assert.equal((await listOf()).changing, false)
  })

  test('leaves nothing behind that the old one could open', async () => {
    site.configure(`${settings} certs: ${JSON.stringify(stolen)},`)
    assert.equal((await refusedCheck('web1')).code, 'certificate-untrusted')
    site.configure(settings)
  })
})

describe('check says what is wrong with', () => {
  test('a clock that is behind, and by how much', { skip: noFaketime }, async () => {
    await succeeds('certs', 'renew', '--server')
    await web1.stop()
    await web1.start({ env: await movedClock('-2d') })
    const { code, message } = await refusedCheck('web1')
    assert.equal(code, 'certificate-not-yet-valid')
    assert.match(
      message,
      /the certificate of the server is not valid before .*by the clock of the host it is/,
    )
    assert.match(message, /the clock of the other side is (2 days|1 day 23 hours).* behind the one here/)
    const env = await movedClock('-1500d')
    const checked = await site.startAgent(['--config', web1.config, 'check'], { env }).endWithin(60_000)
    assert.match(checked.stdout, /valid from .*\(in [0-9]+ days.*the clock here says/)
    await web1.stop()
    await web1.start()
  })

  test('a certificate that has expired: whose, when, and how long ago', async () => {
    const pair = await issue(site, { role: 'server', name: 'vm' }, Date.now() - 1000 * dayMs)
    const folder = await makeCertificateFolder(site, 'late', pair)
    site.configure(`${settings} certs: ${JSON.stringify(folder)},`)
    const { code, message } = await refusedCheck('web1')
    site.configure(settings)
    assert.equal(code, 'certificate-expired')
    assert.match(
      message,
      /the certificate of the server expired on .*, 175 days.* ago: by the clock of the host/,
    )
  })

  test('an authority that is another one: both are named', async () => {
    const stranger = await strangeAuthority()
    const pair = await issueCertificate(stranger, { role: 'server', name: 'vm' }, Date.now())
    const folder = await makeCertificateFolder(site, 'other', pair)
    site.configure(`${settings} certs: ${JSON.stringify(folder)},`)
    const { message } = await refusedCheck('web1')
    site.configure(settings)
    assert.match(
      message,
      /of the server was issued by "CN=a stranger", and the host trusts "CN=central-backup CA of /,
    )
  })
})
