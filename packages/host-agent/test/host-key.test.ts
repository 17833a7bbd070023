import assert from 'node:assert/strict'
import { createPublicKey, verify } from 'node:crypto'
import { test } from 'node:test'
import { isPublicKeyForm, possessionBytes, possessionStatement } from '@central-backup/protocol'
import { createHostKey, publicKeyOf, requestCertificate } from '../src/host-key.ts'

test('a request has the public half of the key, and proves the private one for its channel only', () => {
  const key = createHostKey()
  const binding = Buffer.alloc(32, 1)
  const { publicKey, possession } = requestCertificate(key, binding)
  assert.ok(isPublicKeyForm(publicKey))
  assert.deepEqual(publicKey, publicKeyOf(key))
  assert.equal(possession.length, possessionBytes)
  const isProofFor = (channel: Buffer) =>
    verify(
      'sha256',
      possessionStatement(publicKey, channel),
      {
        key: createPublicKey({ key: publicKey, format: 'der', type: 'spki' }),
        dsaEncoding: 'ieee-p1363',
      },
      possession,
    )
  assert.ok(isProofFor(binding))
  assert.ok(!isProofFor(Buffer.alloc(32, 2)))
  assert.notEqual(createHostKey(), key)
})
