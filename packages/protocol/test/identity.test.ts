import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { type Identity, identityFromAltNames, identityUri, ProtocolError } from '../src/index.ts'
import { createAuthority } from './certificates.ts'

const authority = await createAuthority()

/** The identity in a real certificate with these alternative names. */
async function identityOf(uris: string[], dns: string[] = []): Promise<Identity> {
  const { cert } = await authority.host('x', { uris, dns })
  return identityFromAltNames(new X509Certificate(cert).subjectAltName)
}

const identities: Identity[] = [
  { role: 'host', name: 'web1' },
  { role: 'server', name: 'main' },
  { role: 'host', name: `A-b_c.9${'x'.repeat(56)}` },
]

for (const identity of identities) {
  test(`the ${identity.role} ${identity.name.slice(0, 8)} is read from its URI, whatever stands beside it`, async () => {
    const uri = identityUri(identity)
    assert.deepEqual(await identityOf([uri]), identity)
    assert.deepEqual(
      await identityOf(['https://example.org/a,b', uri, 'urn:x:"y"'], ['web2.example.org']),
      identity,
    )
  })
}

const refused: Record<string, string[]> = {
  'no name of ours': ['urn:other:host:web1'],
  'two URIs of ours': ['urn:central-backup:host:web1', 'urn:central-backup:server:main'],
  'the same URI twice': ['urn:central-backup:host:web1', 'urn:central-backup:host:web1'],
  'an unknown role': ['urn:central-backup:relay:web1'],
  'no role': ['urn:central-backup:web1'],
  'an empty name': ['urn:central-backup:host:'],
  'a name with a slash': ['urn:central-backup:host:../web1'],
  'a name with a colon': ['urn:central-backup:host:web1:web2'],
  'a name with a comma': ['urn:central-backup:host:web1, URI:urn:x'],
  'a name that hides': ['urn:central-backup:host:.web1'],
  'a name that is too long': [`urn:central-backup:host:${'x'.repeat(64)}`],
  'a name with a newline': ['urn:central-backup:host:web1\n'],
  'a name with NUL': ['urn:central-backup:host:web1\0'],
  'other letters in the prefix': ['URN:Central-Backup:host:web1'],
  'text before the prefix': ['xurn:central-backup:host:web1'],
  'a right one and one in other letters': ['urn:central-backup:host:web1', 'URN:central-backup:host:web2'],
}

for (const [what, uris] of Object.entries(refused)) {
  test(`a certificate with ${what} has no identity`, async () => {
    await assert.rejects(
      () => identityOf(uris),
      (error) => error instanceof ProtocolError && error.code === 'wrong-role',
    )
  })
}

test('a certificate with our URI as a DNS name has no identity', async () => {
  await assert.rejects(() => identityOf([], ['urn:central-backup:host:web1']), { code: 'wrong-role' })
})

test('text that is no list of names has no identity', () => {
  for (const text of [undefined, '', 'x', 'URI:"urn', ', ']) {
    assert.throws(() => identityFromAltNames(text), { code: 'wrong-role' })
  }
})
