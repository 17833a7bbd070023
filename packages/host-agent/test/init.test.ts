import assert from 'node:assert/strict'
import { chmodSync, lstatSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import argon2 from 'argon2'
import { readBundle } from '../src/bundle.ts'
import { initialize } from '../src/init.ts'
import { parseSettings } from '../src/settings.ts'
import { backupHostInProcess } from './run-backup-host.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const vector = join(import.meta.dirname, 'bundle-v1.json')
const text = readFileSync(vector, 'utf8')

async function initializeIn(folder: TemporaryFolder, force = false): Promise<string[]> {
  const { bundle } = await readBundle(vector)
  const listen = `0.0.0.0:${bundle.port}`
  return initialize(bundle, { settingsFile: folder.at('etc/backup-host.toml'), force, listen })
}

test('a bundle of version 1 is read as it was written', async () => {
  const { bundle } = await readBundle(vector)
  const { format: _format, version: _version, ...rest } = JSON.parse(text)
  assert.deepEqual({ ...bundle }, { ...JSON.parse(text), ...rest })
})

test('settings, key and certificates are written for this user only, and the password only as a hash', async () => {
  using folder = new TemporaryFolder()
  const files = await initializeIn(folder)
  assert.deepEqual(readdirSync(folder.at('etc')), ['backup-host.toml', 'ca.crt', 'host.crt', 'host.key'])
  assert.equal(files.length, 4)
  for (const file of files) assert.equal(lstatSync(file).mode & 0o777, 0o600, file)
  assert.equal(lstatSync(folder.at('etc')).mode & 0o777, 0o700)
  const bundle = JSON.parse(text)
  assert.equal(readFileSync(folder.at('etc/host.key'), 'utf8'), bundle.key)
  assert.equal(readFileSync(folder.at('etc/ca.crt'), 'utf8'), bundle.authority)
  const written = readFileSync(folder.at('etc/backup-host.toml'), 'utf8')
  assert.ok(!written.includes(bundle.password))
  const { settings, problems } = parseSettings('/f', written)
  assert.deepEqual(problems, [])
  assert.equal(settings!.name, 'web1')
  assert.ok(await argon2.verify(settings!.passwordHash, bundle.password))
  assert.match(settings!.passwordHash, /m=19456,p=1,t=2/)
})

test('the settings that init writes are right also where their comments are removed', async () => {
  using folder = new TemporaryFolder()
  await initializeIn(folder)
  const lines = readFileSync(folder.at('etc/backup-host.toml'), 'utf8').split('\n')
  const settings = lines.map((line) => line.replace(/^# (?=\[|[a-z_]+ = )/, '')).join('\n')
  assert.deepEqual(parseSettings('/f', settings).problems, [])
})

test('nothing is overwritten unless --force says so, and then all of it', async () => {
  using folder = new TemporaryFolder()
  folder.write('etc/host.crt', 'precious')
  await assert.rejects(initializeIn(folder), { code: 'already-exists', hint: /--force/ })
  assert.deepEqual(readdirSync(folder.at('etc')), ['host.crt'])
  await initializeIn(folder, true)
  assert.notEqual(readFileSync(folder.at('etc/host.crt'), 'utf8'), 'precious')
  assert.equal(readdirSync(folder.at('etc')).length, 4)
})

test('a link in place of a file is replaced, not followed', async () => {
  using folder = new TemporaryFolder()
  folder.write('victim', 'precious')
  folder.write('etc/.keep', '')
  symlinkSync('../victim', folder.at('etc/host.key'))
  await assert.rejects(initializeIn(folder), { code: 'already-exists' })
  await initializeIn(folder, true)
  assert.equal(readFileSync(folder.at('victim'), 'utf8'), 'precious')
  assert.ok(lstatSync(folder.at('etc/host.key')).isFile())
})

test('what is no bundle is refused, and nothing of it is repeated', async () => {
  using folder = new TemporaryFolder()
  const bundle = JSON.parse(text)
  const wrong: [string, RegExp][] = [
    ['', /not JSON/],
    ['null', /its keys/],
    [JSON.stringify({ ...bundle, version: 2 }), /has version 2/],
    [JSON.stringify({ ...bundle, name: '../../etc' }), /missing: name/],
    [JSON.stringify({ ...bundle, port: 0, password: '' }), /missing: port, password/],
    [JSON.stringify({ ...bundle, key: 'hunter2' }), /missing: key/],
    [JSON.stringify({ ...bundle, extra: 'hunter2' }), /its keys/],
    [`${'x'.repeat(2 ** 20)}hunter2`, /too large/],
  ]
  for (const [content, message] of wrong) {
    writeFileSync(folder.at('bundle'), content)
    await assert.rejects(readBundle(folder.at('bundle')), (error: Error & { code: string }) => {
      assert.equal(error.code, 'bundle')
      assert.match(error.message, message)
      assert.ok(!error.message.includes('hunter2'))
      return true
    })
  }
  await assert.rejects(readBundle(folder.at('none')), { code: 'bundle', message: /There is no file/ })
  await assert.rejects(readBundle(folder.path), { code: 'bundle' })
})

test('a bundle that others could read is told about', async () => {
  using folder = new TemporaryFolder()
  folder.write('bundle', text)
  chmodSync(folder.at('bundle'), 0o644)
  const { status, stdout } = await backupHostInProcess([
    '--config',
    folder.at('etc/f.toml'),
    'init',
    '--bundle',
    folder.at('bundle'),
  ])
  assert.equal(status, 0)
  assert.match(stdout, /Others could read/)
  assert.match(stdout, /rm .*bundle/)
})
