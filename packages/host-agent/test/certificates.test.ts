import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { before, test } from 'node:test'
import type { Identity } from '@central-backup/protocol'
import { createRevocationList } from '../../central-server/src/pki/certificate.ts'
import { endorse, makeLeaf, makePair, type Pair } from '../../protocol/test/trust-pairs.ts'
import { readHostCertificates } from '../src/certificates/read.ts'
import { CertificateStore } from '../src/certificates/store.ts'
import { SettingsError } from '../src/errors.ts'
import type { AgentSettings } from '../src/settings.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const nowMs = Date.now()
const dayMs = 86_400_000
const web1: Identity = { role: 'host', name: 'web1' }

let authority: Pair
let stranger: Pair
let own: Pair

before(async () => {
  authority = await makePair('the authority')
  stranger = await makePair('a stranger')
  own = await makeLeaf(authority, web1)
})

/** A host that is set up, and its store. */
class Host extends TemporaryFolder {
  readonly settings: AgentSettings
  readonly store: CertificateStore
  changes = 0

  constructor() {
    super()
    const tls = {
      ca: this.write('ca.crt', authority.certificate),
      certificate: this.write('host.crt', own.certificate),
      key: this.write('host.key', own.key),
      revoked: this.at('revoked.crl'),
    }
    this.settings = { name: 'web1', tls } as AgentSettings
    this.store = new CertificateStore(this.settings, () => {
      this.changes++
    })
  }

  snapshot(): string[] {
    return ['ca.crt', 'host.crt', 'host.key'].map((name) => readFileSync(this.at(name), 'utf8'))
  }
}

test('a certificate for a new key takes the place of both, in the files and in use', async () => {
  using host = new Host()
  const renewed = await makeLeaf(authority, web1)
  assert.equal(await host.store.takeCertificate(renewed.key, renewed.x509.raw, nowMs), null)
  assert.equal(host.changes, 1)
  assert.ok(host.store.current.certificate.raw.equals(renewed.x509.raw))
  assert.ok(readHostCertificates(host.settings).certificate.raw.equals(renewed.x509.raw))
  assert.equal(readFileSync(host.at('host.crt'), 'utf8').trim(), renewed.certificate.trim())
  const key = readFileSync(host.at('host.key'), 'utf8')
  assert.ok(key.startsWith(renewed.key.trim()) && key.includes('BEGIN CERTIFICATE'))
})

const refusals: [string, () => Promise<Pair>, RegExp][] = [
  ['of another host', () => makeLeaf(authority, { role: 'host', name: 'web2' }), /it is for host web2/],
  ['of a server', () => makeLeaf(authority, { role: 'server', name: 'web1' }), /it is for server web1/],
  ['of another authority', () => makeLeaf(stranger, web1), /no authority that is trusted here/],
  ['that has expired', () => makeLeaf(authority, web1, nowMs - 1000 * dayMs), /not valid now/],
  ['of the future', () => makeLeaf(authority, web1, nowMs + 2 * dayMs), /not valid now/],
  ['of nobody', async () => authority, /names nobody/],
  ['for another key', async () => ({ ...(await makeLeaf(authority, web1)), key: own.key }), /another key/],
]
for (const [what, make, words] of refusals) {
  test(`a certificate that is ${what.replace(/^that /, 'one that ')} is refused`, async () => {
    using host = new Host()
    const before = host.snapshot()
    const { key, x509 } = await make()
    assert.match((await host.store.takeCertificate(key, x509.raw, nowMs)) ?? 'taken', words)
    assert.deepEqual(host.snapshot(), before)
    assert.equal(host.changes, 0)
  })
}

test('a certificate that is revoked is refused', async () => {
  using host = new Host()
  const renewed = await makeLeaf(authority, web1)
  const revoked = new Map([[renewed.x509.serialNumber, nowMs]])
  const list = await createRevocationList(authority, { number: 1, revoked }, nowMs)
  await host.store.updateTrust({ authorities: [], lists: [list] }, nowMs)
  assert.match((await host.store.takeCertificate(renewed.key, renewed.x509.raw, nowMs)) ?? 'taken', /revoked/)
})

test('many changes at once come one after the other, and what is left is whole', async () => {
  using host = new Host()
  const pairs = await Promise.all(Array.from({ length: 8 }, () => makeLeaf(authority, web1)))
  const next = await makePair('next')
  const offer = {
    authorities: [{ certificate: next.x509.raw, endorsement: (await endorse(authority, next)).raw }],
    lists: [],
  }
  const taken = pairs.map(({ key, x509 }) => host.store.takeCertificate(key, x509.raw, nowMs))
  const [{ changes }] = await Promise.all([host.store.updateTrust(offer, nowMs), ...taken])
  assert.match(changes.join(), /a new authority is trusted: CN=next/)
  const { certificate, trust } = readHostCertificates(host.settings)
  assert.ok(certificate.raw.equals(pairs.at(-1)!.x509.raw))
  assert.equal(trust.authorities.length, 2)
})

test('what cannot be written leaves all as it was, and the next change is made', async () => {
  using host = new Host()
  const renewed = await makeLeaf(authority, web1)
  const { key } = host.settings.tls
  host.settings.tls.key = host.at('missing', 'host.key')
  await assert.rejects(host.store.takeCertificate(renewed.key, renewed.x509.raw, nowMs), { code: 'ENOENT' })
  assert.throws(() => host.store.requireWritable(), { code: 'ENOENT' })
  assert.ok(host.store.current.certificate.raw.equals(own.x509.raw))
  host.settings.tls.key = key
  assert.equal(await host.store.takeCertificate(renewed.key, renewed.x509.raw, nowMs), null)
})

test('an authority that the lists have sent away is not trusted, also where the other file still has it', async () => {
  using host = new Host()
  const next = await makePair('next')
  const { certificate, key } = await makeLeaf(next, web1)
  const revoked = new Map([[authority.x509.serialNumber, nowMs]])
  const list = await createRevocationList(next, { number: 2, revoked }, nowMs)
  host.write('host.crt', certificate)
  host.write('host.key', key)
  host.write('ca.crt', next.certificate + authority.certificate)
  const pem = `-----BEGIN X509 CRL-----\n${list.toString('base64')}\n-----END X509 CRL-----\n`
  host.write('revoked.crl', pem)
  const { trust, credentials } = readHostCertificates(host.settings)
  assert.deepEqual(
    trust.authorities.map(({ subject }) => subject),
    ['CN=next'],
  )
  assert.equal(new X509Certificate(credentials.ca).subject, 'CN=next')
})

test('lists that cannot be read keep the agent from starting; those of another authority only do not count', async () => {
  using host = new Host()
  host.write('revoked.crl', 'noise\n')
  assert.throws(() => readHostCertificates(host.settings), SettingsError)
  const list = await createRevocationList(stranger, { number: 1, revoked: new Map() }, nowMs)
  host.write('revoked.crl', `-----BEGIN X509 CRL-----\n${list.toString('base64')}\n-----END X509 CRL-----\n`)
  assert.equal(readHostCertificates(host.settings).strange.length, 1)
})
