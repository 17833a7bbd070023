import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { archivePath, listArchives, planStalePartials, removePartials } from '../src/storage/archive-list.ts'
import { createArchive } from '../src/storage/archive-writer.ts'
import { writeNewFile } from '../src/storage/new-file.ts'
import { createRepository, hostFolder, openRepository, type Repository } from '../src/storage/repository.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const run = { startedAtMs: Date.parse('2026-11-21T03:00:00Z'), kind: 'full' } as const
const name = '2026-11-21T030000Z-full.tar.zst'

/** A repository in a temporary folder. */
async function makeRepository(): Promise<{ folder: TemporaryFolder; repository: Repository } & Disposable> {
  const folder = new TemporaryFolder()
  const repository = await createRepository(folder.at('repository'))
  return { folder, repository, [Symbol.dispose]: () => folder[Symbol.dispose]() }
}

function mode(path: string): string {
  return (lstatSync(path).mode & 0o7777).toString(8)
}

test('an archive has its name only when it is whole, and nobody else can read it', async () => {
  using made = await makeRepository()
  const { repository } = made
  const writer = await createArchive(repository, 'web1', run)
  const bytes = randomBytes(100_000)
  await writer.write(bytes.subarray(0, 1))
  await writer.write(bytes.subarray(1))
  const folder = hostFolder(repository, 'web1')
  assert.deepEqual(readdirSync(folder), [`${name}.partial`])
  assert.equal(writer.bytes, bytes.byteLength)
  const path = await writer.commit()
  assert.equal(path, archivePath(repository, 'web1', name))
  assert.deepEqual(readdirSync(folder), [name])
  assert.deepEqual(readFileSync(path), bytes)
  assert.equal(mode(path), '600')
  assert.equal(mode(folder), '700')
})

test('an archive is never overwritten, neither when it is begun nor when it is finished', async () => {
  using made = await makeRepository()
  const { repository } = made
  const first = await createArchive(repository, 'web1', run)
  await assert.rejects(createArchive(repository, 'web1', run), { code: 'archive-exists' })
  await first.write(Buffer.from('first'))
  await first.commit()
  await assert.rejects(createArchive(repository, 'web1', run), { code: 'archive-exists' })
  const path = archivePath(repository, 'web1', name)
  assert.deepEqual(readdirSync(hostFolder(repository, 'web1')), [name])

  const later = await createArchive(repository, 'web1', { ...run, kind: 'incremental' })
  const laterPath = archivePath(repository, 'web1', later.name)
  writeFileSync(laterPath, 'planted')
  await assert.rejects(later.commit(), { code: 'archive-exists' })
  await later.abandon()
  assert.equal(readFileSync(laterPath, 'utf8'), 'planted')
  assert.equal(readFileSync(path, 'utf8'), 'first')
})

test('a link that was planted in place of the partial archive is not followed', async () => {
  using made = await makeRepository()
  const { repository, folder } = made
  mkdirSync(hostFolder(repository, 'web1'))
  symlinkSync(folder.at('victim'), `${archivePath(repository, 'web1', name)}.partial`)
  await assert.rejects(createArchive(repository, 'web1', run), { code: 'archive-exists' })
  assert.deepEqual(readdirSync(folder.path), ['repository'])
})

test('a link in place of the folder of a host is refused', async () => {
  using made = await makeRepository()
  const { repository, folder } = made
  symlinkSync(folder.path, hostFolder(repository, 'web1'))
  await assert.rejects(createArchive(repository, 'web1', run), {
    code: 'storage-failed',
    message: /is not a folder/,
  })
})

test('what is abandoned stays as a partial archive, what is set aside says why', async () => {
  using made = await makeRepository()
  const { repository } = made
  const abandoned = await createArchive(repository, 'web1', run)
  await abandoned.write(Buffer.from('half'))
  await abandoned.abandon()
  await abandoned.abandon()
  const wrong = await createArchive(repository, 'web1', { ...run, kind: 'incremental' })
  assert.equal(
    await wrong.setAside('mismatch'),
    `${archivePath(repository, 'web1', wrong.name)}.mismatch.partial`,
  )
  await assert.rejects(wrong.setAside('../escape'), RangeError)
  const { archives, partials } = await listArchives(repository, 'web1')
  assert.deepEqual(archives, [])
  assert.deepEqual(
    partials.map(({ archive, reason, bytes }) => [archive, reason, bytes]),
    [
      [name, null, 4],
      ['2026-11-21T030000Z-incremental.tar.zst', 'mismatch', 0],
    ],
  )
})

test('archives are listed in the order of time, and foreign files are not', async () => {
  using made = await makeRepository()
  const { repository } = made
  assert.deepEqual(await listArchives(repository, 'nobody'), { archives: [], partials: [] })
  for (const startedAtMs of [run.startedAtMs + 1000, run.startedAtMs]) {
    await (await createArchive(repository, 'web1', { startedAtMs, kind: 'full' })).commit()
  }
  const folder = hostFolder(repository, 'web1')
  writeFileSync(`${folder}/notes.txt`, '')
  writeFileSync(`${folder}/2026-02-31T000000Z-full.tar.zst`, '')
  mkdirSync(`${folder}/2026-11-22T030000Z-full.tar.zst`)
  symlinkSync('notes.txt', `${folder}/2026-11-23T030000Z-full.tar.zst`)
  const { archives } = await listArchives(repository, 'web1')
  assert.deepEqual(
    archives.map((archive) => archive.startedAtMs),
    [run.startedAtMs, run.startedAtMs + 1000],
  )
})

test('partial archives that nobody touched for long are stale, and only they are removed', async () => {
  using made = await makeRepository()
  const { repository } = made
  await (await createArchive(repository, 'web1', run)).abandon()
  await (await createArchive(repository, 'web1', { ...run, kind: 'incremental' })).commit()
  const { partials } = await listArchives(repository, 'web1')
  const writtenAtMs = partials[0]!.modifiedAtMs
  assert.deepEqual(planStalePartials(partials, 1000, writtenAtMs + 1000), [])
  const stale = planStalePartials(partials, 1000, writtenAtMs + 1001)
  assert.equal(stale.length, 1)
  await removePartials(repository, 'web1', stale)
  assert.deepEqual(readdirSync(hostFolder(repository, 'web1')), ['2026-11-21T030000Z-incremental.tar.zst'])
  await assert.rejects(
    removePartials(repository, 'web1', [{ ...partials[0]!, name: '2026-11-21T030000Z-incremental.tar.zst' }]),
  )
  assert.equal(readdirSync(hostFolder(repository, 'web1')).length, 1)
})

test('no name of a host or an archive leads out of the folder', async () => {
  using made = await makeRepository()
  const { repository } = made
  for (const host of ['..', '.', '', 'a/b', '../x', '/etc', '-rf', 'a\0b', 'a\n', 'x'.repeat(64)]) {
    assert.throws(() => hostFolder(repository, host), { code: 'archive-name' }, host)
    await assert.rejects(createArchive(repository, host, run), { code: 'archive-name' }, host)
  }
  for (const archive of ['..', '', '../../x', `../${name}`, `${name}/..`, `${name}\n`, `${name}.partial`]) {
    assert.throws(() => archivePath(repository, 'web1', archive), { code: 'archive-name' }, archive)
  }
})

test('a folder without the marker is taken for a disk that is not mounted', async () => {
  using folder = new TemporaryFolder()
  await assert.rejects(openRepository(folder.path), { code: 'not-mounted', hint: /Mount/ })
  await assert.rejects(openRepository(folder.at('not-there')), { code: 'not-mounted' })
  assert.deepEqual(readdirSync(folder.path), [])
  const { id } = await createRepository(folder.path)
  assert.equal((await openRepository(folder.path)).id, id)
  await assert.rejects(createRepository(folder.path), { code: 'already-exists' })
})

test('a repository that goes away in mid-run is not made anew', async () => {
  using made = await makeRepository()
  const { repository } = made
  rmSync(repository.folder, { recursive: true })
  await assert.rejects(createArchive(repository, 'web1', run), { code: 'not-mounted' })
})

test('markers that are damaged or from the future are refused', async () => {
  using made = await makeRepository()
  const { repository } = made
  const marker = `${repository.folder}/central-backup.json`
  for (const text of ['', '{', '{}', '{"format":"1","id":"x"}', 'null']) {
    writeFileSync(marker, text)
    await assert.rejects(openRepository(repository.folder), { code: 'repository-invalid' }, text)
  }
  writeFileSync(marker, JSON.stringify({ format: 2, id: repository.id, more: true }))
  await assert.rejects(openRepository(repository.folder), { code: 'repository-too-new' })
})

test('a new file has its mode whatever the umask, and replaces nothing, not even a dangling link', async () => {
  using folder = new TemporaryFolder()
  await writeNewFile(folder.at('secret'), 'first', 0o600)
  await assert.rejects(writeNewFile(folder.at('secret'), 'second', 0o600), { code: 'already-exists' })
  assert.equal(readFileSync(folder.at('secret'), 'utf8'), 'first')
  assert.equal(mode(folder.at('secret')), '600')
  symlinkSync('nowhere', folder.at('link'))
  await assert.rejects(writeNewFile(folder.at('link'), 'x', 0o600), { code: 'already-exists' })
  assert.deepEqual(readdirSync(folder.path).sort(), ['link', 'secret'])
})
