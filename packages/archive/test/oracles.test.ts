import assert from 'node:assert/strict'
import {
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { comparePaths, type Entry, encodeEntryHeader, endOfArchive } from '../src/index.ts'
import * as arbitrary from './arbitraries.ts'
import {
  type Listed,
  listSizesWithBsdtar,
  listWithBsdtar,
  listWithGnuTar,
  listWithPython,
  listWithTarStream,
  run,
  skippedWithout,
} from './oracles.ts'
import { buildTar, bytes, entry, file, type Member, other, sparseFile } from './sample.ts'

const directory = mkdtempSync(join(tmpdir(), 'archive-oracles-'))
after(() => rmSync(directory, { recursive: true, force: true }))

/** Everything that needs more than a plain ustar header. */
const members: Member[] = [
  other('a', 'directory', { mode: 0o1777 }),
  file('a/ids', 'ids', { uid: 3_000_000, gid: 4_294_967_294, mode: 0o6755 }),
  file('a/owners', '', { user: bytes('ü'.repeat(15)), group: bytes('g'.repeat(200)) }),
  file('a/owners-long', '', { user: bytes('ü'.repeat(30)), group: bytes('\udcff'.repeat(99)) }),
  file('a/bytes \udce9\udcff\n"\\', 'raw'),
  file(`a/${'\udce9'.repeat(120)}`, 'long and raw'),
  file(`a/${'é'.repeat(120)}`, 'long and UTF-8'),
  file(`${'p'.repeat(90)}/${'\udce9'.repeat(60)}/${'n'.repeat(90)}`, 'prefix and name'),
  file(`deep/${'component/'.repeat(600)}end`, 'deep'),
  other(`d/${'directory'.repeat(12)}`, 'directory'),
  other('l/short', 'symlink', { target: bytes('to \udce9'), mode: 0o777 }),
  other('l/long', 'symlink', { target: bytes('\udce9'.repeat(4096)), mode: 0o777 }),
  other('l/both'.repeat(30), 'symlink', { target: bytes('é'.repeat(200)), mode: 0o777 }),
  other('l/hard', 'hardlink', { target: bytes('a/ids') }),
  other('l/hard-long', 'hardlink', { target: bytes(`a/${'\udce9'.repeat(120)}`) }),
  sparseFile('p/sparse', 2 ** 36 + 1, [
    [512, 'begins at 512'.padEnd(512)],
    [2 ** 36 - 512, 'to its end'.padEnd(513)],
  ]),
  sparseFile('p/hole', 2 ** 33, []),
  sparseFile(`p/${'n'.repeat(101)}`, 2 ** 20, [[0, 'a name without room'.padEnd(4096)]]),
  sparseFile(`p/${'é'.repeat(90)}`, 2 ** 20, [[0, 'begins at 0'.padEnd(4096)]]),
  other('s/fifo', 'fifo'),
  other('s/null', 'character-device', { device: { major: 1, minor: 3 } }),
  other('s/odd', 'block-device', { device: { major: 2 ** 21, minor: 2 ** 31 - 1 } }),
  file('t/2255', '', { mtimeSeconds: 9_000_000_000, mtimeNanoseconds: 1 }),
  file('t/1900', '', { mtimeSeconds: -2_208_988_800, mtimeNanoseconds: 0 }),
  file('t/whole', '', { mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 0 }),
  file('t/zero', '', { mtimeSeconds: 0, mtimeNanoseconds: 0 }),
  file('x', 'x', {
    xattrs: new Map([
      ['user.binary', Buffer.from([0, 255, 10, 61])],
      ['user.a=b%c', Buffer.from('v')],
    ]),
  }),
].sort((a, b) => comparePaths(a.entry.path, b.entry.path))

const readers: { name: string; program?: string; list(path: string): Listed[] | Promise<Listed[]> }[] = [
  { name: 'GNU tar', program: 'tar', list: listWithGnuTar },
  { name: 'bsdtar', program: 'bsdtar', list: listWithBsdtar },
  { name: 'Python', program: 'python3', list: listWithPython },
  { name: 'tar-stream', list: listWithTarStream },
]

for (const { name, program, list } of readers) {
  test(`${name} lists every kind of entry as it was, without a word`, async (t) => {
    if (program !== undefined && skippedWithout(t, program)) return
    const path = join(directory, `${name}.tar`)
    writeFileSync(path, buildTar(members))
    compare(
      name,
      await list(path),
      members.map(({ entry }) => entry),
    )
  })

  test(`${name} lists entries of random names and attributes as they were`, async (t) => {
    if (program !== undefined && skippedWithout(t, program)) return
    const path = join(directory, `${name}-random.tar`)
    const entries = fc
      .array(arbitrary.entry, { minLength: 150, maxLength: 150 })
      .map((all) => all.map(listable))
    await fc.assert(
      fc.asyncProperty(entries, async (entries) => {
        writeFileSync(
          path,
          Buffer.concat([...entries.map((entry) => Buffer.from(encodeEntryHeader(entry))), endOfArchive]),
        )
        compare(name, await list(path), entries)
      }),
      { numRuns: 3, endOnFailure: true },
    )
  })

  // It would read through all of them.
  if (name === 'tar-stream') continue
  test(`${name} finds the entry behind a file of 9 GiB`, async (t) => {
    if (program !== undefined && skippedWithout(t, program)) return
    const path = join(directory, `${name}-9GiB.tar`)
    const big = entry('big', { size: 9 * 2 ** 30 })
    const small = entry('small')
    const fd = openSync(path, 'w')
    const header = encodeEntryHeader(big)
    writeSync(fd, header)
    writeSync(fd, Buffer.concat([encodeEntryHeader(small), endOfArchive]), 0, null, header.length + big.size)
    const listed = await (program === 'bsdtar' ? listSizesWithBsdtar : list)(path)
    assert.deepEqual(
      listed.map(({ path, size }) => ({ path, size })),
      [big, small].map(({ path, size }) => ({ path, size })),
    )
  })
}

/** A random entry that stands alone: no content, a name of its own, and a time that all readers can print. */
function listable(random: Entry, number: number): Entry {
  const type = random.type === 'socket' ? 'fifo' : random.type
  const mtimeSeconds = Math.abs(random.mtimeSeconds) % 2 ** 33
  const path = bytes(`${String(number).padStart(3, '0')}-`) + random.path.replaceAll('/', '_')
  return {
    ...random,
    type,
    path: path as Entry['path'],
    size: 0,
    storedSize: null,
    mtimeSeconds,
    target: random.target,
  }
}

function compare(reader: string, listed: readonly Listed[], entries: readonly Entry[]): void {
  const byPath = (a: { path: string }, b: { path: string }) =>
    a.path < b.path ? -1 : a.path > b.path ? 1 : 0
  const expected = entries.map((entry) => expectedOf(reader, entry)).sort(byPath)
  const found = [...listed].sort(byPath)
  assert.equal(found.length, expected.length)
  for (const [i, member] of found.entries()) assert.deepEqual(member, expected[i])
}

/** What a reader should list; where one has a weakness that is none of ours, that is named here. */
function expectedOf(reader: string, entry: Entry): Listed {
  const expected: Listed = {
    path: entry.path,
    type: entry.type as Listed['type'],
    size: entry.size,
    uid: entry.uid,
    gid: entry.gid,
    mode: entry.mode,
    mtime: `${entry.mtimeSeconds}.${String(entry.mtimeNanoseconds).padStart(9, '0')}`,
    target: entry.target ?? '',
  }
  if (reader === 'tar-stream' && entry.storedSize !== null) {
    // It knows no sparse files, and finds map and data under a name that says so, where there is room for that.
    expected.size = entry.storedSize
    if (/^[ -~]{1,100}$/.test(entry.path)) expected.path = expected.path.replace('p/', 'p/GNUSparseFile.0/')
  }
  if (reader === 'tar-stream') {
    // Its names are text, and what is no UTF-8 is lost.
    expected.path = Buffer.from(expected.path, 'latin1').toString()
    expected.target = Buffer.from(expected.target, 'latin1').toString()
  }
  if (reader === 'bsdtar' && entry.type === 'hardlink') {
    // Its listing in mtree format has hard links as files.
    expected.type = 'file'
    expected.target = ''
  }
  return expected
}

/** What can be restored by anybody, quietly, and without names longer than Linux takes in one call. */
const restorable = members.filter(({ entry: { path, type, mtimeSeconds, target, storedSize } }) => {
  const quiet = mtimeSeconds > 0 && mtimeSeconds < 2 ** 31 && (target?.length ?? 0) < 4096
  return (
    path.length < 4000 &&
    path.split('/').every((name) => name.length < 256) &&
    quiet &&
    storedSize === null &&
    !type.endsWith('device')
  )
})

for (const [program, args] of [
  ['tar', ['--xattrs', '--xattrs-include=*', '--no-same-owner', '-xpf']],
  ['bsdtar', ['--no-same-owner', '-xpf']],
] as const) {
  test(`${program} restores names, content, modes, times and links bit for bit`, (t) => {
    if (skippedWithout(t, program)) return
    const target = mkdtempSync(join(directory, `${program}-`))
    const tar = join(directory, `${program}-restore.tar`)
    const directories = [...parentsOf(restorable)].map((path) => other(path, 'directory', { mode: 0o755 }))
    const all = [...restorable, ...directories].sort((a, b) => comparePaths(a.entry.path, b.entry.path))
    writeFileSync(tar, buildTar(all))
    run(program, [...args, tar, '-C', target])
    for (const { entry, content } of all) checkRestored(target, entry, content)
    const count = (at: Buffer): number =>
      readdirSync(at, { withFileTypes: true, encoding: 'buffer' }).reduce((sum, found) => {
        return sum + 1 + (found.isDirectory() ? count(Buffer.concat([at, Buffer.from('/'), found.name])) : 0)
      }, 0)
    assert.equal(count(Buffer.from(target)), all.length)
  })
}

function parentsOf(all: readonly Member[]): Set<string> {
  const parents = new Set<string>()
  for (const { entry } of all) {
    const names = Buffer.from(entry.path, 'latin1').toString('latin1').split('/')
    for (let depth = 1; depth < names.length; depth++) parents.add(names.slice(0, depth).join('/'))
  }
  for (const { entry } of all) parents.delete(entry.path)
  return new Set([...parents].map((path) => textOf(path)))
}

function textOf(path: string): string {
  return [...path]
    .map((character) =>
      character > '\x7f' ? String.fromCharCode(0xdc00 + character.charCodeAt(0)) : character,
    )
    .join('')
}

function checkRestored(root: string, entry: Entry, content: Buffer): void {
  const path = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(entry.path, 'latin1')])
  const status = lstatSync(path, { bigint: true })
  const shown = entry.path.slice(0, 60)
  if (entry.type === 'symlink') {
    assert.deepEqual(readlinkSync(path, 'buffer'), Buffer.from(entry.target!, 'latin1'), shown)
    return
  }
  if (entry.type === 'hardlink') {
    const first = lstatSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from(entry.target!, 'latin1')]), {
      bigint: true,
    })
    assert.equal(status.ino, first.ino, shown)
    return
  }
  assert.equal(Number(status.mode & 0o777n), entry.mode & 0o777, shown)
  assert.equal(
    status.mtimeNs,
    BigInt(entry.mtimeSeconds) * 1_000_000_000n + BigInt(entry.mtimeNanoseconds),
    shown,
  )
  if (entry.type === 'file') assert.deepEqual(readFileSync(path), content, shown)
}
