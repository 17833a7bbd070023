/** What incremental runs leave: archives that stock tar understands, and next to nothing where nothing has changed. */
import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { ArchiveReader, endOfArchive } from '@central-backup/archive'
import { Catalog } from '../packages/central-server/src/catalog/catalog.ts'
import { runCommand } from './harness/program.ts'
import { type HostEnd, Site } from './harness/site.ts'
import { linesOf, readSnapshot, type Seen, type Snapshot } from './harness/snapshot.ts'
import { fillTree, noise, writeTree } from './harness/tree.ts'

/** A run of web1 that found all it was to find. */
async function runWell(site: Site, ...options: string[]): Promise<HostEnd> {
  const { code, ends, stderr } = await site.run(...options)
  assert.equal(code, 0, stderr)
  assert.equal(ends.web1!.outcome, 'complete')
  return ends.web1!
}

async function unpack(archive: string, target: string): Promise<void> {
  mkdirSync(target, { recursive: true })
  const { code, stderr } = await runCommand(['tar', '--zstd', '-xpf', archive, '-C', target])
  assert.equal(code, 0, `${basename(archive)}: ${stderr}`)
}

/** Type and content, and the names that share them. */
function contentLines(snapshot: Snapshot, paths: Iterable<string>): string[] {
  return [...paths].map((path) => {
    const { type, size, digest, target, first } =
      snapshot.get(path) ?? ({ type: 'nothing' } as unknown as Seen)
    return `${path} ${type} ${size} ${digest} ${target} ${first}`
  })
}

test('stock tar restores the newest full archive, and with the incremental ones in order the newest state', async () => {
  await using site = await Site.create()
  const root = site.tree('web1')
  const host = await site.addHost('web1')
  await host.start()
  const at = (path: string) => join(root, path)

  fillTree(root, 2)
  writeTree(root, { 'etc/hosts': 'first', 'etc/gone': 'x', 'old/folder/file': 'moves' })
  linkSync(at('etc/hosts'), at('etc/same'))
  await runWell(site)
  appendFileSync(at('etc/hosts'), ' and more')
  rmSync(at('etc/gone'))
  renameSync(at('old/folder'), at('old/moved'))
  writeFileSync(at('large/new.bin'), noise(5_000_000, 'new'))
  await runWell(site)
  rmSync(at('etc/same'))
  writeFileSync(at('etc/same'), 'a file of its own')
  symlinkSync('hosts', at('etc/link'))
  linkSync(at('large/new.bin'), at('large/newest.bin'))
  chmodSync(at('small/0/file-0'), 0o600)
  await runWell(site)

  const newest = readSnapshot(root)
  const [full, ...incremental] = site.archives('web1')
  assert.equal(incremental.length, 2)
  const target = site.at('unpacked')
  for (const archive of [full!, ...incremental]) await unpack(archive, target)
  const unpacked = readSnapshot(`${target}${root}`)
  assert.deepEqual(contentLines(unpacked, newest.keys()), contentLines(newest, newest.keys()))
  assert.equal(unpacked.get('large/newest.bin')!.first, 'large/new.bin')
  assert.deepEqual(
    [...unpacked.keys()].filter((path) => !newest.has(path)),
    ['etc/gone', 'old/folder', 'old/folder/file'],
  )
  // The index alone says what is gone, and what has other attributes only.
  assert.equal(newest.get('small/0/file-0')!.mode, 0o600)
  assert.equal(unpacked.get('small/0/file-0')!.mode, 0o644)

  await runWell(site, '--full')
  const whole = site.at('whole')
  await unpack(site.archives('web1').at(-1)!, whole)
  assert.deepEqual(linesOf(readSnapshot(`${whole}${root}`)), linesOf(newest))
})

test('a run of 20,000 files that have not changed sends nothing but its end, and adds no row', async () => {
  const files = 20_000
  await using site = await Site.create()
  const root = site.tree('web1')
  const host = await site.addHost('web1')
  await host.start()
  for (let folder = 0; folder < 100; folder++) {
    mkdirSync(join(root, `folder-${folder}`))
    for (let file = 0; file < files / 100; file++)
      writeFileSync(join(root, `folder-${folder}`, `file-${file}`), `${folder} ${file}`)
  }
  linkSync(join(root, 'folder-0/file-0'), join(root, 'folder-99/link'))
  const full = await runWell(site)
  assert.equal(full.counts.files, files)
  const before = dumpVersions(site)

  const next = await runWell(site)
  assert.equal(next.kind, 'incremental')
  const archive = site.archives('web1').at(-1)!
  // What leads to the tree, like /tmp, is in use by others, and not of interest here.
  const { own, ancestors } = await entriesIn(archive)
  assert.deepEqual(own, [])
  const { unchanged, directories, ...others } = next.counts
  assert.equal(unchanged! + ancestors, entriesOf(full.counts))
  assert.equal(directories, ancestors)
  assert.deepEqual(
    Object.entries(others).filter(([, count]) => count !== 0),
    [],
  )
  assert.equal(next.contentBytes, 0)
  assert.deepEqual(dumpVersions(site), before)
  assert.ok(statSync(archive).size < 1024 * (1 + ancestors), `${statSync(archive).size} bytes`)
  await using reader = await ArchiveReader.open(archive)
  assert.ok(reader.tarBytes <= endOfArchive.length + 2048 * ancestors, `${reader.tarBytes} bytes of tar`)
  const listed = await runCommand(['tar', '--zstd', '-tf', archive])
  assert.deepEqual([listed.code, listed.stdout.split('\n').length - 1], [0, ancestors])

  // One file and the folder that it lies in, and one with other times: three rows, whatever stands beside them.
  writeFileSync(join(root, 'folder-50/new'), 'new')
  utimesSync(join(root, 'folder-7/file-7'), 0, 0)
  const third = await runWell(site)
  assert.deepEqual((await entriesIn(site.archives('web1').at(-1)!)).own, [
    ...['folder-50', 'folder-50/new', 'folder-7/file-7'].map((path) => join(root, path).slice(1)),
  ])
  assert.equal(third.contentBytes, 3)
  assert.equal(dumpVersions(site).length, before.length + 3)
  assert.ok(third.archive!.bytes < 4096, `${third.archive!.bytes} bytes`)
})

/** What an archive has of the tree itself, and how many of the folders that lead to it. */
async function entriesIn(archive: string): Promise<{ own: string[]; ancestors: number }> {
  await using reader = await ArchiveReader.open(archive)
  const own: string[] = []
  let ancestors = 0
  for await (const { entries, gone } of reader.batches()) {
    assert.deepEqual(gone, [])
    for (const { path, ancestor } of entries) {
      if (ancestor) ancestors++
      else own.push(path)
    }
  }
  return { own, ancestors }
}

/** All versions of what was selected. */
function dumpVersions({ repository }: Site): unknown[] {
  using catalog = new Catalog(join(repository, 'catalog.sqlite'))
  return catalog.database
    .prepare('SELECT * FROM versions WHERE marks & 2 = 0 ORDER BY generation, path, first_run')
    .all()
}

function entriesOf(counts: Record<string, number>): number {
  const { files = 0, directories = 0, symlinks = 0, hardlinks = 0, specials = 0, sockets = 0 } = counts
  return files + directories + symlinks + hardlinks + specials + sockets
}
