import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { digestOf, type MessageOf } from '@central-backup/protocol'
import {
  authorityProgress,
  beginAuthorityChange,
  finishAuthorityChange,
} from '../src/jobs/change-authority.ts'
import { listCertificates } from '../src/jobs/list-certificates.ts'
import { renewServerCertificate, renewServerIfDue } from '../src/jobs/renew-server.ts'
import {
  certificatePaths,
  readEndorsements,
  readServerCertificate,
  readServerCredentials,
  readServerTrust,
} from '../src/pki/folder.ts'
import { readHostTrust, writeHostTrust } from '../src/pki/host-trust.ts'
import { writeRevocationLists } from '../src/pki/revocation.ts'
import { planUpdate } from '../src/session/keep-trust.ts'
import { updateFile } from '../src/storage/replace-file.ts'
import { backupServerInProcess } from './run-in-process.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const dayMs = 86_400_000
const nowMs = Date.now()

/** A home with an authority, a server and the host web1, and commands in it. */
class Home extends TemporaryFolder {
  readonly certs = this.at('home/certs')
  readonly paths = certificatePaths(this.certs)

  static async create(): Promise<Home> {
    const home = new Home()
    await home.succeeds('init', '--repository', home.at('repository'))
    await home.succeeds('host', 'add', 'web1', '--address', '192.0.2.10')
    return home
  }

  command(...args: string[]) {
    return backupServerInProcess(['--home', this.at('home'), ...args])
  }

  async succeeds(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.command(...args)
    assert.equal(status, 0, stderr)
    return stdout
  }

  async refuses(words: RegExp, ...args: string[]): Promise<void> {
    const { status, stderr } = await this.command(...args)
    assert.equal(status, 2, stderr)
    assert.match(stderr, words)
  }

  async serialOf(role: string): Promise<string> {
    const { certificates } = await listCertificates(this.certs, nowMs)
    return certificates.find((one) => one.role === role && one.current)!.serial
  }
}

function revoke(home: Home, serial: string, atMs = nowMs) {
  return writeRevocationLists(home.certs, { added: new Map([[serial, atMs]]) }, atMs)
}

test('certs list has the authority, the server and the hosts, for people and as JSON', async () => {
  using home = await Home.create()
  const text = await home.succeeds('certs', 'list')
  for (const role of ['authority', 'server', 'host']) assert.match(text, new RegExp(`^${role} .* good`, 'm'))
  const { certificates } = JSON.parse(await home.succeeds('certs', 'list', '--json'))
  assert.deepEqual(
    certificates.map(({ role }: { role: string }) => role),
    ['authority', 'server', 'host'],
  )
  assert.equal(certificates[2].name, 'web1')
  assert.equal(certificates[2].daysLeft, 824)
})

test('what the server needs itself is not revoked, and neither is what is none', async () => {
  using home = await Home.create()
  await home.refuses(/server's own certificate/, 'certs', 'revoke', await home.serialOf('server'))
  await home.refuses(/certificate of an authority/, 'certs', 'revoke', await home.serialOf('authority'))
  await home.refuses(/neither a host with a certificate nor a serial number/, 'certs', 'revoke', 'web2')
  await home.refuses(/Name a host or a serial number/, 'certs', 'revoke')
  await home.refuses(/no certificate of the server but the one in use/, 'certs', 'revoke', '--server')
  await home.succeeds('certs', 'revoke', '0A:1b:2C')
  await home.refuses(/0A1B2C is revoked already/, 'certs', 'revoke', '0a1b2c')
})

test('without the key of the authority nothing is revoked, renewed or changed, and it is said what is missing', async () => {
  using home = await Home.create()
  renameSync(home.paths.authorityKey, home.at('elsewhere'))
  const before = readdirSync(home.certs)
  for (const args of [['revoke', 'web1'], ['renew', '--server'], ['renew', 'web1'], ['change-ca']])
    await home.refuses(/ca\.key is missing/, 'certs', ...args)
  assert.deepEqual(readdirSync(home.certs), before)
  assert.deepEqual(await renewServerIfDue(home.certs, nowMs + 700 * dayMs), {})
})

test('the certificate of the server is renewed when less than a third of its life is left, under its name', async () => {
  using home = await Home.create()
  const before = (await readServerCertificate(home.certs))!
  assert.deepEqual(await renewServerIfDue(home.certs, nowMs + 500 * dayMs), {})
  const { renewed } = await renewServerIfDue(home.certs, nowMs + 600 * dayMs)
  assert.equal(renewed!.subjectAltName, before.subjectAltName)
  const { cert, key } = await readServerCredentials(home.certs)
  assert.ok(new X509Certificate(cert).raw.equals(renewed!.raw))
  assert.match(key, /BEGIN CERTIFICATE/)
  // The copy may be older, as after a crash: the key knows its own.
  writeFileSync(home.paths.serverCertificate, before.toString())
  assert.ok((await readServerCertificate(home.certs))!.raw.equals(renewed!.raw))
  const { certificates } = await listCertificates(home.certs, nowMs)
  assert.equal(certificates.find(({ serial }) => serial === before.serialNumber)!.state, 'replaced')
})

test('a list keeps what it had, and its number grows, also where the clock was set back', async () => {
  using home = await Home.create()
  const first = await revoke(home, '0A')
  const second = await revoke(home, '0B', nowMs - 100 * dayMs)
  const third = await revoke(home, '0C', nowMs + dayMs)
  assert.equal(first.number, Math.floor(nowMs / 1000))
  assert.equal(second.number, first.number + 1)
  assert.equal(third.number, Math.floor((nowMs + dayMs) / 1000))
  assert.deepEqual([...(await readServerCredentials(home.certs)).revoked], ['0A', '0B', '0C'])
})

test('of several revocations at the same time, none is lost', async () => {
  using home = await Home.create()
  const serials = ['0A', '0B', '0C', '0D', '0E']
  await Promise.all(serials.map((serial) => revoke(home, serial)))
  assert.deepEqual([...(await readServerCredentials(home.certs)).revoked].sort(), serials)
})

test('a certificate leaves the list a month after it has expired', async () => {
  using home = await Home.create()
  const serial = await home.serialOf('host')
  await revoke(home, serial)
  await revoke(home, '0A', nowMs + 850 * dayMs)
  assert.ok((await readServerCredentials(home.certs)).revoked.has(serial))
  await revoke(home, '0B', nowMs + 860 * dayMs)
  assert.deepEqual([...(await readServerCredentials(home.certs)).revoked], ['0A', '0B'])
})

test('a list that cannot be read is an error of every command that needs it', async () => {
  using home = await Home.create()
  await revoke(home, '0A')
  const text = readFileSync(home.paths.revocationLists, 'utf8')
  const lines = text.split('\n')
  const changed = lines
    .with(
      3,
      lines[3]!.replace(/./, (one) => (one === 'A' ? 'B' : 'A')),
    )
    .join('\n')
  for (const broken of ['noise', text.slice(0, -40), changed, text + changed]) {
    writeFileSync(home.paths.revocationLists, broken)
    await assert.rejects(readServerCredentials(home.certs), { code: 'certificate-unusable' })
  }
  await home.refuses(/ca\.crl cannot be used/, 'certs', 'list')
})

test('an update that a crash has left is taken over after a minute', async () => {
  using home = await Home.create()
  const path = home.at('file')
  writeFileSync(`${path}.new`, 'half')
  const long = (Date.now() - 61_000) / 1000
  utimesSync(`${path}.new`, long, long)
  await updateFile(path, async (before) => `${before ?? 'nothing'} and more`, 0o600)
  assert.equal(readFileSync(path, 'utf8'), 'nothing and more')
})

test('while the authority is changed, both are trusted, the new one issues, and hosts get what they lack', async () => {
  using home = await Home.create()
  const {
    authorities: [old],
  } = await readServerTrust(home.certs)
  await revoke(home, '0A')
  const next = await beginAuthorityChange(home.certs, nowMs)
  const trust = await readServerTrust(home.certs)
  assert.deepEqual(
    trust.authorities.map(({ raw }) => raw),
    [next.raw, old!.raw],
  )
  assert.equal(trust.lists.size, 2)
  assert.ok((await readServerCertificate(home.certs))!.checkIssued(old!))
  const told: MessageOf<'trusted'> = {
    type: 'trusted',
    authorities: [digestOf(old!)],
    lists: [],
    certificate: digestOf(old!),
  }
  const source = { trust, endorsements: await readEndorsements(home.certs) }
  const update = planUpdate(told, source)!
  assert.deepEqual(
    update.authorities.map(({ certificate }) => certificate),
    [next.raw],
  )
  assert.equal(update.lists.length, 2)
  const lists = [...trust.lists].map(([key, { number }]) => ({ authority: Buffer.from(key, 'hex'), number }))
  const all = { ...told, authorities: [digestOf(old!), digestOf(next)], lists }
  assert.equal(planUpdate(all, source), null)
  await home.refuses(/being changed already/, 'certs', 'change-ca')
  const { open } = await authorityProgress(home.certs, ['web1'], nowMs)
  assert.deepEqual(open, [{ host: 'web1', lacks: 'was not seen since' }])
  await home.refuses(/web1 was not seen since/, 'certs', 'change-ca', '--finish')
  // The server gets no certificate that a host could not know.
  assert.ok((await renewServerCertificate(home.certs, nowMs)).checkIssued(old!))
  const bundle = home.at('web2.json')
  await home.succeeds('host', 'add', 'web2', '--address', '192.0.2.11', '--bundle', bundle)
  assert.equal(JSON.parse(readFileSync(bundle, 'utf8')).authority.match(/BEGIN/g).length, 2)

  await finishAuthorityChange(home.certs, nowMs)
  const after = await readServerTrust(home.certs)
  assert.deepEqual(
    after.authorities.map(({ raw }) => raw),
    [next.raw],
  )
  assert.ok((await readServerCertificate(home.certs))!.checkIssued(next))
  assert.ok((await readServerCredentials(home.certs)).revoked.has(old!.serialNumber))
  await assert.rejects(finishAuthorityChange(home.certs, nowMs), { code: 'usage' })
  assert.match(await home.succeeds('certs', 'list'), /host .* untrusted/)
})

test('what a host was seen to trust is kept, and what cannot be read of it counts as not known', async () => {
  using home = await Home.create()
  const seen = { seenAtMs: nowMs, authorities: ['ab'.repeat(32)], lists: [] }
  await writeHostTrust(home.certs, 'web1', seen)
  assert.deepEqual(await readHostTrust(home.certs, 'web1'), seen)
  writeFileSync(`${home.certs}/hosts/web1.trust.json`, '{')
  assert.equal(await readHostTrust(home.certs, 'web1'), null)
})
