import assert from 'node:assert/strict'
import { chmodSync, existsSync, lstatSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { PendingKey, pendingKeyFile } from '../src/enroll/pending-key.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const uid = process.geteuid!()

test('the key of an enrolment lies beside the settings, for this user only, and is the same until it is done', async () => {
  using folder = new TemporaryFolder()
  const settings = folder.at('etc/backup-host.toml')
  const first = await PendingKey.take(settings, uid, false)
  assert.ok(!first.isResumed)
  const file = pendingKeyFile(settings)
  assert.equal(lstatSync(file).mode & 0o777, 0o600)
  assert.equal(readFileSync(file, 'utf8'), first.key)
  // What lies there now is of the enrolment.
  folder.write('etc/host.key', 'half a host')
  const second = await PendingKey.take(settings, uid, false)
  assert.deepEqual([second.key, second.isResumed], [first.key, true])
  await second.remove()
  await first.remove()
  assert.ok(!existsSync(file))
  await assert.rejects(PendingKey.take(settings, uid, false), { code: 'already-exists' })
  const forced = await PendingKey.take(settings, uid, true)
  assert.ok(!forced.isResumed && forced.key !== first.key)
})

test('a key that others could read, that is none, or that is a link to elsewhere is not used', async () => {
  using folder = new TemporaryFolder()
  const settings = folder.at('etc/backup-host.toml')
  const { key } = await PendingKey.take(settings, uid, false)
  const file = pendingKeyFile(settings)
  const refuse = (message: RegExp) =>
    assert.rejects(PendingKey.take(settings, uid, true), (error: Error & { problems: unknown }) => {
      assert.match(JSON.stringify(error.problems), message)
      return true
    })
  chmodSync(file, 0o644)
  await refuse(/mode 0644/)
  writeFileSync(file, 'noise')
  chmodSync(file, 0o600)
  await refuse(/P-256/)
  rmSync(file)
  folder.write('elsewhere/key', key)
  chmodSync(folder.at('elsewhere/key'), 0o644)
  symlinkSync('../elsewhere/key', file)
  await refuse(/mode 0644/)
  rmSync(folder.at('elsewhere/key'))
  await refuse(/cannot be read/)
})
