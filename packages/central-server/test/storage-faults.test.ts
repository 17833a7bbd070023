import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { listArchives, removePartials } from '../src/storage/archive-list.ts'
import { createRepository, hostFolder, openRepository, type Repository } from '../src/storage/repository.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const program = join(import.meta.dirname, 'write-archive.ts')
const name = '2026-11-21T030000Z-full.tar.zst'
const archiveBytes = 16 * 65_536

let noStrace: string | false = false
let noMount: string | false = false

before(() => {
  if (spawnSync('strace', ['-o', '/dev/null', 'true']).status !== 0) {
    noStrace = 'strace is not installed or may not trace here'
  }
  using folder = new TemporaryFolder()
  if (spawnSync('mount', ['-t', 'tmpfs', 'none', folder.path]).status !== 0)
    noMount = 'only root can mount a small file system'
  else spawnSync('umount', [folder.path])
})

function writeArchive(repository: Repository, strace: readonly string[] = []) {
  const command = [process.execPath, program, repository.folder]
  if (strace.length > 0) command.unshift('strace', '-f', '-qq', ...strace)
  const { stdout, signal, status } = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8' })
  return {
    outcome: stdout === '' ? null : (JSON.parse(stdout) as Record<string, string>),
    killed: signal ?? status! > 128,
  }
}

test('the file is fsynced before it is renamed, and the folder after it', async (context) => {
  if (noStrace) return context.skip(noStrace)
  using folder = new TemporaryFolder()
  const repository = await createRepository(folder.at('r'))
  const { outcome } = writeArchive(repository, [
    '-y',
    '-o',
    folder.at('trace'),
    '-e',
    'trace=fsync,rename,renameat,renameat2',
  ])
  assert.ok(outcome?.path)
  const host = hostFolder(repository, 'web1')
  const partial = `${host}/${name}.partial`
  // Calls of other threads may be cut in two; what is looked for stands at the beginning of a call.
  const calls = readFileSync(folder.at('trace'), 'utf8')
    .split('\n')
    .map((line) => line.replace(/^\d+\s+/, '').replace(/\d+</, '<'))
    .filter((line) => line.includes(host))
  const order = [`fsync(<${partial}>`, `rename("${partial}", "${host}/${name}"`, `fsync(<${host}>`]
  const positions = order.map((call) => calls.findLastIndex((line) => line.startsWith(call)))
  assert.ok(!positions.includes(-1), calls.join('\n'))
  assert.deepEqual(
    positions,
    positions.toSorted((a, b) => a - b),
    calls.join('\n'),
  )
})

test('a death at the rename leaves a partial archive, whole but without its name', async (context) => {
  if (noStrace) return context.skip(noStrace)
  using folder = new TemporaryFolder()
  const repository = await createRepository(folder.at('r'))
  const { killed } = writeArchive(repository, [
    '-o',
    '/dev/null',
    '-e',
    'inject=rename,renameat,renameat2:signal=KILL:when=1',
  ])
  assert.ok(killed)
  const { archives, partials } = await listArchives(repository, 'web1')
  assert.deepEqual(archives, [])
  assert.deepEqual(
    partials.map(({ bytes, reason }) => [bytes, reason]),
    [[archiveBytes, null]],
  )
  await removePartials(repository, 'web1', partials)
  assert.ok(writeArchive(repository).outcome?.path)
})

test('an error of the disk at fsync is told, and the archive does not get its name', async (context) => {
  if (noStrace) return context.skip(noStrace)
  for (const [error, code, hint] of [
    ['EIO', 'io-error', /smartctl/],
    // libuv has no names for these.
    ['EDQUOT', 'disk-full', /Make space/],
    ['ESTALE', 'not-mounted', /mount/],
    ['EUCLEAN', 'io-error', /fsck/],
  ] as const) {
    using folder = new TemporaryFolder()
    const repository = await createRepository(folder.at('r'))
    const partial = `${hostFolder(repository, 'web1')}/${name}.partial`
    mkdirSync(hostFolder(repository, 'web1'))
    const inject = ['-e', `inject=fsync:error=${error}`]
    const { outcome } = writeArchive(repository, ['-o', '/dev/null', '-P', partial, ...inject])
    assert.equal(outcome?.name, 'StorageError')
    assert.equal(outcome.code, code)
    assert.match(outcome.message!, new RegExp(`\\(${error}\\)`))
    assert.match(outcome.hint!, hint)
    assert.deepEqual(readdirSync(hostFolder(repository, 'web1')), [`${name}.partial`])
  }
})

test('a full disk is told, nothing is taken for an archive, and with space the next run is good', async (context) => {
  if (noMount) return context.skip(noMount)
  using folder = new TemporaryFolder()
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'none', folder.path]).status, 0)
  try {
    const repository = await createRepository(folder.at('r'))
    const { outcome } = writeArchive(repository)
    assert.equal(outcome?.code, 'disk-full')
    assert.match(outcome.hint!, /prune/)
    const { archives, partials } = await listArchives(repository, 'web1')
    assert.deepEqual([archives.length, partials.length], [0, 1])
    rmSync(`${hostFolder(repository, 'web1')}/${partials[0]!.name}`)
    assert.equal(spawnSync('mount', ['-o', 'remount,size=4m', folder.path]).status, 0)
    assert.ok(writeArchive(repository).outcome?.path)
  } finally {
    spawnSync('umount', [folder.path])
  }
})

test('a read-only disk and one that is gone are told apart', async (context) => {
  if (noMount) return context.skip(noMount)
  using folder = new TemporaryFolder()
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'none', folder.path]).status, 0)
  try {
    await createRepository(folder.path)
    assert.equal(spawnSync('mount', ['-o', 'remount,ro', folder.path]).status, 0)
    assert.equal(writeArchive(await openRepository(folder.path)).outcome?.code, 'read-only')
  } finally {
    spawnSync('umount', [folder.path])
  }
  await assert.rejects(openRepository(folder.path), { code: 'not-mounted' })
  assert.deepEqual(readdirSync(folder.path), [])
})
