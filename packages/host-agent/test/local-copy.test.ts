import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import { LocalCopy, type LocalCopyFolder, removeStaleCopies } from '../src/local-copy.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const isRoot = process.geteuid!() === 0

function nameOf(day: number, kind = 'full'): string {
  return `2026-11-${String(day).padStart(2, '0')}T030000Z-${kind}.tar.zst`
}

function folderOf(directory: string, keep: number, keepDays = 0, minFreePercent = 0): LocalCopyFolder {
  return { directory, keep, keepDays, minFreePercent }
}

async function makeCopy(
  folder: TemporaryFolder,
  day: number,
  keep: number,
  kind = 'full',
  keepDays = 0,
): Promise<LocalCopy> {
  const copy = await LocalCopy.create(folderOf(folder.at('copies'), keep, keepDays), nameOf(day, kind))
  await copy.write(Buffer.from(`archive of day ${day}, `))
  await copy.write(Buffer.from('in two pieces'))
  return copy
}

function list(folder: TemporaryFolder): string[] {
  return readdirSync(folder.at('copies')).sort()
}

test('a copy is partial until it is kept, and then has the bytes that were written', async () => {
  using folder = new TemporaryFolder()
  const copy = await makeCopy(folder, 1, 3)
  assert.deepEqual(list(folder), [`${nameOf(1)}.partial`])
  await copy.keep()
  assert.equal(copy.failure, null)
  assert.deepEqual(list(folder), [nameOf(1)])
  const file = folder.at('copies', nameOf(1))
  assert.equal(readFileSync(file, 'utf8'), 'archive of day 1, in two pieces')
  assert.equal(lstatSync(file).mode & 0o777, 0o600)
  await copy.discard()
  assert.deepEqual(list(folder), [nameOf(1)])
})

test('where no folder can be made there is no copy, and a session does not wait for one', async () => {
  await assert.rejects(LocalCopy.create(folderOf('/proc/copies', 1), nameOf(1)), /\/proc takes no folder/)
})

test('the folder is made for this user alone', async () => {
  using folder = new TemporaryFolder()
  const copy = await LocalCopy.create(folderOf(folder.at('a/b/copies'), 1), nameOf(1))
  await copy.discard()
  for (const made of ['a', 'a/b', 'a/b/copies']) assert.equal(lstatSync(folder.at(made)).mode & 0o777, 0o700)
})

test('a copy that is discarded leaves nothing', async () => {
  using folder = new TemporaryFolder()
  const copy = await makeCopy(folder, 1, 3)
  await copy.discard()
  assert.deepEqual(list(folder), [])
  await copy.discard()
  assert.equal(copy.failure, null)
})

test('the newest are kept as the settings say, and the oldest go, only when a new one is there', async () => {
  using folder = new TemporaryFolder()
  for (const day of [1, 2, 3]) await (await makeCopy(folder, day, 2)).keep()
  assert.deepEqual(list(folder), [nameOf(2), nameOf(3)])
  const discarded = await makeCopy(folder, 4, 2)
  assert.deepEqual(list(folder), [nameOf(2), nameOf(3), `${nameOf(4)}.partial`])
  await discarded.discard()
  assert.deepEqual(list(folder), [nameOf(2), nameOf(3)])
  await (await makeCopy(folder, 5, 1)).keep()
  assert.deepEqual(list(folder), [nameOf(5)])
})

test('a copy that is not old enough stays, however many runs come, and whatever time the server says they are of', async () => {
  using folder = new TemporaryFolder()
  const old = (day: number, days: number) => {
    const ms = Date.now() - days * 86_400_000
    utimesSync(folder.at('copies', nameOf(day)), ms / 1000, ms / 1000)
  }
  await (await makeCopy(folder, 20, 2, 'full', 3)).keep()
  old(20, 4)
  await (await makeCopy(folder, 21, 2, 'full', 3)).keep()
  old(21, 2)
  for (const day of [1, 2, 28]) await (await makeCopy(folder, day, 2, 'full', 3)).keep()
  assert.deepEqual(list(folder), [nameOf(1), nameOf(2), nameOf(21), nameOf(28)])
  old(21, 3.1)
  await (await makeCopy(folder, 3, 2, 'full', 3)).keep()
  assert.deepEqual(list(folder), [nameOf(1), nameOf(2), nameOf(3), nameOf(28)])
})

test('where little of the disk is free, no copy is begun, and those that are there stay', async () => {
  using folder = new TemporaryFolder()
  await (await makeCopy(folder, 1, 1)).keep()
  await assert.rejects(LocalCopy.create(folderOf(folder.at('copies'), 1, 0, 101), nameOf(2)), /are free/)
  assert.deepEqual(list(folder), [nameOf(1)])
})

test('files that are no archives are not touched, whatever they are called', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('copies'), { mode: 0o700 })
  const strangers = [
    'README',
    '2026-11-01T030000Z-full.tar',
    '2026-13-01T030000Z-full.tar.zst',
    'x.tar.zst',
    '.hidden',
  ]
  for (const name of strangers) writeFileSync(folder.at('copies', name), '')
  for (const day of [1, 2]) await (await makeCopy(folder, day, 1)).keep()
  assert.deepEqual(list(folder), [...strangers, nameOf(2)].sort())
  assert.deepEqual(await removeStaleCopies(folder.at('copies')), [])
  assert.deepEqual(list(folder), [...strangers, nameOf(2)].sort())
})

test('what killed runs left behind is removed at the start, and nothing else', async () => {
  using folder = new TemporaryFolder()
  await (await makeCopy(folder, 1, 5)).keep()
  const stale = [`${nameOf(2)}.partial`, `${nameOf(3)}.mismatch.partial`]
  for (const name of [...stale, 'notes.partial', '.partial']) writeFileSync(folder.at('copies', name), '')
  assert.deepEqual((await removeStaleCopies(folder.at('copies'))).sort(), stale)
  assert.deepEqual(list(folder), ['.partial', nameOf(1), 'notes.partial'])
  assert.deepEqual(await removeStaleCopies(folder.at('nowhere')), [])
})

test('an agent that starts leaves alone what another one is writing', async () => {
  using folder = new TemporaryFolder()
  const other = await makeCopy(folder, 1, 5)
  writeFileSync(folder.at('copies', `${nameOf(2)}.partial`), 'of one that was killed')
  assert.deepEqual(await removeStaleCopies(folder.at('copies')), [`${nameOf(2)}.partial`])
  await other.keep()
  assert.equal(other.failure, null)
  assert.deepEqual(list(folder), [nameOf(1)])
})

test('what an earlier run could not remove is removed by the next, and not what another is writing', async () => {
  using folder = new TemporaryFolder()
  const other = await makeCopy(folder, 1, 5)
  writeFileSync(folder.at('copies', `${nameOf(2)}.partial`), 'left on a disk that had failed')
  await (await makeCopy(folder, 3, 5)).keep()
  assert.deepEqual(list(folder), [`${nameOf(1)}.partial`, nameOf(3)])
  await other.keep()
  assert.equal(other.failure, null)
  assert.deepEqual(list(folder), [nameOf(1), nameOf(3)])
})

test('a copy of a name that is there already fails, and leaves what is there', async () => {
  using folder = new TemporaryFolder()
  await (await makeCopy(folder, 1, 5)).keep()
  const before = readFileSync(folder.at('copies', nameOf(1)))
  try {
    const copy = await makeCopy(folder, 1, 5)
    await copy.write(Buffer.from('another'))
    await copy.keep()
    assert.equal((copy.failure as NodeJS.ErrnoException).code, 'EEXIST')
    await copy.discard()
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EEXIST')
  }
  assert.deepEqual(list(folder), [nameOf(1)])
  assert.ok(readFileSync(folder.at('copies', nameOf(1))).equals(before))
})

test('a folder that others may look into, or that is a link or a file, gets no copy', async () => {
  using folder = new TemporaryFolder()
  const create = (directory: string) => LocalCopy.create(folderOf(folder.at(directory), 1), nameOf(1))
  for (const mode of [0o755, 0o770, 0o701]) {
    mkdirSync(folder.at(`open-${mode}`))
    chmodSync(folder.at(`open-${mode}`), mode)
    await assert.rejects(create(`open-${mode}`), /chmod 700/)
    assert.deepEqual(readdirSync(folder.at(`open-${mode}`)), [])
  }
  mkdirSync(folder.at('real'), { mode: 0o700 })
  symlinkSync('real', folder.at('link'))
  await assert.rejects(create('link'), { code: /ELOOP|ENOTDIR/ })
  assert.deepEqual(readdirSync(folder.at('real')), [])
  folder.write('file', '')
  await assert.rejects(create('file'))
})

test('a folder of somebody else gets no copy', async (t) => {
  if (!isRoot) return t.skip('only root can give a folder away')
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('copies'), { mode: 0o700 })
  chownSync(folder.at('copies'), 65_534, 65_534)
  await assert.rejects(makeCopy(folder, 1, 1), /must belong to the user of backup-host/)
})

test('a disk that is full costs the copy and nothing else: no call throws, and no file is left', async (t) => {
  if (!isRoot) return t.skip('only root can mount a small disk')
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('copies'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'small', folder.at('copies')])
  if (mounted.status !== 0) return t.skip(`cannot mount a tmpfs: ${mounted.stderr}`)
  try {
    const copy = await LocalCopy.create(folderOf(folder.at('copies'), 1), nameOf(1))
    for (let i = 0; i < 4; i++) await copy.write(Buffer.alloc(40_000, 'x'))
    assert.equal((copy.failure as NodeJS.ErrnoException).code, 'ENOSPC')
    await copy.keep()
    assert.equal((copy.failure as NodeJS.ErrnoException).code, 'ENOSPC')
    await copy.discard()
    assert.deepEqual(list(folder), [])
  } finally {
    spawnSync('umount', ['-l', folder.at('copies')])
  }
})
