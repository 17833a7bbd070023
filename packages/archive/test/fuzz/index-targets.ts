/** The parsers of indexes, and the tar headers that are made of their entries. */
import fc from 'fast-check'
import { Unpackr } from 'msgpackr'
import { attempt, type FuzzTarget, require, requireEqual } from '../../../../test/fuzz/target.ts'
import {
  ArchiveError,
  type ArchiveHeader,
  comparePaths,
  decodeIndexBatch,
  type Entry,
  encodeEntryHeader,
  encodeIndexBatch,
  type Gone,
  type IndexBatch,
  isSafePath,
  storedBytes,
} from '../../src/index.ts'
import * as arbitrary from '../arbitraries.ts'
import { readTarMember } from '../mini-tar.ts'
import { end } from '../sample.ts'

const archiveName = fc.constantFrom(
  '2026-11-21T030000Z-full.tar.zst',
  '2026-11-22T030000Z-incremental.tar.zst',
)
const pattern = fc.oneof(fc.constantFrom('/etc', '*.tmp', '/srv/caf\udce9'), fc.string({ maxLength: 30 }))
const patterns = fc.array(pattern, { maxLength: 4 }).map((list) => list.map((text) => text.toWellFormed()))

const header: fc.Arbitrary<ArchiveHeader> = fc
  .record({
    host: fc.constantFrom('web1', 'a', 'host-'.repeat(12)),
    base: fc.option(archiveName),
    startedAtMs: fc.maxSafeNat(),
    software: fc.constantFrom('central-backup 0.1.0', 'é'),
    paths: patterns,
    exclude: patterns,
    repack: fc.option(
      fc.record({
        kept: fc.array(archiveName, { maxLength: 3 }),
        absorbed: fc.array(archiveName, { maxLength: 3 }),
      }),
    ),
  })
  .map((fields) => ({ ...fields, kind: fields.base === null ? 'full' : 'incremental' }))

function ascending<T extends { path: Entry['path'] }>(list: readonly T[]): T[] {
  const byPath = new Map(list.map((one) => [one.path as string, one]))
  return [...byPath.values()].sort((a, b) => comparePaths(a.path, b.path))
}

const entries = fc.array(arbitrary.entry, { maxLength: 4 }).map(ascending)
const gone = fc.array(arbitrary.gone, { maxLength: 3 }).map((list) => ascending<Gone>(list))

/** Batches of an index, encoded. */
export const indexBatches: fc.Arbitrary<Uint8Array> = fc
  .record({
    header: fc.option(header),
    entries,
    gone: fc.oneof({ weight: 3, arbitrary: fc.constant<Gone[]>([]) }, { weight: 1, arbitrary: gone }),
    membersEnd: fc.option(fc.nat(2 ** 40)),
    end: fc.oneof(fc.constant(null), fc.constant(end)),
  })
  .map((batch) => encodeIndexBatch(batch))

export const indexTokens = [
  'entries',
  'gone',
  'header',
  'archives',
  'membersEnd',
  'end',
  '\xa1v\x01',
  '\x00',
  '..',
]

/** Throws where a batch that was taken breaks a rule of the format. */
export function checkBatch({ header, entries, gone }: IndexBatch): void {
  for (const [i, entry] of entries.entries()) {
    require(isSafePath(entry.path), 'a safe path')
    require(i === 0 || comparePaths(entries[i - 1]!.path, entry.path) < 0, 'in order')
    require(entry.type !== 'hardlink' || isSafePath(entry.target!), 'a safe target')
    const total = entry.extents.reduce((sum, { length }) => sum + length, 0)
    requireEqual(total, entry.type === 'file' ? storedBytes(entry) : 0, 'extents that add up')
    requireEqual(entry.digest?.length ?? 0, entry.type === 'file' ? 32 : 0, 'a digest')
  }
  for (const [i, { path, reason }] of gone.entries()) {
    require(isSafePath(path), 'a safe path that is gone')
    require(i === 0 || comparePaths(gone[i - 1]!.path, path) < 0, 'what is gone in order')
    require(reason === 'deleted' || reason === 'unselected', 'a reason')
  }
  if (header !== null) require((header.base === null) === (header.kind === 'full'), 'a base')
}

const unpacker = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'bigint' })

const indexBatch: FuzzTarget = {
  name: 'index-batch',
  inputs: indexBatches,
  mutations: 'bytes',
  tokens: indexTokens,
  check(input) {
    for (const [kind, order] of [
      ['listing', 'ascending'],
      ['archive', 'any'],
    ] as const) {
      attempt(ArchiveError, () => decodeIndexBatch(input, kind, order))
    }
    const batch = attempt(ArchiveError, () => decodeIndexBatch(input))
    if (batch === undefined) return false
    checkBatch(batch)
    requireEqual(decodeIndexBatch(encodeIndexBatch(batch)), batch, 'it encodes to itself')
    // Another reader of msgpack sees the same rows.
    const other = unpacker.unpack(input) as { entries: Buffer[][] }
    requireEqual(
      other.entries.map(([path]) => path!.toString('latin1')),
      batch.entries.map(({ path }) => path),
      'msgpackr reads the same paths',
    )
    return true
  },
}

const indexHeader: FuzzTarget = {
  name: 'index-header',
  inputs: header.map((header) => encodeIndexBatch({ header, entries: [], gone: [], end })),
  mutations: 'bytes',
  tokens: [...indexTokens, 'repack', 'kept', 'incremental', 'full', 'exclude'],
  check: indexBatch.check,
}

const typeflags: Partial<Record<Entry['type'], string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
}

/** Throws where an independent reader does not find in a tar header what the entry has. */
export function checkTarHeader(entry: Entry): void {
  const header = Buffer.from(encodeEntryHeader(entry))
  const member = readTarMember(header)
  const { mode, uid, gid } = entry
  const expected = {
    headerBytes: header.length,
    typeflag: typeflags[entry.type],
    name: entry.type === 'directory' ? `${entry.path}/` : entry.path,
    link: entry.target ?? '',
    mode,
    uid,
    gid,
    size: storedBytes(entry),
    realSize: entry.storedSize === null ? null : entry.size,
    mtime: [BigInt(entry.mtimeSeconds), entry.mtimeNanoseconds],
    major: entry.device?.major ?? 0,
    minor: entry.device?.minor ?? 0,
    xattrs: [...(entry.xattrs ?? [])].map(([name, value]) => [name, Buffer.from(value).toString('latin1')]),
  }
  const found = {
    ...Object.fromEntries(Object.keys(expected).map((key) => [key, member[key as keyof typeof member]])),
    xattrs: [...member.xattrs].map(([name, value]) => [name, value.toString('latin1')]),
  }
  requireEqual(found, expected, 'the tar header')
}

/** Headers are made of whatever an index has: so what the index takes must go into tar, and come out of it. */
const tarHeader: FuzzTarget = {
  name: 'tar-header',
  inputs: entries.map((list) => encodeIndexBatch({ header: null, entries: list, gone: [], end: null })),
  mutations: 'bytes',
  tokens: ['%', '=', '%3D', '\n', '/', 'x'.repeat(100), `${'y'.repeat(155)}/`, 'system.posix_acl_access'],
  check(input) {
    const batch = attempt(ArchiveError, () => decodeIndexBatch(input))
    for (const entry of batch?.entries ?? []) if (entry.type !== 'socket') checkTarHeader(entry)
    return batch !== undefined
  },
}

export const indexTargets: readonly FuzzTarget[] = [indexBatch, indexHeader, tarHeader]
