import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type BytePath,
  type Entry,
  inodeFlags,
  inodeFlagsMask,
  type Overwrite,
  planRestore,
  type RestoreReport,
  restoreTree,
} from '../src/index.ts'
import {
  aclValue,
  changeFlags,
  lacksAttributes,
  netRawCapability,
  readFlags,
  readXattrs,
  removeXattr,
  writeXattr,
} from './object-attributes.ts'
import { file, other } from './sample.ts'
import { archiveName, describeTree, ListSource, packTree, sourceOf, TemporaryFolder } from './tree.ts'

const lacks = lacksAttributes(tmpdir(), 'trusted') || lacksAttributes(tmpdir(), 'flags')
const { immutable, 'append-only': appendOnly, nodump, noatime, dirsync } = inodeFlags

const acl = aclValue([
  ['owner', 6],
  ['user', 5, 1234],
  ['owning-group', 4],
  ['mask', 7],
  ['other', 0],
])

const closedToGroup = aclValue([
  ['owner', 6],
  ['user', 6, 1234],
  ['owning-group', 0],
  ['mask', 6],
  ['other', 0],
])

/** A tree, its archive, and a folder to restore it into. */
class Scene extends TemporaryFolder {
  entries: Entry[] = []

  constructor() {
    super()
    mkdirSync(this.at('source'))
    mkdirSync(this.at('target'))
  }

  async pack(): Promise<void> {
    this.entries = await packTree(this.at('source'), this.at(archiveName))
  }

  async restore(options: { overwrite?: Overwrite; numericIds?: boolean } = {}): Promise<RestoreReport> {
    await using source = sourceOf(this.entries, this.at(archiveName))
    return await restoreTree(source, this.at('target'), options)
  }

  plan(overwrite: Overwrite): Record<string, string> {
    const source = sourceOf(this.entries, this.at(archiveName))
    const within = [...planRestore(source, this.at('target'), overwrite)].filter(({ path }) =>
      `/${path}`.startsWith(`${this.at('source')}/`),
    )
    return Object.fromEntries(
      within.map(({ path, action }) => [`/${path}`.slice(this.at('source').length + 1), action]),
    )
  }

  source(name: string): string {
    return this.at('source', name)
  }

  restored(name = ''): string {
    return this.at('target', this.at('source'), name)
  }

  override [Symbol.dispose](): void {
    // It fails at links and the like, which have no flags.
    spawnSync('chattr', ['-R', '-f', '-i', '-a', this.path])
    super[Symbol.dispose]()
  }
}

function assertClean(report: RestoreReport): void {
  for (const kind of ['damaged', 'failed', 'kept'] as const) assert.deepEqual(report[kind].listed, [])
  assert.deepEqual(report.notSet, {})
}

function flagsOf(path: string): number {
  return readFlags(path)! & inodeFlagsMask
}

test('extended attributes of every kind of object come back', { skip: lacks }, async () => {
  using scene = new Scene()
  writeFileSync(scene.source('file'), 'content')
  mkdirSync(scene.source('folder'))
  symlinkSync('nowhere', scene.source('link'))
  execFileSync('mkfifo', [scene.source('fifo')])
  execFileSync('mknod', [scene.source('device'), 'c', '1', '3'])
  const kinds = ['file', 'folder', 'link', 'fifo', 'device']
  for (const kind of kinds) {
    writeXattr(scene.source(kind), 'trusted.kind', kind)
    writeXattr(scene.source(kind), 'security.selinux', `${kind}\0`)
  }
  for (const name of ['user.a=b%c', 'user.new\nline', 'user.caf\xe9', 'user.empty', 'user.binary'])
    writeXattr(scene.source('file'), name, name === 'user.empty' ? '' : Buffer.from([0, 10, 255]))
  await scene.pack()
  assertClean(await scene.restore())
  for (const kind of kinds)
    assert.deepEqual(readXattrs(scene.restored(kind)), readXattrs(scene.source(kind)), kind)
  assert.equal(readXattrs(scene.restored('file')).size, 7)
})

test('ACLs, set-id bits and capabilities come back with an owner who is not root', {
  skip: lacks,
}, async () => {
  using scene = new Scene()
  writeFileSync(scene.source('program'), 'content')
  chownSync(scene.source('program'), 1000, 1000)
  chmodSync(scene.source('program'), 0o6755)
  writeXattr(scene.source('program'), 'system.posix_acl_access', acl)
  writeXattr(scene.source('program'), 'security.capability', netRawCapability)
  mkdirSync(scene.source('folder'))
  writeXattr(scene.source('folder'), 'system.posix_acl_default', acl)
  writeFileSync(scene.source('folder/plain'), '')
  // It was made with the ACL of its folder, and has none since.
  removeXattr(scene.source('folder/plain'), 'system.posix_acl_access')
  chmodSync(scene.source('folder/plain'), 0o640)
  await scene.pack()
  // What is made here gets an ACL that the backup does not have.
  writeXattr(scene.at('target'), 'system.posix_acl_default', acl)
  assertClean(await scene.restore())
  for (const name of ['program', 'folder', 'folder/plain']) {
    assert.deepEqual(readXattrs(scene.restored(name)), readXattrs(scene.source(name)), name)
    assert.equal(statSync(scene.restored(name)).mode, statSync(scene.source(name)).mode, name)
  }
  assert.equal(statSync(scene.restored('program')).mode & 0o7777, 0o6670)
  const { uid, gid } = statSync(scene.restored('program'))
  assert.deepEqual([uid, gid], [1000, 1000])
})

test('at no time may the group do more than an ACL lets it in the end, nor who is named in another one', async (t) => {
  if (lacks !== false) return t.skip(lacks)
  if (spawnSync('strace', ['-V']).error !== undefined) return t.skip('strace is not installed')
  using scene = new Scene()
  mkdirSync(scene.source('folder'))
  for (const name of ['listed', 'plain', 'folder/listed', 'folder/plain']) {
    writeFileSync(scene.source(name), 'content', { mode: 0o600 })
    chmodSync(scene.source(name), 0o660)
    // The group may do nothing with it, though the mode says so: it is the most that user 1234 may do.
    if (name.endsWith('listed')) writeXattr(scene.source(name), 'system.posix_acl_access', closedToGroup)
  }
  await scene.pack()
  // What is made in the target lets user 1234 do what its mode lets the group.
  writeXattr(scene.at('target'), 'system.posix_acl_default', acl)
  const script = join(import.meta.dirname, 'restore-as.ts')
  const { stdout, stderr } = spawnSync(
    'strace',
    [
      ...['-f', '-qq', '-e', 'trace=fchmod,chmod,fsetxattr,setxattr,fremovexattr,removexattr'],
      ...[process.execPath, script, scene.at(archiveName), scene.at('target')],
    ],
    { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  )
  assert.equal((JSON.parse(stdout) as RestoreReport).failed.count, 0)
  const calls = stderr
    .split('\n')
    .map((line) => /(f?(?:chmod|setxattr|removexattr))\((?:.*, 0(\d+)\)|.*"(system[^"]*)")/.exec(line))
    .filter((found) => found !== null)
    .map(([, call, mode, name]) => `${call} ${mode ?? name}`)
  const files = calls.join('\n').split('fchmod 600\n').slice(1)
  assert.equal(files.length, 4)
  for (const file of files) {
    const [next, after] = file.split('\n')
    if (next === 'fremovexattr system.posix_acl_access') assert.equal(after, 'fchmod 660')
    else assert.equal(next, 'fsetxattr system.posix_acl_access')
  }
  for (const name of ['listed', 'plain', 'folder/listed', 'folder/plain']) {
    assert.deepEqual(readXattrs(scene.restored(name)), readXattrs(scene.source(name)), name)
    assert.equal(statSync(scene.restored(name)).mode & 0o777, 0o660, name)
  }
})

test('inode flags come back, those that seal an object after all else', { skip: lacks }, async () => {
  using scene = new Scene()
  mkdirSync(scene.source('sealed/below'), { recursive: true })
  writeFileSync(scene.source('sealed/below/file'), 'content')
  linkSync(scene.source('sealed/below/file'), scene.source('sealed/second'))
  linkSync(scene.source('sealed/below/file'), scene.source('z-third'))
  writeFileSync(scene.source('log'), 'line\n')
  writeFileSync(scene.source('plain'), 'content')
  mkdirSync(scene.source('folder'))
  const wanted = {
    plain: nodump | noatime,
    folder: dirsync | nodump,
    log: appendOnly,
    'sealed/below/file': immutable,
    'sealed/below': immutable,
    sealed: immutable | nodump,
  }
  for (const path of ['sealed/below', 'sealed', 'folder']) utimesSync(scene.source(path), 1, 1_000_000_000.25)
  for (const [name, flags] of Object.entries(wanted)) changeFlags(scene.source(name), flags)
  await scene.pack()
  assertClean(await scene.restore())
  const check = () => {
    for (const [name, flags] of Object.entries(wanted))
      assert.equal(flagsOf(scene.restored(name)), flags, name)
    assert.equal(flagsOf(scene.restored('sealed/second')), immutable)
    assert.equal(statSync(scene.restored('z-third')).ino, statSync(scene.restored('sealed/below/file')).ino)
    for (const path of ['sealed/below', 'sealed', 'folder'])
      assert.equal(
        lstatSync(scene.restored(path), { bigint: true }).mtimeNs,
        1_000_000_000_250_000_000n,
        path,
      )
  }
  check()

  // Done once more, there is nothing to do.
  const again = await scene.restore()
  assertClean(again)
  assert.deepEqual(again.restored, { files: 0, directories: 0, symlinks: 0, hardlinks: 0, specials: 0 })

  // A restore that was broken off before its end had set no such flags, and one of the names is missing.
  changeFlags(scene.restored('log'), 0, appendOnly)
  changeFlags(scene.restored('z-third'), 0, immutable)
  rmSync(scene.restored('z-third'))
  changeFlags(scene.restored('sealed/below/file'), immutable)
  assertClean(await scene.restore())
  check()
})

test('what is sealed is replaced where a restore replaces it, and nothing else is unsealed', {
  skip: lacks,
}, async () => {
  using scene = new Scene()
  for (const folder of ['folder', 'kept']) mkdirSync(scene.source(folder))
  for (const name of ['folder/file', 'file', 'kept/same']) writeFileSync(scene.source(name), 'backed up')
  mkdirSync(scene.source('now-a-folder'))
  writeFileSync(scene.source('now-a-file'), 'backed up')
  await scene.pack()
  await scene.restore()
  for (const name of ['folder/file', 'file']) writeFileSync(scene.restored(name), 'something else')
  rmSync(scene.restored('now-a-folder'), { recursive: true })
  writeFileSync(scene.restored('now-a-folder'), 'a file')
  rmSync(scene.restored('now-a-file'))
  mkdirSync(scene.restored('now-a-file'))
  linkSync(scene.restored('file'), scene.restored('other-name'))
  writeFileSync(scene.restored('kept/stranger'), 'not of the backup')
  for (const name of ['file', 'folder/file', 'now-a-folder', 'now-a-file', 'kept/stranger', 'folder'])
    changeFlags(scene.restored(name), immutable)

  const kept = await scene.restore()
  assert.equal(kept.kept.count, 4)
  assert.equal(flagsOf(scene.restored('file')), immutable)

  assertClean(await scene.restore({ overwrite: 'always' }))
  for (const name of ['folder/file', 'file', 'now-a-file']) {
    assert.equal(readFileSync(scene.restored(name), 'utf8'), 'backed up')
    assert.equal(flagsOf(scene.restored(name)), 0)
  }
  assert.ok(statSync(scene.restored('now-a-folder')).isDirectory())
  assert.equal(flagsOf(scene.restored('folder')), 0)
  // The object that was replaced under one of its names keeps its flags under the other.
  assert.equal(flagsOf(scene.restored('other-name')), immutable)
  assert.equal(flagsOf(scene.restored('kept/stranger')), immutable)
})

test('what differs in attributes alone is not taken for equal', { skip: lacks }, async () => {
  using scene = new Scene()
  const names = ['mode', 'owner', 'xattr-more', 'xattr-less', 'xattr-other', 'acl', 'flags', 'link-owner']
  for (const name of names) {
    if (name === 'link-owner') symlinkSync('nowhere', scene.source(name))
    else writeFileSync(scene.source(name), 'content')
  }
  for (const name of ['xattr-less', 'xattr-other']) writeXattr(scene.source(name), 'user.a', 'value')
  writeXattr(scene.source('acl'), 'system.posix_acl_access', acl)
  changeFlags(scene.source('flags'), nodump)
  mkdirSync(scene.source('folder'))
  writeXattr(scene.source('folder'), 'user.a', 'value')
  await scene.pack()
  await scene.restore()
  assert.deepEqual(new Set(Object.values(scene.plan('always'))), new Set(['equal']))

  chmodSync(scene.restored('mode'), 0o600)
  chownSync(scene.restored('owner'), 1000, 1000)
  writeXattr(scene.restored('xattr-more'), 'user.b', '')
  removeXattr(scene.restored('xattr-less'), 'user.a')
  writeXattr(scene.restored('xattr-other'), 'user.a', 'another')
  removeXattr(scene.restored('acl'), 'system.posix_acl_access')
  changeFlags(scene.restored('flags'), noatime, nodump)
  lchownSync(scene.restored('link-owner'), 1000, 1000)
  writeXattr(scene.restored('folder'), 'user.b', 'one more')
  const expected = Object.fromEntries(names.map((name) => [name, 'replace']))
  assert.deepEqual(scene.plan('always'), { folder: 'update', ...expected })

  const kept = await scene.restore()
  assert.equal(kept.kept.count, names.length)
  assert.match(kept.kept.listed[0]!.message, /same content stands there, and its attributes differ/)
  assert.deepEqual([...readXattrs(scene.restored('folder')).keys()], ['user.a'])
  assertClean(await scene.restore({ overwrite: 'always' }))
  assert.deepEqual(new Set(Object.values(scene.plan('always'))), new Set(['equal']))
})

test('names of one object that became objects of their own are names of one again', {
  skip: lacks,
}, async () => {
  using scene = new Scene()
  writeFileSync(scene.source('a'), 'content')
  linkSync(scene.source('a'), scene.source('b'))
  await scene.pack()
  await scene.restore()
  rmSync(scene.restored('b'))
  execFileSync('cp', ['-p', scene.restored('a'), scene.restored('b')])
  assertClean(await scene.restore({ overwrite: 'always' }))
  assert.equal(statSync(scene.restored('a')).ino, statSync(scene.restored('b')).ino)
})

test('names of one object stay that where its file system cannot have its time or attributes, and what is to be sealed is', async (t) => {
  using folder = new TemporaryFolder()
  const target = folder.at('target')
  mkdirSync(target)
  // Of the year 5138: ext4 ends in 2446, XFS in 2486.
  const fields = { mtimeSeconds: 99_999_999_999, nlink: 3 }
  const lacksFlags = lacksAttributes(target, 'flags')
  const members = [
    file('a', 'content', fields),
    other('b', 'hardlink', { target: 'a' as BytePath }),
    other('c', 'hardlink', { target: 'a' as BytePath }),
    other('fifo', 'fifo', fields),
    other('fifo-2', 'hardlink', { target: 'fifo' as BytePath }),
    file('sealed', 'content', { ...fields, nlink: 1, flags: lacksFlags === false ? immutable : 0 }),
    // A project and flags that hardly any file system has together.
    file('project', 'content', {
      ...fields,
      mtimeSeconds: 1,
      project: 7,
      flags: lacksFlags === false ? inodeFlagsMask & ~immutable & ~appendOnly : null,
    }),
    other('project-2', 'hardlink', { target: 'project' as BytePath }),
    // Their first name is not among them.
    other('x', 'hardlink', { target: 'w' as BytePath }),
    other('y', 'hardlink', { target: 'w' as BytePath }),
    other('z', 'hardlink', { target: 'w' as BytePath }),
  ]
  class Source extends ListSource {
    override entryAt(path: BytePath) {
      return path === 'w' ? file('w', 'content', fields).entry : super.entryAt(path)
    }
  }
  const source = new Source(
    members.map(({ entry }) => entry),
    async function* () {
      yield Buffer.from('content')
    },
  )
  const inodesOf = (...names: string[]) =>
    new Set(names.map((name) => lstatSync(join(target, name)).ino)).size
  try {
    for (const overwrite of ['never', 'always'] as const) {
      const report = await restoreTree(source, target, { overwrite })
      assert.equal(report.failed.count + report.damaged.count, 0)
      for (const names of [
        ['a', 'b', 'c'],
        ['fifo', 'fifo-2'],
        ['project', 'project-2'],
        ['x', 'y', 'z'],
      ])
        assert.equal(inodesOf(...names), 1, names.join(' '))
      if (lacksFlags === false) assert.equal(flagsOf(join(target, 'sealed')), immutable)
    }
  } finally {
    if (lacksFlags === false) changeFlags(join(target, 'sealed'), 0, immutable)
  }
  if (lstatSync(join(target, 'a')).mtimeMs > 9e13) t.diagnostic('this file system has such times')
})

test('owners are found by name, and by number where the name is not known or not wanted', {
  skip: lacks,
}, async () => {
  using scene = new Scene()
  for (const name of ['known', 'unknown', 'root', 'nameless']) writeFileSync(scene.source(name), 'content')
  await scene.pack()
  const known = userInfo({ encoding: 'utf8' }).username === 'root' ? nameOf('/etc/passwd', 1) : ''
  const knownGroup = nameOf('/etc/group', 1)
  for (const entry of scene.entries.filter(({ type }) => type === 'file')) {
    const name = entry.path.slice(entry.path.lastIndexOf('/') + 1)
    entry.uid = name === 'root' ? 0 : 54_321
    entry.gid = name === 'root' ? 0 : 54_322
    entry.user = ({ known, root: known, unknown: 'no-such-user-here', nameless: '' }[name] ?? '') as BytePath
    entry.group = ({ known: knownGroup, unknown: 'no-such-group-here' }[name] ?? '') as BytePath
  }
  const ownerOf = (name: string) => {
    const { uid, gid } = statSync(scene.restored(name))
    return [uid, gid]
  }
  const report = await scene.restore()
  assertClean(report)
  assert.deepEqual(['known', 'unknown', 'root', 'nameless'].map(ownerOf), [
    [1, 1],
    [54_321, 54_322],
    [0, 0],
    [54_321, 54_322],
  ])
  assert.deepEqual(report.mapped, [
    { kind: 'user', name: known, from: 54_321, to: 1, count: 1 },
    { kind: 'group', name: knownGroup, from: 54_322, to: 1, count: 1 },
  ])
  assert.deepEqual((await scene.restore({ overwrite: 'always' })).restored.files, 0)

  const numeric = await scene.restore({ overwrite: 'always', numericIds: true })
  assertClean(numeric)
  assert.deepEqual([numeric.restored.files, numeric.mapped], [1, []])
  assert.deepEqual(ownerOf('known'), [54_321, 54_322])
})

/** The name that a number has in a file like /etc/passwd. */
function nameOf(file: string, number: number): string {
  const line = readFileSync(file, 'utf8')
    .split('\n')
    .find((one) => one.split(':')[2] === String(number))
  return line!.split(':')[0]!
}

test('what a file system cannot hold is told once a kind, with a count and examples', {
  skip: lacks,
}, async (t) => {
  using scene = new Scene()
  for (const name of ['a', 'b', 'c']) {
    writeFileSync(scene.source(name), 'content')
    writeXattr(scene.source(name), 'system.posix_acl_access', acl)
    writeXattr(scene.source(name), 'trusted.a', 'value')
    changeFlags(scene.source(name), noatime)
  }
  await scene.pack()
  try {
    execFileSync('mount', ['-t', 'ramfs', 'none', scene.at('target')], { stdio: 'pipe' })
  } catch {
    return t.skip('a ramfs, which has no extended attributes, cannot be mounted here')
  }
  using _ = { [Symbol.dispose]: () => execFileSync('umount', [scene.at('target')]) }
  const report = await scene.restore()
  for (const kind of ['damaged', 'failed', 'kept'] as const) assert.deepEqual(report[kind].listed, [])
  assert.deepEqual(Object.keys(report.notSet).sort(), ['acls', 'flags', 'xattrs'])
  for (const { count, examples, reason } of Object.values(report.notSet)) {
    assert.deepEqual([count, examples.length], [3, 3])
    assert.match(reason, /^E/)
  }
  // The mask of the ACL is in the bits of the group: without the ACL, the group would get what others were given.
  assert.equal(statSync(scene.restored('a')).mode & 0o777, 0o640)
})

test('without root, what can be set is set, the rest is told, and a second restore finds nothing to do', {
  skip: lacks,
}, async (t) => {
  const nobody = { uid: 65_534, gid: 65_534 }
  const reads = spawnSync(process.execPath, ['--check', import.meta.filename], nobody)
  if (reads.status !== 0) return t.skip('this checkout lies where other users cannot read it')
  using scene = new Scene()
  chmodSync(scene.path, 0o755)
  chownSync(scene.at('target'), nobody.uid, nobody.gid)
  for (const name of ['program', 'of-nobody', 'sealed']) writeFileSync(scene.source(name), 'content')
  chownSync(scene.source('of-nobody'), nobody.uid, nobody.gid)
  chmodSync(scene.source('program'), 0o4755)
  writeXattr(scene.source('program'), 'security.capability', netRawCapability)
  for (const name of ['program', 'of-nobody']) {
    writeXattr(scene.source(name), 'user.a', 'value')
    writeXattr(scene.source(name), 'trusted.a', 'value')
    writeXattr(scene.source(name), 'system.posix_acl_access', acl)
  }
  changeFlags(scene.source('of-nobody'), nodump)
  changeFlags(scene.source('sealed'), immutable)
  await scene.pack()
  const restore = (): RestoreReport => {
    const script = join(import.meta.dirname, 'restore-as.ts')
    const args = [script, scene.at(archiveName), scene.at('target')]
    const { stdout, stderr } = spawnSync(process.execPath, args, { ...nobody, encoding: 'utf8' })
    return JSON.parse(stdout || assert.fail(stderr))
  }
  const first = restore()
  for (const kind of ['damaged', 'failed', 'kept'] as const) assert.deepEqual(first[kind].listed, [])
  const { owner: _, ...notSet } = first.notSet
  const counts = Object.fromEntries(Object.entries(notSet).map(([kind, { count }]) => [kind, count]))
  assert.deepEqual(counts, { capabilities: 1, flags: 1, mode: 1, xattrs: 2 })
  for (const name of ['program', 'of-nobody'])
    assert.deepEqual([...readXattrs(scene.restored(name)).keys()], ['system.posix_acl_access', 'user.a'])
  assert.equal(statSync(scene.restored('program')).mode & 0o7000, 0)
  assert.equal(flagsOf(scene.restored('of-nobody')), nodump)

  const second = restore()
  for (const kind of ['damaged', 'failed', 'kept'] as const) assert.deepEqual(second[kind].listed, [])
  assert.deepEqual(second.restored.files, 0)
})

test('attributes are never given to an object that was planted in place of one like it', {
  skip: lacks,
}, async () => {
  using scene = new Scene()
  for (const name of ['owned', 'labelled', 'sealed']) writeFileSync(scene.source(name), 'content')
  chownSync(scene.source('owned'), 1000, 1000)
  writeXattr(scene.source('labelled'), 'trusted.a', 'value')
  for (const name of ['owned', 'labelled', 'sealed']) utimesSync(scene.source(name), 1, 1_000_000_000)
  await scene.pack()
  // Files of root, of the same size and time, that somebody has made names of in the target; one is immutable.
  mkdirSync(scene.restored(), { recursive: true })
  mkdirSync(scene.at('outside'))
  for (const name of ['owned', 'labelled', 'sealed']) {
    const victim = scene.at('outside', name)
    writeFileSync(victim, 'secrets', { mode: 0o600 })
    utimesSync(victim, 1, 1_000_000_000)
    linkSync(victim, scene.restored(name))
  }
  changeFlags(scene.at('outside/sealed'), immutable)
  const before = describeTree(scene.at('outside'))
  for (const overwrite of ['never', 'older', 'always'] as const) {
    await scene.restore({ overwrite })
    assert.deepEqual(describeTree(scene.at('outside')), before)
    for (const name of ['owned', 'labelled', 'sealed'])
      assert.deepEqual(readXattrs(scene.at('outside', name)), new Map())
    assert.equal(flagsOf(scene.at('outside/sealed')), immutable)
  }
  assert.equal(statSync(scene.restored('owned')).uid, 1000)
  assert.equal(readFileSync(scene.restored('sealed'), 'utf8'), 'content')
  assert.notEqual(statSync(scene.restored('sealed')).ino, statSync(scene.at('outside/sealed')).ino)
})
