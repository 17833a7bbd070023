import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, chownSync, lchownSync, lstatSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { bytesFromText, type Entry, frameBytesMax } from '../src/index.ts'
import { OpenWatch } from './open-watch.ts'
import { contentOf, entriesIn, packInPlace, requireSound, warningsIn } from './pack-in-place.ts'
import { DeepFolder, mtimeOf, PackingFolder, runProgram, withoutRights } from './packing-folder.ts'

const isRoot = process.geteuid!() === 0

function mtimeOfEntry({ mtimeSeconds, mtimeNanoseconds }: Entry): bigint {
  return BigInt(mtimeSeconds) * 1_000_000_000n + BigInt(mtimeNanoseconds)
}

test('files of every size around a block come back bit for bit', () => {
  using folder = new PackingFolder()
  const sizes = [0, 1, 511, 512, 513, 4096, frameBytesMax - 1, frameBytesMax, frameBytesMax + 1, 9_000_001]
  const contents = sizes.map((size) => randomBytes(size))
  for (const [i, content] of contents.entries()) folder.file(`f${i}`, content)
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  for (const [i, content] of contents.entries()) {
    assert.ok(contentOf(packed, entries[`f${i}`]!).equals(content), `a file of ${content.length} bytes`)
    assert.equal(entries[`f${i}`]!.changedWhileRead, false)
  }
  assert.equal(packed.counts.files, sizes.length)
  assert.equal(
    packed.counts.contentBytes,
    sizes.reduce((sum, size) => sum + size),
  )
  assert.deepEqual(packed.warnings, [])
})

test('modes, with setuid, setgid and sticky, are packed as they are', () => {
  using folder = new PackingFolder()
  const modes = [0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o7777]
  for (const mode of modes) {
    folder.file(`f${mode.toString(8)}`)
    folder.folder(`d${mode.toString(8)}`)
    for (const kind of ['f', 'd']) chmodSync(folder.at(`${kind}${mode.toString(8)}`), mode)
  }
  const packed = packInPlace([folder.root()])
  const entries = entriesIn(folder, packed)
  for (const mode of modes.filter((mode) => isRoot || (mode & 0o400) !== 0)) {
    for (const kind of ['f', 'd']) assert.equal(entries[`${kind}${mode.toString(8)}`]!.mode, mode)
  }
  requireSound(packed, folder)
})

test('owners of any number are packed, with their names where they have some', (t) => {
  if (!isRoot) return t.skip('only root can give files away')
  using folder = new PackingFolder()
  const owners = [
    [0, 0],
    [65_534, 65_534],
    [2_097_151, 2_097_152],
    [3_000_000, 4_294_967_294],
  ] as const
  for (const [uid, gid] of owners) {
    folder.file(`${uid}`)
    symlinkSync('x', folder.at(`${uid}-link`))
    chownSync(folder.at(`${uid}`), uid, gid)
    lchownSync(folder.at(`${uid}-link`), gid, uid)
  }
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  for (const [uid, gid] of owners) {
    assert.deepEqual([entries[uid]!.uid, entries[uid]!.gid], [uid, gid])
    assert.deepEqual([entries[`${uid}-link`]!.uid, entries[`${uid}-link`]!.gid], [gid, uid])
  }
  assert.deepEqual([entries[0]!.user, entries[0]!.group], ['root', 'root'])
  assert.equal(entries[3_000_000]!.user, '')
})

test('times before 1970 and after 2038 are packed to the nanosecond, also of links and folders', () => {
  using folder = new PackingFolder()
  const times = [
    '1901-12-14 00:00:00.000000001',
    '1969-12-31 23:59:59.999999999',
    '1970-01-01 00:00:00',
    '2001-09-09 01:46:39.5',
    '2038-01-19 03:14:08.123456789',
    '2261-01-01 00:00:00.987654321',
  ]
  for (const [i, time] of times.entries()) {
    folder.file(`file${i}`)
    folder.folder(`folder${i}`)
    folder.symlink(`link${i}`, 'target')
    for (const kind of ['file', 'folder', 'link']) {
      runProgram('touch', ['-h', '-d', `${time} UTC`, join(folder.path, `${kind}${i}`)])
    }
  }
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = Object.entries(entriesIn(folder, packed))
  assert.equal(entries.length, 3 * times.length)
  for (const [name, entry] of entries) assert.equal(mtimeOfEntry(entry), mtimeOf(folder.at(name)), name)
  const first = entriesIn(folder, packed).file0!
  assert.deepEqual([first.mtimeSeconds, first.mtimeNanoseconds], [Date.UTC(1901, 11, 14) / 1000, 1])
})

test('names with newlines, quotes, dashes and bytes that are no UTF-8, of 255 bytes, and long targets are packed', () => {
  using folder = new PackingFolder()
  const names = ['-rf', '--checkpoint=1', '"', "'", '\n', 'a\nb', ' ', '*', '\\', '\x01', '\udc80\udcff', 'é']
  names.push('n'.repeat(255), '\udce9'.repeat(255), `${'d'.repeat(255)}/${'\udce9'.repeat(254)}`)
  for (const name of names) {
    folder.file(name, name.slice(0, 3))
    folder.symlink(`links/${names.indexOf(name)}`, name)
  }
  folder.symlink('links/long', '\udce9/'.repeat(2047))
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  for (const [i, name] of names.entries()) {
    assert.equal(entries[name]?.type, 'file', JSON.stringify(name))
    assert.equal(entries[`links/${i}`]!.target, bytesFromText(name))
  }
  assert.equal(entries['links/long']!.target?.length, 4094)
})

test('files at paths of more than 4,096 bytes are read and packed', () => {
  using folder = new PackingFolder()
  const names = Array.from({ length: 30 }, (_, i) => `${i}-`.padEnd(200, 'n'))
  {
    using deep = new DeepFolder(folder.at(), names)
    writeFileSync(deep.at('file'), 'deep down')
    symlinkSync('target', deep.at('link'))
  }
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  const file = entries[[...names, 'file'].join('/')]!
  assert.equal(contentOf(packed, file).toString(), 'deep down')
  assert.equal(entries[[...names, 'link'].join('/')]!.target, 'target')
  assert.deepEqual(packed.warnings, [])
})

test('names of one file in several folders are one file and links to it, content once', () => {
  using folder = new PackingFolder()
  folder.file('b/first', 'shared content')
  folder.hardLink('a/z', 'b/first')
  folder.hardLink('c/x', 'b/first')
  folder.file('b/alone', 'shared content')
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  assert.equal(entries['a/z']!.type, 'file')
  for (const name of ['b/first', 'c/x']) {
    assert.equal(entries[name]!.type, 'hardlink')
    assert.equal(entries[name]!.target, folder.pathOf('a/z'))
    assert.deepEqual([entries[name]!.size, entries[name]!.digest, entries[name]!.extents], [0, null, []])
  }
  assert.equal(entries['b/alone']!.type, 'file')
  const { files, hardlinks, contentBytes } = packed.counts
  assert.deepEqual([files, hardlinks, contentBytes], [2, 2, 28])
})

test('hard links of links and of fifos are links to their first names', () => {
  using folder = new PackingFolder()
  folder.symlink('a-link', 'nowhere')
  folder.hardLink('b-link', 'a-link')
  folder.fifo('a-fifo')
  folder.hardLink('b-fifo', 'a-fifo')
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  assert.equal(entries['a-link']!.target, 'nowhere')
  assert.equal(entries['a-fifo']!.type, 'fifo')
  for (const kind of ['link', 'fifo']) {
    assert.equal(entries[`b-${kind}`]!.type, 'hardlink')
    assert.equal(entries[`b-${kind}`]!.target, folder.pathOf(`a-${kind}`))
  }
  assert.deepEqual([packed.counts.symlinks, packed.counts.specials, packed.counts.hardlinks], [1, 1, 2])
})

test('a file whose other names are not selected is packed as a file', () => {
  using folder = new PackingFolder()
  folder.file('inside/file', 'content')
  folder.hardLink('outside/other', 'inside/file')
  const packed = packInPlace([folder.root('inside')])
  requireSound(packed, folder)
  assert.equal(entriesIn(folder, packed)['inside/file']!.type, 'file')
})

test('an inode whose number passes to a new file during the run does not make the new one a link', (t) => {
  using folder = new PackingFolder()
  folder.file('a', 'old content')
  folder.hardLink('outside/a', 'a')
  folder.folder('z')
  const { ino } = lstatSync(folder.at('a'))
  let reused = false
  const packed = packInPlace([folder.root()], {
    onApproach(path) {
      if (path !== folder.pathOf('z')) return
      rmSync(folder.at('a'))
      rmSync(folder.at('outside/a'))
      for (let i = 0; i < 50 && !reused; i++) {
        folder.file(`z/new${i}`, 'new content')
        folder.hardLink(`z/too${i}`, `z/new${i}`)
        reused = lstatSync(folder.at(`z/new${i}`)).ino === ino
      }
    },
  })
  requireSound(packed, folder)
  if (!reused) return t.skip('this file system did not reuse the number of the inode')
  const entries = Object.entries(entriesIn(folder, packed)).filter(([name]) => name.startsWith('z/new'))
  for (const [, entry] of entries) {
    assert.equal(entry.type, 'file')
    assert.equal(contentOf(packed, entry).toString(), 'new content')
  }
})

test('fifos are packed without being opened', () => {
  using folder = new PackingFolder()
  folder.fifo('fifo')
  folder.file('file')
  using watch = new OpenWatch(folder.path)
  const packed = packInPlace([folder.root()])
  const opened = watch.names()
  assert.ok(opened.includes('file'))
  assert.ok(!opened.includes('fifo'))
  requireSound(packed, folder)
  assert.equal(entriesIn(folder, packed).fifo!.type, 'fifo')
  assert.deepEqual([packed.counts.specials, packed.counts.files], [1, 1])
})

test('devices are packed as what they are, and not opened', (t) => {
  if (!isRoot) return t.skip('only root can make devices')
  using folder = new PackingFolder()
  try {
    runProgram('mknod', [join(folder.path, 'null'), 'c', '1', '3'])
    runProgram('mknod', [join(folder.path, 'disk'), 'b', '259', '1048575'])
    runProgram('mknod', [join(folder.path, 'many'), 'c', '4095', '0'])
  } catch (error) {
    return t.skip(`this machine lets nobody make devices: ${(error as Error).message}`)
  }
  using watch = new OpenWatch(folder.path)
  const packed = packInPlace([folder.root()])
  assert.deepEqual(watch.names().filter(Boolean), [])
  requireSound(packed, folder)
  const { null: zero, disk, many } = entriesIn(folder, packed)
  assert.deepEqual([zero!.type, zero!.device], ['character-device', { major: 1, minor: 3 }])
  assert.deepEqual([disk!.type, disk!.device], ['block-device', { major: 259, minor: 1_048_575 }])
  assert.deepEqual([many!.type, many!.device], ['character-device', { major: 4095, minor: 0 }])
  assert.equal(packed.counts.specials, 3)
})

test('sockets stand in the index and are counted, and the tar has nothing of them', async () => {
  using folder = new PackingFolder()
  const server = createServer().listen(join(folder.path, 'socket'))
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    folder.file('file', 'content')
    const packed = packInPlace([folder.root()])
    requireSound(packed, folder)
    const { socket } = entriesIn(folder, packed)
    assert.equal(socket!.type, 'socket')
    assert.ok(!packed.tar.includes(socket!.path))
    assert.deepEqual([packed.counts.sockets, packed.counts.specials], [1, 0])
  } finally {
    server.close()
  }
})

test('what this user may not read is reported and left out, and all else is packed', () => {
  using folder = new PackingFolder()
  chmodSync(folder.path, 0o755)
  folder.file('open', 'mine')
  folder.file('secret', 'not mine')
  folder.file('closed/inside', 'not mine either')
  for (const name of ['secret', 'closed']) chmodSync(folder.at(name), 0)
  const packed = withoutRights(() => packInPlace([folder.root()]))
  requireSound(packed, folder)
  assert.deepEqual(Object.keys(entriesIn(folder, packed)), ['closed', 'open'])
  assert.deepEqual(warningsIn(folder, packed), ['unreadable closed', 'unreadable secret'])
  assert.match(packed.warnings[1]!.message, /cannot open the file: EACCES/)
  assert.equal(packed.counts.unreadable, 2)
})

test('files of others that may be read are read, though their access times cannot be left alone', (t) => {
  if (!isRoot) return t.skip('needs a file of somebody else')
  using folder = new PackingFolder()
  chmodSync(folder.path, 0o755)
  folder.file('of-root', 'content')
  const packed = withoutRights(() => packInPlace([folder.root()]))
  assert.equal(contentOf(packed, entriesIn(folder, packed)['of-root']!).toString(), 'content')
  assert.deepEqual(packed.warnings, [])
})

test('reading leaves the access times as they were', () => {
  using folder = new PackingFolder()
  folder.file('folder/file', 'content')
  const old = '2001-01-01 00:00:00.123456789 UTC'
  for (const name of ['folder/file', 'folder'])
    runProgram('touch', ['-a', '-d', old, join(folder.path, name)])
  const before = ['folder/file', 'folder'].map((name) => lstatSync(folder.at(name), { bigint: true }).atimeNs)
  packInPlace([folder.root()])
  const after = ['folder/file', 'folder'].map((name) => lstatSync(folder.at(name), { bigint: true }).atimeNs)
  assert.deepEqual(after, before)
})

test('a listing has every entry that packing has, and reads no content', () => {
  using folder = new PackingFolder()
  folder.file('a/file', 'content')
  folder.hardLink('b/link', 'a/file')
  folder.symlink('b/symlink', 'x')
  folder.fifo('b/fifo')
  folder.file('cache/x')
  const exclude = ['cache']
  const packed = packInPlace([folder.root()], { exclude })
  using watch = new OpenWatch(join(folder.path, 'a'))
  const listed = packInPlace([folder.root()], { exclude, listOnly: true })
  assert.deepEqual(
    watch.names().filter((name) => name === 'file'),
    [],
  )
  assert.equal(listed.tar.length, 0)
  const summary = (entries: readonly Entry[]) =>
    entries.map(({ path, type, size, target, ancestor }) => ({ path, type, size, target, ancestor }))
  assert.deepEqual(summary(listed.entries), summary(packed.entries))
  assert.deepEqual(listed.counts, packed.counts)
  assert.deepEqual(warningsIn(folder, listed), ['excluded cache'])
  assert.deepEqual(packed.warnings, [])
})

test('ancestors are packed with their attributes, and marked', () => {
  using folder = new PackingFolder()
  folder.file('a/b/c', 'content')
  chmodSync(folder.at('a'), 0o2751)
  const packed = packInPlace([folder.root('a/b/c')])
  requireSound(packed, folder)
  const entries = entriesIn(folder, packed)
  assert.deepEqual([entries.a!.mode, entries.a!.ancestor], [0o2751, true])
  assert.deepEqual([entries['a/b']!.ancestor, entries['a/b/c']!.ancestor], [true, false])
  assert.equal(packed.counts.files, 1)
})

test('digests are those of the content', () => {
  using folder = new PackingFolder()
  folder.file('empty')
  folder.file('small', 'small')
  const large = randomBytes(3 * frameBytesMax)
  folder.file('large', large)
  const entries = entriesIn(folder, packInPlace([folder.root()]))
  for (const [name, content] of Object.entries({ empty: '', small: 'small', large })) {
    assert.deepEqual(Buffer.from(entries[name]!.digest!), createHash('sha256').update(content).digest(), name)
  }
})
