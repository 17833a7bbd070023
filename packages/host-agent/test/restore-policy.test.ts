import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findRestorePlace } from '../src/policy.ts'
import type { AgentSettings } from '../src/settings.ts'

function place(restore: string[], target: string | Buffer) {
  const settings = { allow: { read: ['/'], restore } } as unknown as AgentSettings
  return findRestorePlace(settings, Buffer.from(target))
}

test('a target at or below an allowed folder is that folder and the way down from it', () => {
  assert.deepEqual(place(['/srv/restore'], '/srv/restore'), { folder: '/srv/restore', subfolder: '' })
  assert.deepEqual(place(['/srv/restore'], '/srv/restore/a/b'), { folder: '/srv/restore', subfolder: 'a/b' })
  assert.deepEqual(place(['/'], '/'), { folder: '/', subfolder: '' })
  assert.deepEqual(place(['/'], '/etc'), { folder: '/', subfolder: 'etc' })
  assert.deepEqual(place(['/srv//restore/./'], '/srv/restore/a'), {
    folder: '/srv//restore/./',
    subfolder: 'a',
  })
})

test('of several allowed folders the one that is nearest counts, as links in its path are the host’s own', () => {
  assert.deepEqual(place(['/', '/srv', '/srv/restore', '/var'], '/srv/restore/x'), {
    folder: '/srv/restore',
    subfolder: 'x',
  })
})

test('targets that are not UTF-8 are compared as bytes', () => {
  const target = Buffer.from('/srv/caf\xe9/x', 'latin1')
  assert.deepEqual(place(['/srv'], target), { folder: '/srv', subfolder: 'caf\xe9/x' })
  assert.equal(place(['/srv/caf\ufffd'], target), null)
  assert.deepEqual(place(['/srv/café'], '/srv/café'), { folder: '/srv/café', subfolder: '' })
})

for (const target of [
  '',
  '.',
  'srv/restore',
  '/',
  '/srv',
  '/srv/restore2',
  '/srv/restor',
  '/srv/restore/',
  '/srv/restore/..',
  '/srv/restore/../restore',
  '/srv/restore/./a',
  '/srv/restore//a',
  '//srv/restore',
  '/srv/restore/a\0',
]) {
  test(`${JSON.stringify(target)} is not at or below /srv/restore`, () => {
    assert.equal(place(['/srv/restore'], target), null)
  })
}

test('a policy that allows nothing allows no target', () => {
  for (const target of ['/', '/srv/restore', '']) assert.equal(place([], target), null)
})
