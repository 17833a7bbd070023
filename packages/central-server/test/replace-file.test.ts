import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { StorageError } from '../src/errors.ts'
import { withdraw } from '../src/storage/new-file.ts'
import { replaceFile, updateFile } from '../src/storage/replace-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'central-backup-test-'))
after(() => rmSync(folder, { recursive: true }))

test('what a crash has left beside a file is taken over, and the file is what it is to be', async () => {
  const path = join(folder, 'list')
  writeFileSync(path, 'a')
  writeFileSync(`${path}.new`, 'half')
  utimesSync(`${path}.new`, 0, 0)
  await updateFile(path, async (before) => `${before}b`, 0o600)
  assert.equal(readFileSync(path, 'utf8'), 'ab')
  await replaceFile(path, 'c', 0o600)
  assert.equal(readFileSync(path, 'utf8'), 'c')
  assert.deepEqual(readdirSync(folder), ['list'])
})

test('what is in the way and cannot be removed ends an update with an error that names it', async () => {
  const path = join(folder, 'blocked')
  mkdirSync(`${path}.new`)
  utimesSync(`${path}.new`, 0, 0)
  await assert.rejects(
    updateFile(path, async () => 'x', 0o600),
    (error) => error instanceof StorageError && error.message.includes(`${path}.new`),
  )
})

test('what was begun is removed with the error that ended it; what cannot be is named in it', async () => {
  const failure = new StorageError('disk-full', 'Cannot write the last: there is no space left', {
    hint: 'Make space.',
  })
  const begun = join(folder, 'begun')
  writeFileSync(begun, 'x')
  assert.equal(await withdraw([begun, join(folder, 'never-begun')], failure), failure)
  assert.deepEqual(readdirSync(folder).includes('begun'), false)
  const stays = join(folder, 'stays')
  mkdirSync(stays)
  const told = await withdraw([stays], failure)
  assert.equal(told.code, 'disk-full')
  assert.ok(told.message.startsWith(failure.message) && told.message.includes(stays), told.message)
  assert.match(told.hint, /Make space\. Remove by hand/)
})
