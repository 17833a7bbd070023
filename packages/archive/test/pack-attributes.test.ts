import assert from 'node:assert/strict'
import { chmodSync, linkSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { type Entry, inodeFlags, inodeFlagsMask, xattrsBytesMax } from '../src/index.ts'
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
import { entriesIn, packInPlace, requireSound, warningsIn } from './pack-in-place.ts'
import { PackingFolder, runProgram, withoutRights } from './packing-folder.ts'

const lacksUser = lacksAttributes(tmpdir(), 'user')
const lacksTrusted = lacksAttributes(tmpdir(), 'trusted')
const lacksFlags = lacksAttributes(tmpdir(), 'flags')

function xattrsOf(entry: Entry | undefined): Record<string, string> {
  return Object.fromEntries(
    [...(entry?.xattrs ?? [])].map(([name, value]) => [name, Buffer.from(value).toString('latin1')]),
  )
}

test('extended attributes of any name and value are in the index and in the tar', { skip: lacksUser }, () => {
  using folder = new PackingFolder()
  folder.file('file', 'content')
  const wanted: Record<string, string> = {
    'user.binary': '\0\xff\n\x01',
    'user.empty': '',
    'user.a=b%c': 'equals',
    'user.new\nline': 'x',
    'user.caf\xe9': 'no UTF-8',
    [`user.${'n'.repeat(250)}`]: 'a long name',
  }
  for (const [name, value] of Object.entries(wanted))
    writeXattr(folder.at('file'), name, Buffer.from(value, 'latin1'))
  const packed = packInPlace([folder.root()])
  assert.deepEqual(xattrsOf(entriesIn(folder, packed).file), wanted)
  assert.equal(packed.counts.attributes, 0)
  requireSound(packed, folder)
  for (const keyword of ['SCHILY.xattr.user.binary=\0\xff\n\x01\n', 'SCHILY.xattr.user.a%3Db%25c=equals\n'])
    assert.ok(packed.tar.includes(keyword, 0, 'latin1'), keyword)
})

test('objects without extended attributes have none', () => {
  using folder = new PackingFolder()
  folder.file('file', 'content')
  folder.symlink('link', 'file')
  folder.folder('folder')
  const { entries } = packInPlace([folder.root()])
  for (const { path, xattrs } of entries.filter(({ ancestor }) => !ancestor)) {
    const found = readXattrs(Buffer.from(`/${path}`, 'latin1'))
    assert.deepEqual(xattrs === null ? new Map() : xattrs, found, path)
  }
})

test('all kinds of objects keep what root can set on them', { skip: lacksTrusted }, async () => {
  using folder = new PackingFolder()
  folder.file('file', 'content')
  folder.folder('folder')
  folder.symlink('link', 'nowhere')
  folder.fifo('fifo')
  runProgram('mknod', [`${folder.path}/device`, 'c', '1', '3'])
  const server = createServer().listen(`${folder.path}/socket`)
  await new Promise((resolve) => server.once('listening', resolve))
  const kinds = ['file', 'folder', 'link', 'fifo', 'device', 'socket']
  for (const kind of kinds) {
    writeXattr(folder.at(kind), 'trusted.kind', kind)
    writeXattr(folder.at(kind), 'security.selinux', `system_u:object_r:${kind}_t:s0\0`)
  }
  const packed = packInPlace([folder.root()])
  const entries = entriesIn(folder, packed)
  for (const kind of kinds) {
    const { 'trusted.kind': trusted, 'security.selinux': label } = xattrsOf(entries[kind])
    assert.deepEqual([trusted, label], [kind, `system_u:object_r:${kind}_t:s0\0`], kind)
  }
  requireSound(packed, folder)
  await new Promise((resolve) => server.close(resolve))
})

test('access control lists and capabilities are kept, and ACLs stand in the tar as text, too', {
  skip: lacksTrusted,
}, () => {
  using folder = new PackingFolder()
  folder.file('program', 'content')
  folder.folder('folder')
  const access = aclValue([
    ['owner', 6],
    ['user', 5, 1234],
    ['owning-group', 4],
    ['group', 3, 4_000_000_000],
    ['mask', 7],
    ['other', 0],
  ])
  writeXattr(folder.at('program'), 'system.posix_acl_access', access)
  writeXattr(folder.at('folder'), 'system.posix_acl_default', access)
  writeXattr(folder.at('program'), 'security.capability', netRawCapability)
  const packed = packInPlace([folder.root()])
  const { program, folder: directory } = entriesIn(folder, packed)
  assert.deepEqual(program!.xattrs!.get('system.posix_acl_access'), access)
  assert.deepEqual(directory!.xattrs!.get('system.posix_acl_default'), access)
  assert.deepEqual(program!.xattrs!.get('security.capability'), netRawCapability)
  const text = 'user::rw-\nuser:1234:r-x\ngroup::r--\ngroup:4000000000:-wx\nmask::rwx\nother::---\n'
  for (const keyword of ['access', 'default'])
    assert.ok(packed.tar.includes(`SCHILY.acl.${keyword}=${text}\n`), keyword)
  requireSound(packed, folder)
})

test('values of 64 KiB come whole, and those that do not fit are told', { skip: lacksTrusted }, (t) => {
  if (!runnable('mkfs.xfs')) return t.skip('mkfs.xfs is not installed')
  using folder = new PackingFolder()
  using _ = mountXfs(folder)
  folder.file('mount/file', 'content')
  folder.file('mount/too-much', 'all of it')
  const value = Buffer.alloc(65_536, 'v')
  writeXattr(folder.at('mount/file'), 'user.large', value)
  for (let i = 0; i < 9; i++) writeXattr(folder.at('mount/too-much'), `user.${i}`, value)
  const packed = packInPlace([folder.root('mount')])
  const entries = entriesIn(folder, packed)
  assert.deepEqual(entries['mount/file']!.xattrs!.get('user.large'), value)
  const kept = entries['mount/too-much']!.xattrs!
  assert.equal(kept.size, Math.floor(xattrsBytesMax / (value.length + 6)))
  assert.deepEqual(warningsIn(folder, packed), ['attributes mount/too-much'])
  assert.match(packed.warnings[0]!.message, /"user\.\d" does not fit into an archive/)
  assert.deepEqual([packed.counts.attributes, packed.counts.unreadable], [1, 0])
  assert.equal(entries['mount/too-much']!.size, 9)
  requireSound(packed, folder)
})

function runnable(program: string): boolean {
  try {
    runProgram('sh', ['-c', `command -v ${program}`])
    return true
  } catch {
    return false
  }
}

/** An XFS of its own, as ext4 has no room for large values. */
function mountXfs(folder: PackingFolder): Disposable {
  const image = `${folder.path}/image`
  runProgram('truncate', ['-s', '300M', image])
  runProgram('mkfs.xfs', ['-q', image])
  folder.folder('mount')
  runProgram('mount', ['-o', 'loop', image, `${folder.path}/mount`])
  return { [Symbol.dispose]: () => runProgram('umount', [`${folder.path}/mount`]) }
}

test('inode flags of files and folders are in the index, and nothing else of what the kernel has there', {
  skip: lacksFlags,
}, () => {
  using folder = new PackingFolder()
  folder.file('file', 'content')
  folder.folder('folder')
  folder.symlink('link', 'file')
  const { immutable, 'append-only': appendOnly, nodump, noatime, sync, dirsync } = inodeFlags
  const wanted = {
    file: nodump | noatime | sync,
    folder: dirsync | nodump,
    other: immutable,
    log: appendOnly,
  }
  for (const [name, flags] of Object.entries(wanted)) {
    if (name !== 'folder') folder.file(name, 'content')
    changeFlags(folder.at(name), flags)
  }
  using _ = {
    [Symbol.dispose]: () => {
      for (const name of Object.keys(wanted)) changeFlags(folder.at(name), 0, inodeFlagsMask)
    },
  }
  const entries = entriesIn(folder, packInPlace([folder.root()]))
  for (const [name, flags] of Object.entries(wanted)) {
    assert.equal(entries[name]!.flags, flags, name)
    assert.equal(readFlags(folder.at(name))! & flags, flags, name)
  }
  assert.equal(entries.link!.flags, null)
})

test('a change of attributes alone sends them, and no content', { skip: lacksTrusted }, () => {
  using folder = new PackingFolder()
  for (const name of ['acl', 'user', 'flags', 'removed', 'same']) folder.file(name, `content of ${name}`)
  writeXattr(folder.at('removed'), 'user.old', 'value')
  const first = packInPlace([folder.root()])
  writeXattr(
    folder.at('acl'),
    'system.posix_acl_access',
    aclValue([
      ['owner', 6],
      ['user', 4, 1000],
      ['owning-group', 4],
      ['mask', 4],
      ['other', 4],
    ]),
  )
  writeXattr(folder.at('user'), 'user.new', 'value')
  changeFlags(folder.at('flags'), inodeFlags.nodump)
  removeXattr(folder.at('removed'), 'user.old')
  const second = packInPlace([folder.root()], { baseline: first.entries })
  const entries = entriesIn(folder, second)
  assert.deepEqual(Object.keys(entries), ['acl', 'flags', 'removed', 'user'])
  assert.equal(second.counts.contentBytes, 0)
  assert.deepEqual([...entries.acl!.xattrs!.keys()], ['system.posix_acl_access'])
  assert.deepEqual(xattrsOf(entries.user), { 'user.new': 'value' })
  assert.equal(entries.flags!.flags! & inodeFlags.nodump, inodeFlags.nodump)
  assert.equal(entries.removed!.xattrs, null)
  const before = entriesIn(folder, first)
  for (const [name, { digest, extents }] of Object.entries(entries))
    assert.deepEqual([digest, extents], [before[name]!.digest, before[name]!.extents], name)
})

test('further names of an object have none of its attributes, as their first has them', {
  skip: lacksUser,
}, () => {
  using folder = new PackingFolder()
  folder.file('first', 'content')
  writeXattr(folder.at('first'), 'user.a', 'value')
  linkSync(folder.at('first'), folder.at('second'))
  const { first, second } = entriesIn(folder, packInPlace([folder.root()]))
  assert.deepEqual(xattrsOf(first), { 'user.a': 'value' })
  assert.deepEqual([second!.type, second!.xattrs, second!.flags], ['hardlink', null, null])
})

test('attributes that cannot be read are told and counted, and all else comes', { skip: lacksUser }, () => {
  using folder = new PackingFolder()
  folder.folder('shut')
  writeXattr(folder.at('shut'), 'user.a', 'value')
  chmodSync(folder.at('shut'), 0o000)
  chmodSync(folder.path, 0o755)
  const packed = withoutRights(() => packInPlace([folder.root('shut')]))
  assert.deepEqual(warningsIn(folder, packed), ['attributes shut', 'unreadable shut'])
  assert.match(packed.warnings[0]!.message, /cannot read its extended attribute "user\.a": EACCES/)
  assert.equal(packed.counts.attributes, 1)
  const { shut } = entriesIn(folder, packed)
  assert.deepEqual([shut!.type, shut!.xattrs], ['directory', null])
})

test('folders that only lead to what is selected keep their attributes and flags', {
  skip: lacksFlags,
}, () => {
  using folder = new PackingFolder()
  folder.file('above/below/file', 'content')
  writeXattr(folder.at('above'), 'trusted.a', 'value')
  changeFlags(folder.at('above'), inodeFlags.nodump)
  const { above } = entriesIn(folder, packInPlace([folder.root('above/below')]))
  assert.deepEqual(
    [above!.ancestor, xattrsOf(above), above!.flags],
    [true, { 'trusted.a': 'value' }, inodeFlags.nodump],
  )
})
