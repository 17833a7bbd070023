import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { createThrowawayCertificate } from '../src/enroll/throwaway-certificate.ts'

test('a throw-away certificate is one by every rule: for its key, signed by it, valid now, and new each time', () => {
  for (const year of [1970, 1999, 2026, 2049, 2050, 2107]) {
    const nowMs = Date.UTC(year, 1, 28, 23, 59, 59)
    const { cert, key } = createThrowawayCertificate(nowMs)
    const certificate = new X509Certificate(cert)
    assert.ok(certificate.verify(certificate.publicKey))
    assert.ok(certificate.checkPrivateKey(createPrivateKey(key)))
    assert.ok(certificate.checkIssued(certificate))
    assert.equal(certificate.validFromDate.getTime(), nowMs - 86_400_000)
    assert.equal(certificate.validToDate.getTime(), nowMs + 86_400_000)
    assert.ok(!certificate.ca)
    assert.notEqual(createThrowawayCertificate(nowMs).cert, cert)
  }
  const serials = Array.from({ length: 50 }, () => {
    return new X509Certificate(createThrowawayCertificate(0).cert).serialNumber
  })
  assert.equal(new Set(serials).size, 50)
})
