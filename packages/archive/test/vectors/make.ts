/**
 * Makes the pinned archives of this folder, and what a reader must find in each:
 *
 *   node packages/archive/test/vectors/make.ts
 *
 * Only for a new version of the format, under new names: readers must go on reading every vector that there is.
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import {
  ArchiveReader,
  comparePaths,
  type Entry,
  type Gone,
  type IndexBatch,
  inodeFlags,
  textFromBytes,
} from '../../src/index.ts'
import {
  all,
  type BuildOptions,
  buildArchive,
  bytes,
  end,
  file,
  header,
  incremental,
  type Member,
  other,
  sparseFile,
} from '../sample.ts'

export interface Vector {
  name: string
  members(): Member[]
  options: BuildOptions
}

/** The archive that docs/archive-format.md takes to pieces, byte by byte. */
const example: Vector = {
  name: 'example-1',
  members: () => [file('etc/motd', 'hello\n', { mtimeNanoseconds: 500_000_000, ctimeNanoseconds: 0 })],
  options: {
    header: { ...header, paths: ['/etc/motd'], exclude: [] },
    end: {
      ...end,
      counts: {
        files: 1,
        directories: 0,
        symlinks: 0,
        hardlinks: 0,
        specials: 0,
        sockets: 0,
        unchanged: 0,
        gone: 0,
        excluded: 0,
        changed: 0,
        vanished: 0,
        unreadable: 0,
        attributes: 0,
        contentBytes: 6,
      },
    },
  },
}

/** An incremental archive with data frames of 2 KiB and index frames of three entries, so that there are several of both. */
const everyKind: Vector = {
  name: 'every-kind-1',
  members: everyKindOfMember,
  options: { header: incremental, gone: everyKindOfGone(), frameBytes: 2048, batchEntries: 3 },
}

/** What is left where nothing has changed. */
const unchanged: Vector = {
  name: 'unchanged-1',
  members: () => [],
  options: { header: incremental },
}

/** One that has taken over two others: what they removed, it has again in part, and one path is gone for two reasons. */
const merged: Vector = {
  name: 'merged-1',
  members: () => [
    other('etc', 'directory', { mode: 0o755 }),
    other('etc/again', 'directory', { mode: 0o700 }),
    file('etc/again/new', 'new'),
  ],
  options: {
    header: {
      ...incremental,
      repack: {
        kept: ['2026-11-21T030000Z-full.tar.zst', '2026-11-22T030000Z-incremental.tar.zst'],
        absorbed: ['2026-11-21T040000Z-incremental.tar.zst', '2026-11-21T050000Z-incremental.tar.zst'],
      },
    },
    gone: [
      { path: bytes('etc/again'), reason: 'deleted' },
      { path: bytes('home'), reason: 'unselected' },
      { path: bytes('home/old'), reason: 'deleted' },
    ],
  },
}

export const vectors: readonly Vector[] = [example, everyKind, unchanged, merged]

export function archivePath({ name }: Vector): string {
  return `${import.meta.dirname}/${name}.tar.zst`
}

export function expectedPath({ name }: Vector): string {
  return `${import.meta.dirname}/${name}.json`
}

/** One of each kind, in path order, with values at the edges of the format. */
export function everyKindOfMember(): Member[] {
  return [
    other('dev', 'directory', { mode: 0o755, ancestor: true }),
    other('dev/null', 'character-device', {
      mode: 0o666,
      device: { major: 1, minor: 3 },
      mtimeNanoseconds: 0,
    }),
    other('dev/sda', 'block-device', { device: { major: 2 ** 21, minor: 5 } }),
    other('etc', 'directory', { mode: 0o755 }),
    file('etc/empty'),
    file('etc/hosts', '127.0.0.1 localhost\n', { nlink: 2 }),
    file('etc/text', 'all work and no play makes a dull boy\n'.repeat(200)),
    other('home/hosts', 'hardlink', { target: bytes('etc/hosts'), nlink: 2 }),
    file('home/caf\udce9', 'not UTF-8', { user: bytes('andr\udce9'), group: bytes('g'.repeat(40)) }),
    file('home/café', 'UTF-8', { mode: 0o6755, uid: 3_000_000, gid: 4_294_967_294 }),
    file(`home/${'n'.repeat(120)}`, 'a long name', { ino: 2n ** 64n - 1n, dev: 2 ** 53 - 1 }),
    file(`home/${'p'.repeat(120)}/name`, 'a path that is cut in two'),
    other('home/link', 'symlink', { mode: 0o777, target: bytes('../t\udce9'.repeat(30)) }),
    file('home/old', '', {
      size: 300,
      digest: createHash('sha256').update('old content').digest(),
      extents: [
        { archive: '2026-11-14T030000Z-full.tar.zst', offset: 2 ** 40, length: 100 },
        { archive: '2026-11-15T030000Z-incremental.tar.zst', offset: 512, length: 200 },
      ],
    }),
    sparseFile('home/sparse', 2 ** 33 + 4096, [
      [4096, 'begins at 4096'.padEnd(512)],
      [2 ** 33, 'begins at 8 GiB'.padEnd(1024)],
    ]),
    sparseFile('home/sparse-hole', 2 ** 40, []),
    sparseFile(`home/sparse-${'n'.repeat(100)}`, 5000, [[4096, 'to its end'.padEnd(904)]]),
    file('home/times', 't', {
      mtimeSeconds: -2,
      mtimeNanoseconds: 500_000_000,
      ctimeSeconds: -1,
      ctimeNanoseconds: 1,
    }),
    file('home/torn', 'half\0\0\0\0', {
      changedWhileRead: true,
      mtimeSeconds: 9_000_000_000,
      mtimeNanoseconds: 1,
    }),
    file('home/xattrs', 'x', {
      xattrs: new Map([
        ['user.a=b%', Buffer.from([0, 255, 10])],
        ['user.empty', Buffer.alloc(0)],
        ['user.b\nc\xe9', Buffer.from('d')],
        [
          'system.posix_acl_access',
          Buffer.from(
            '0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000400ffffffff',
            'hex',
          ),
        ],
      ]),
      flags: inodeFlags.immutable | inodeFlags.nodump | inodeFlags.casefold,
      project: 4_294_967_295,
    }),
    other('run/fifo', 'fifo', { mode: 0o600 }),
    other('run/socket', 'socket'),
  ].sort((a, b) => comparePaths(a.entry.path, b.entry.path))
}

/** For both reasons; before, between and after the members; and below what is no folder any more. */
export function everyKindOfGone(): Gone[] {
  return [
    { path: bytes('bin'), reason: 'unselected' },
    { path: bytes('etc/empty/folder'), reason: 'deleted' },
    { path: bytes(`home/${'g'.repeat(300)}`), reason: 'unselected' },
    { path: bytes('home/g\udce9'), reason: 'deleted' },
    { path: bytes('var/log/old'), reason: 'deleted' },
  ]
}

/** A batch as JSON has it: bytes of names as text, other bytes in hex, numbers beyond 53 bits as text. */
export function readable({ header, entries, gone, end }: IndexBatch): unknown {
  const readableGone = gone.map(({ path, reason }) => ({ path: textFromBytes(path), reason }))
  return JSON.parse(JSON.stringify({ header, entries: entries.map(readableEntry), gone: readableGone, end }))
}

function readableEntry(entry: Entry): unknown {
  const hex = (value: Uint8Array) => Buffer.from(value).toString('hex')
  const exact = (value: number | bigint) => (typeof value === 'bigint' ? String(value) : value)
  return {
    ...entry,
    path: textFromBytes(entry.path),
    user: textFromBytes(entry.user),
    group: textFromBytes(entry.group),
    target: entry.target && textFromBytes(entry.target),
    ino: exact(entry.ino),
    dev: exact(entry.dev),
    digest: entry.digest && hex(entry.digest),
    xattrs: entry.xattrs && Object.fromEntries([...entry.xattrs].map(([name, value]) => [name, hex(value)])),
  }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** What there is to say of an archive; two archives of which it is the same are the same to every reader. */
export async function describe(path: string): Promise<unknown> {
  await using reader = await ArchiveReader.open(path)
  const batches = await all(reader.batches())
  const tar = Buffer.concat(await all(reader.readTar(0, reader.tarBytes)))
  return { tarBytes: tar.length, tarSha256: sha256(tar), batches: batches.map(readable) }
}

if (import.meta.main) {
  for (const vector of vectors) {
    writeFileSync(archivePath(vector), buildArchive(vector.members(), vector.options))
    writeFileSync(expectedPath(vector), `${JSON.stringify(await describe(archivePath(vector)), null, 2)}\n`)
  }
}
