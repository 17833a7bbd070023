import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { makeFolders } from '../src/make-folder.ts'

let folder = ''
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'central-backup-folders-'))
})
after(() => rmSync(folder, { recursive: true }))

test('folders that are missing are made for this user only, and those that are there stay as they are', async () => {
  mkdirSync(join(folder, 'there'), { mode: 0o755 })
  assert.equal(await makeFolders(join(folder, 'there')), null)
  assert.equal(await makeFolders(join(folder, 'there/a/b/c')), join(folder, 'there/a'))
  assert.equal(statSync(join(folder, 'there')).mode & 0o777, 0o755)
  for (const made of ['a', 'a/b', 'a/b/c'])
    assert.equal(statSync(join(folder, 'there', made)).mode & 0o777, 0o700)
  assert.equal(await makeFolders('/'), null)
})

test('a folder that two make at the same time is there for both', async () => {
  const path = join(folder, 'of/two')
  const first = await Promise.all([makeFolders(path), makeFolders(path), makeFolders(path)])
  assert.ok(first.includes(join(folder, 'of')))
  assert.ok(statSync(path).isDirectory())
})

test('a link to a folder is one, and a file or a link to nothing is none', async () => {
  mkdirSync(join(folder, 'target'))
  symlinkSync('target', join(folder, 'link'))
  symlinkSync('nowhere', join(folder, 'dangling'))
  writeFileSync(join(folder, 'file'), '')
  assert.equal(await makeFolders(join(folder, 'link')), null)
  assert.equal(await makeFolders(join(folder, 'link/below')), join(folder, 'link/below'))
  for (const name of ['file', 'dangling']) {
    await assert.rejects(makeFolders(join(folder, name)), { code: 'EEXIST' })
    await assert.rejects(makeFolders(join(folder, name, 'below')), /ENOTDIR|EEXIST/)
  }
})

test('where the file system takes no folder, that is told, and it ends', async () => {
  for (const path of ['/proc/x', '/proc/x/y/z', '/proc/self/x'])
    await assert.rejects(makeFolders(path), { message: /^\/proc(\/self)? takes no folder$/ })
})
