import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { before, test } from 'node:test'
import {
  authorityDays,
  createAuthority,
  issueCertificate,
  type KeyPair,
  leafDays,
} from '../src/pki/certificate.ts'
import { findCertificateFaults, inspectCertificate } from '../src/pki/inspect.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const dayMs = 86_400_000
const nowMs = Math.floor(Date.now() / 1000) * 1000

let authority: KeyPair
let host: KeyPair
let server: KeyPair

before(async () => {
  authority = await createAuthority('test CA', nowMs)
  host = await issueCertificate(authority, { role: 'host', name: 'web1' }, nowMs)
  server = await issueCertificate(authority, { role: 'server', name: 'Backup_1' }, nowMs)
})

test('the authority is a self-signed P-256 CA for ten years', () => {
  const certificate = new X509Certificate(authority.certificate)
  assert.ok(certificate.ca)
  assert.ok(certificate.verify(certificate.publicKey))
  assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
  assert.equal(certificate.validToDate.getTime(), nowMs + authorityDays * dayMs)
  assert.ok(certificate.checkPrivateKey(createPrivateKey(authority.key)))
  assert.match(authority.key, /^-----BEGIN PRIVATE KEY-----\n/)
})

test('a leaf says its role and name, is good for its side only, and began an hour ago', () => {
  const certificate = new X509Certificate(host.certificate)
  assert.ok(!certificate.ca)
  assert.equal(certificate.subjectAltName, 'URI:urn:central-backup:host:web1, DNS:web1')
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1'])
  assert.ok(certificate.checkIssued(new X509Certificate(authority.certificate)))
  assert.equal(certificate.validFromDate.getTime(), nowMs - 3_600_000)
  assert.equal(certificate.validToDate.getTime(), nowMs + leafDays * dayMs)
  assert.deepEqual(new X509Certificate(server.certificate).keyUsage, ['1.3.6.1.5.5.7.3.2'])
  assert.deepEqual(inspectCertificate(server.certificate).identity, { role: 'server', name: 'Backup_1' })
})

test('every certificate has its own key and serial number', async () => {
  const again = await issueCertificate(authority, { role: 'host', name: 'web1' }, nowMs)
  assert.notEqual(again.key, host.key)
  const serials = [authority, host, server, again].map(
    ({ certificate }) => new X509Certificate(certificate).serialNumber,
  )
  assert.equal(new Set(serials).size, 4)
  for (const serial of serials) assert.equal(serial.length, 32)
})

test('a leaf does not outlive its authority', async () => {
  const late = nowMs + (authorityDays - 10) * dayMs
  const { certificate } = await issueCertificate(authority, { role: 'host', name: 'web1' }, late)
  assert.equal(inspectCertificate(certificate).notAfterMs, nowMs + authorityDays * dayMs)
})

test('an authority that expired, or whose key is another one, signs nothing', async () => {
  const issue = (pair: KeyPair, at: number) => issueCertificate(pair, { role: 'host', name: 'web1' }, at)
  await assert.rejects(issue(authority, nowMs + (authorityDays + 1) * dayMs), {
    code: 'authority-invalid',
    message: /expired/,
  })
  await assert.rejects(issue({ ...authority, key: host.key }, nowMs), {
    code: 'authority-invalid',
    message: /does not belong/,
  })
  await assert.rejects(issue({ ...authority, key: 'nonsense' }, nowMs), { code: 'authority-invalid' })
})

test('faults of a certificate are all told', async () => {
  const other = await createAuthority('other CA', nowMs)
  const faults = (
    over: Partial<Parameters<typeof findCertificateFaults>[0]>,
    name: string | null = 'web1',
    at = nowMs,
  ) =>
    findCertificateFaults({ ...host, authority: authority.certificate, ...over }, { role: 'host', name }, at)
  assert.deepEqual(faults({}), [])
  assert.deepEqual(faults({}, null), [])
  assert.deepEqual(faults({ key: null }), [])
  assert.deepEqual(faults({ authority: other.certificate, key: server.key }, 'web2'), [
    'The certificate was not issued by this authority: it is of CN=test CA, and trusted is CN=other CA',
    'The certificate does not belong to the key',
    'The certificate is for host web1, not for host web2',
  ])
  assert.match(faults({}, 'web1', nowMs + (leafDays + 1) * dayMs).join(), /^The certificate expired on /)
  assert.match(faults({}, 'web1', nowMs - dayMs).join(), /not valid before/)
  assert.equal(faults({ certificate: 'nonsense' }).length, 1)
})

test('openssl accepts the certificates for their purposes and no others', (context) => {
  if (spawnSync('openssl', ['version']).error) return context.skip('openssl is not installed')
  using folder = new TemporaryFolder()
  for (const [name, pair] of Object.entries({ ca: authority, host, server }))
    writeFileSync(folder.at(name), pair.certificate)
  const verify = (purpose: string, leaf: string) => {
    const args = ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', folder.at('ca'), folder.at(leaf)]
    return spawnSync('openssl', args).status
  }
  assert.equal(verify('sslserver', 'host'), 0)
  assert.equal(verify('sslclient', 'server'), 0)
  assert.notEqual(verify('sslclient', 'host'), 0)
  assert.notEqual(verify('sslserver', 'server'), 0)
})
