import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ContentReader, planRestore, type RestoreReport, restoreTree } from '../src/index.ts'
import { archiveName, describeTree, isRoot, ListSource, packTree, sourceOf, TemporaryFolder } from './tree.ts'

/** A tree with one of everything that this user can make. */
function makeTree(root: string): void {
  mkdirSync(`${root}/docs/deep/er`, { recursive: true })
  writeFileSync(`${root}/docs/a.txt`, 'alpha')
  writeFileSync(`${root}/docs/empty`, '')
  writeFileSync(`${root}/docs/deep/large`, Buffer.alloc(9_000_000, 'all work and no play '))
  writeFileSync(Buffer.from(`${root}/docs/caf\xe9 \x01\n"`, 'latin1'), 'no UTF-8')
  linkSync(`${root}/docs/a.txt`, `${root}/docs/deep/b.txt`)
  linkSync(`${root}/docs/a.txt`, `${root}/docs/deep/er/c.txt`)
  symlinkSync('../docs/a.txt', `${root}/docs/link`)
  symlinkSync('/nowhere/at/all', `${root}/docs/dangling`)
  linkSync(`${root}/docs/dangling`, `${root}/docs/dangling-too`)
  execFileSync('mkfifo', [`${root}/docs/fifo`])
  chmodSync(`${root}/docs/a.txt`, 0o640)
  chmodSync(`${root}/docs/empty`, 0o4755)
  if (isRoot) {
    execFileSync('mknod', [`${root}/docs/null`, 'c', '1', '3'])
    execFileSync('mknod', [`${root}/docs/disk`, 'b', '259', '4660'])
    execFileSync('mknod', [`${root}/docs/largest`, 'b', '4095', '1048575'])
    for (const [name, uid, gid] of [
      ['docs/a.txt', 1000, 100],
      ['docs/deep', 4711, 4_000_000_000],
    ] as const)
      chownSync(`${root}/${name}`, uid, gid)
    chmodSync(`${root}/docs/deep`, 0o2750)
  }
  execFileSync('touch', ['-h', '-d', '1969-07-20 20:17:40.123456789 UTC', `${root}/docs/link`])
  execFileSync('touch', ['-d', '2001-09-09 01:46:40.987654321 UTC', `${root}/docs/a.txt`])
  execFileSync('touch', ['-d', '2020-02-02 02:02:02.020202020 UTC', `${root}/docs/deep/er`])
  execFileSync('touch', ['-d', '2021-02-02 02:02:02.020202021 UTC', `${root}/docs/deep`])
  execFileSync('touch', ['-d', '2022-02-02 02:02:02.000000001 UTC', `${root}/docs`])
}

/** A tree that was packed, and an empty target. */
async function packed(folder: TemporaryFolder) {
  mkdirSync(folder.at('source'))
  mkdirSync(folder.at('target'))
  makeTree(folder.at('source'))
  const archive = folder.at(archiveName)
  const entries = await packTree(folder.at('source'), archive)
  return {
    archive,
    entries,
    source: folder.at('source'),
    target: folder.at('target'),
    restored: folder.at('target', folder.at('source')),
  }
}

function assertClean(report: RestoreReport): void {
  for (const kind of ['damaged', 'failed', 'kept'] as const)
    assert.deepEqual(report[kind], { count: 0, listed: [] })
  // The folders that lead to the temporary one belong to root.
  if (isRoot) assert.deepEqual(report.notSet, {})
}

/** No temporary name is left anywhere. */
function assertNothingTemporary(tree: Record<string, string>): void {
  assert.deepEqual(
    Object.keys(tree).filter((path) => path.includes('.central-backup-restore-')),
    [],
  )
}

test('what was packed comes back: types, modes, owners, times to the nanosecond, links, devices', async () => {
  using folder = new TemporaryFolder()
  const { archive, entries, source, target, restored } = await packed(folder)
  await using from = sourceOf(entries, archive)
  const phases = new Set<string>()
  const report = await restoreTree(from, target, {
    observer: { onProgress: ({ phase }) => phases.add(phase) },
  })
  assertClean(report)
  assert.deepEqual(describeTree(restored), describeTree(source))
  assert.equal(report.restored.files, 4)
  assert.equal(report.restored.hardlinks, 3)
  assert.equal(report.contentBytes, 9_000_013)
  assert.deepEqual([...phases], ['folders', 'files', 'links', 'attributes', 'sync'])
})

test('a second restore finds everything equal and changes nothing', async () => {
  using folder = new TemporaryFolder()
  const { archive, entries, target } = await packed(folder)
  await using from = sourceOf(entries, archive)
  await restoreTree(from, target)
  const before = describeTree(target)
  const inodes = lstatSync(folder.at('target', folder.at('source/docs/deep/large'))).ino
  const report = await restoreTree(from, target, { overwrite: 'always' })
  assertClean(report)
  assert.deepEqual(report.restored, { files: 0, directories: 0, symlinks: 0, hardlinks: 0, specials: 0 })
  assert.equal(report.contentBytes, 0)
  assert.equal(report.equal, entries.filter(({ ancestor }) => !ancestor).length)
  assert.deepEqual(describeTree(target), before)
  assert.equal(lstatSync(folder.at('target', folder.at('source/docs/deep/large'))).ino, inodes)
  for (const { action, type } of planRestore(from, target, 'always'))
    assert.ok(action === 'equal' || (action === 'keep' && type === 'directory'), `${type} ${action}`)
})

test('a restore that was broken off anywhere goes on, and ends as if it had not been', async () => {
  using folder = new TemporaryFolder()
  const { archive, entries, source, target, restored } = await packed(folder)
  await using from = sourceOf(entries, archive)
  for (const pieces of [0, 1, 1, 1]) {
    const controller = new AbortController()
    let left = pieces
    const stopping = {
      entries: from.entries.bind(from),
      entryAt: from.entryAt.bind(from),
      async *content(entry: (typeof entries)[number]) {
        for await (const piece of from.content(entry)) {
          if (left-- === 0) controller.abort(new Error('stopped'))
          yield piece
        }
      },
    }
    await assert.rejects(restoreTree(stopping, target, { signal: controller.signal }), /stopped/)
    assertNothingTemporary(describeTree(target))
  }
  assertClean(await restoreTree(from, target))
  assert.deepEqual(describeTree(restored), describeTree(source))
})

for (const [overwrite, replaced] of [
  ['never', []],
  ['older', ['old']],
  ['always', ['new', 'old', 'typed']],
] as const) {
  test(`with overwrite ${overwrite}, what differs is ${replaced.length === 0 ? 'kept' : `replaced: ${replaced.join(', ')}`}`, async () => {
    using folder = new TemporaryFolder()
    mkdirSync(folder.at('source'))
    for (const name of ['old', 'new', 'typed', 'full']) {
      writeFileSync(folder.at('source', name), `${name} of the backup`)
      utimesSync(folder.at('source', name), 1_700_000_000, 1_700_000_000)
    }
    const entries = await packTree(folder.at('source'), folder.at(archiveName))
    const restored = folder.at('target', folder.at('source'))
    mkdirSync(`${restored}/full/of/things`, { recursive: true })
    writeFileSync(`${restored}/old`, 'old in the target')
    utimesSync(`${restored}/old`, 1_600_000_000, 1_600_000_000)
    writeFileSync(`${restored}/new`, 'new in the target')
    symlinkSync('old', `${restored}/typed`)
    await using from = sourceOf(entries, folder.at(archiveName))
    const planned = [...planRestore(from, folder.at('target'), overwrite)]
      .filter(({ action }) => action === 'replace')
      .map(({ path }) => path.split('/').at(-1))
    assert.deepEqual(planned, replaced)
    const report = await restoreTree(from, folder.at('target'), { overwrite })
    const found = ['new', 'old', 'typed'].filter(
      (name) =>
        lstatSync(`${restored}/${name}`).isFile() &&
        readFileSync(`${restored}/${name}`, 'utf8') === `${name} of the backup`,
    )
    assert.deepEqual(found, replaced)
    assert.equal(report.restored.files, replaced.length)
    assert.equal(report.kept.count, 4 - replaced.length)
    assert.ok(lstatSync(`${restored}/full/of/things`).isDirectory())
    assertNothingTemporary(describeTree(restored))
  })
}

test('an empty folder gives way to a file, and a file to a folder, only where that is wanted', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('source/folder'), { recursive: true })
  writeFileSync(folder.at('source/folder/inside'), 'x')
  writeFileSync(folder.at('source/file'), 'y')
  const entries = await packTree(folder.at('source'), folder.at(archiveName))
  await using from = sourceOf(entries, folder.at(archiveName))
  const restored = folder.at('target', folder.at('source'))
  mkdirSync(`${restored}/file`, { recursive: true })
  writeFileSync(`${restored}/folder`, 'in the way')
  const kept = await restoreTree(from, folder.at('target'))
  assert.equal(kept.kept.count, 2)
  assert.equal(kept.failed.count, 1)
  assert.match(kept.failed.listed[0]!.message, /a link or a file/)
  const report = await restoreTree(from, folder.at('target'), { overwrite: 'always' })
  assertClean(report)
  assert.deepEqual(describeTree(restored), describeTree(folder.at('source')))
})

test('folders that only lead to the selection keep what they have, and get what they had where they are made', async () => {
  using folder = new TemporaryFolder()
  const { archive, entries, source, target, restored } = await packed(folder)
  const wanted = `${source.slice(1)}/docs/deep/er`
  const leading = entries.map((entry) =>
    wanted.startsWith(`${entry.path}/`) ? { ...entry, ancestor: true } : entry,
  )
  await using from = sourceOf(leading, archive)
  const selected = from.only(({ path, ancestor }) => ancestor || path.startsWith(wanted))
  mkdirSync(`${restored}/docs`, { recursive: true })
  chmodSync(`${restored}/docs`, 0o711)
  assertClean(await restoreTree(selected, target))
  assert.equal(lstatSync(`${restored}/docs`).mode & 0o7777, 0o711)
  assert.equal(describeTree(restored)['docs/deep'], describeTree(source)['docs/deep'])
  // The first name of this one was not selected.
  assert.deepEqual(readdirSync(`${restored}/docs/deep/er`), ['c.txt'])
  assert.equal(readFileSync(`${restored}/docs/deep/er/c.txt`, 'utf8'), 'alpha')
})

test('names of an object whose first name is not selected are names of one object again', async () => {
  using folder = new TemporaryFolder()
  const { archive, entries, source, target, restored } = await packed(folder)
  await using from = sourceOf(entries, archive)
  const report = await restoreTree(
    from.only(({ path }) => !path.endsWith('docs/a.txt')),
    target,
  )
  assertClean(report)
  const tree = describeTree(restored)
  assert.equal(tree['docs/deep/b.txt'], describeTree(source)['docs/a.txt'])
  assert.equal(tree['docs/deep/er/c.txt'], 'is docs/deep/b.txt')
})

test('damaged content costs the files that it is of, and leaves what stood in their place', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('source'))
  for (const name of ['a', 'b', 'c']) writeFileSync(folder.at('source', name), name.repeat(10_000))
  linkSync(folder.at('source/b'), folder.at('source/z'))
  const entries = await packTree(folder.at('source'), folder.at(archiveName))
  const b = entries.find(({ path }) => path.endsWith('/b'))!
  b.digest = Buffer.alloc(32)
  const c = entries.find(({ path }) => path.endsWith('/c'))!
  c.extents = [{ ...c.extents[0]!, archive: 'missing.tar.zst' }]
  const restored = folder.at('target', folder.at('source'))
  mkdirSync(restored, { recursive: true })
  writeFileSync(`${restored}/b`, 'stood here before')
  await using reader = new ContentReader((name) => folder.at(name))
  const from = new ListSource(entries, (entry) => reader.read(entry))
  const report = await restoreTree(from, folder.at('target'), { overwrite: 'always' })
  assert.deepEqual(
    report.damaged.listed.map(({ path, message }) => [path.at(-1), message.replace(/'.*'/, '')]),
    [
      ['b', 'its content is not what was backed up: its SHA-256 differs'],
      ['c', 'ENOENT: no such file or directory, open '],
      ['z', 'its content is not what was backed up: its SHA-256 differs'],
    ],
  )
  assert.equal(readFileSync(`${restored}/a`, 'utf8'), 'a'.repeat(10_000))
  assert.equal(readFileSync(`${restored}/b`, 'utf8'), 'stood here before')
  assert.deepEqual(readdirSync(restored), ['a', 'b'])
})

test('a damaged frame costs only the files that lie in it', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('source'))
  for (const name of ['a', 'b', 'c', 'd', 'e'])
    writeFileSync(folder.at('source', name), randomBytes(3_000_000))
  const entries = await packTree(folder.at('source'), folder.at(archiveName))
  const bytes = readFileSync(folder.at(archiveName))
  // The second frame, from byte 4 Mi of the tar stream on, which is not compressible.
  bytes.fill(0x55, 5_000_000, 5_000_100)
  writeFileSync(folder.at(archiveName), bytes)
  mkdirSync(folder.at('target'))
  await using from = sourceOf(entries, folder.at(archiveName))
  const report = await restoreTree(from, folder.at('target'))
  const inFrame = entries.filter(({ type, extents }) => {
    const [extent] = extents
    return type === 'file' && extent!.offset < 2 * 4_194_304 && extent!.offset + extent!.length > 4_194_304
  })
  assert.deepEqual(
    report.damaged.listed.map(({ path }) => path),
    inFrame.map(({ path }) => path),
  )
  assert.equal(report.restored.files, 5 - inFrame.length)
})

test('content that is spread over more archives than are kept open is read from each', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('source'))
  mkdirSync(folder.at('target'))
  for (let i = 0; i < 60; i++) writeFileSync(folder.at('source', `f${i}`), `content of ${i}`)
  const entries = await packTree(folder.at('source'), folder.at(archiveName))
  const files = entries.filter(({ type }) => type === 'file')
  for (const [i, entry] of files.entries()) {
    const archive = `copy-${i % 20}.tar.zst`
    copyFileSync(folder.at(archiveName), folder.at(archive))
    entry.extents = entry.extents.map((extent) => ({ ...extent, archive }))
  }
  await using reader = new ContentReader((name) => folder.at(name))
  const source = new ListSource(entries, (entry) => reader.read(entry))
  assertClean(await restoreTree(source, folder.at('target')))
  assert.deepEqual(describeTree(folder.at('target', folder.at('source'))), describeTree(folder.at('source')))
})

test('a file that replaces another is on disk before it does, and new ones are before the restore ends', (t) => {
  if (spawnSync('strace', ['-V']).error !== undefined) return t.skip('strace is not installed')
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('target'))
  writeFileSync(folder.at('target/old'), 'old')
  const script = join(import.meta.dirname, 'restore-two.ts')
  const calls = 'trace=fsync,syncfs,renameat,renameat2'
  const { stderr } = spawnSync(
    'strace',
    ['-f', '-qq', '-y', '-e', calls, process.execPath, script, folder.at('target')],
    { encoding: 'utf8' },
  )
  // Calls that strace has no name for are traced in any case.
  const made = [
    ...stderr.matchAll(/^(?:\[pid +\d+\] )?(?!syscall_)(\w+)\(.*?(?:"(old|new)".*)?\) += 0$/gm),
  ].map(([, call, name]) => (name === undefined ? call : `${call} ${name}`))
  assert.deepEqual(made, ['renameat2 new', 'fsync', 'renameat old', 'syncfs'])
})

test('where a disk fails at attributes or further names, the restore says so', async (t) => {
  if (spawnSync('strace', ['-o', '/dev/null', 'true']).status !== 0) return t.skip('strace cannot be used')
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('source'))
  writeFileSync(folder.at('source/a'), 'alpha')
  linkSync(folder.at('source/a'), folder.at('source/b'))
  if (isRoot) execFileSync('setfattr', ['-n', 'trusted.t', '-v', 't', folder.at('source/a')])
  await packTree(folder.at('source'), folder.at(archiveName))
  const restore = (call: string, error: string) => {
    const target = folder.at(`${call}-${error}`)
    mkdirSync(target)
    const script = join(import.meta.dirname, 'restore-as.ts')
    const inject = ['-e', `trace=${call}`, '-e', `inject=${call}:error=${error}`]
    const args = ['-f', '-qq', '-o', '/dev/null', ...inject, process.execPath, script]
    return spawnSync('strace', [...args, folder.at(archiveName), target], { encoding: 'utf8' })
  }
  for (const [call, error, message] of [
    ['fchmod', 'EIO', /the restore ended at .*: cannot set its mode: EIO/],
    ['fchownat', 'EDQUOT', /the restore ended at .*: cannot set its owner: EDQUOT/],
    ['utimensat', 'EROFS', /the restore ended at .*: cannot set its times: EROFS/],
    ['linkat', 'ENOSPC', /the restore ended at .*: cannot make it a further name of .*: ENOSPC/],
  ] as const) {
    const { status, stderr } = restore(call, error)
    assert.equal(status, 1, stderr)
    assert.match(stderr, message)
  }
  // What a file system has no room for in an inode is told, and the restore goes on.
  const { failed, notSet } = JSON.parse(restore('fsetxattr', 'ENOSPC').stdout) as RestoreReport
  assert.equal(failed.count, 0)
  assert.equal(notSet.xattrs?.reason, isRoot ? 'ENOSPC: no space left on device' : undefined)
})
