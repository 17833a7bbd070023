import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { Packr } from 'msgpackr'
import {
  ArchiveError,
  type ArchiveHeader,
  type BytePath,
  batchArchivesMax,
  bufferFromBytePath,
  checkEntryLimits,
  comparePaths,
  decodeIndexBatch,
  type Entry,
  encodeIndexBatch,
  type Gone,
  type IndexBatch,
  IndexBatchEncoder,
  type IndexKind,
  IndexSequence,
  indexBatchBytesMax,
  pathBytesMax,
} from '../src/index.ts'
import { entriesOfBatch } from '../src/index-batch.ts'
import * as arbitrary from './arbitraries.ts'
import { unpack } from './oracles.ts'
import { bytes, end, entry, file, header, incremental, other } from './sample.ts'

const entries = fc.array(arbitrary.entry, { maxLength: 20 }).map(ascending)
const gone = fc.array(arbitrary.gone, { maxLength: 20 }).map(ascending)

function ascending<T extends { path: BytePath }>(all: T[]): T[] {
  const sorted = all.sort((a, b) => comparePaths(a.path, b.path))
  return sorted.filter(({ path }, i) => i === 0 || path !== sorted[i - 1]!.path)
}

const archiveNames = fc.array(
  fc.constantFrom('2026-11-21T030000Z-full.tar.zst', '2026-11-22T030000Z-incremental.tar.zst'),
  {
    maxLength: 3,
  },
)
const repacked = fc
  .record({ kept: archiveNames, absorbed: archiveNames })
  .map(({ kept, absorbed }) => ({ ...incremental, repack: { kept, absorbed } }))
const headers = fc.option(fc.oneof(fc.constantFrom(header, incremental), repacked))

/** Entries with all bytes as plain arrays, so that views and copies compare equal. */
function plain(batch: IndexBatch): unknown {
  const entries = batch.entries.map((entry) => ({
    ...entry,
    digest: entry.digest && [...entry.digest],
    xattrs: entry.xattrs && [...entry.xattrs].map(([name, value]) => [name, [...value]]),
  }))
  return { ...batch, entries }
}

function code(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    assert.ok(error instanceof ArchiveError, String(error))
    return error.code
  }
  return 'none'
}

function decodeOne(entry: Entry, kind?: IndexKind): string {
  return code(() =>
    decodeIndexBatch(encodeIndexBatch({ header: null, entries: [entry], gone: [], end: null }), kind),
  )
}

test('every batch reads back as it was', () => {
  fc.assert(
    fc.property(headers, entries, gone, fc.option(fc.constant(end)), (header, entries, gone, end) => {
      const membersEnd = entries.length === 0 ? null : entries.length * 512
      const batch = { header, entries, gone, membersEnd, end }
      assert.deepEqual(plain(decodeIndexBatch(encodeIndexBatch(batch))), plain(batch))
    }),
    { numRuns: 300 },
  )
})

test('a batch is the msgpack that the format describes', () => {
  const archive = '2026-11-20T030000Z-full.tar.zst'
  const { entry: hosts } = file('etc/hosts', 'x', { uid: 4_000_000_000, ino: 2n ** 60n, mtimeSeconds: -5 })
  hosts.extents = [
    { archive, offset: 2 ** 40, length: 1 },
    { archive: null, offset: 512, length: 2 },
  ]
  hosts.size = 3
  hosts.xattrs = new Map([['user.a', Buffer.from([1])]])
  hosts.flags = 0x10
  hosts.project = 77
  hosts.ancestor = true
  const disk = other('dev/sda', 'block-device', {
    device: { major: 8, minor: 0 },
    changedWhileRead: true,
  }).entry
  const gone: Gone[] = [
    { path: bytes('etc/old'), reason: 'deleted' },
    { path: bytes('srv'), reason: 'unselected' },
  ]
  const encoded = encodeIndexBatch({ header: incremental, entries: [disk, hosts], gone, end })
  const batch = unpack(encoded) as Record<string, unknown>
  assert.deepEqual(Object.keys(batch), ['v', 'header', 'archives', 'entries', 'gone', 'end'])
  assert.deepEqual(Object.entries(batch.header as object), [
    ['host', 'web1'],
    ['kind', 'incremental'],
    ['base', '2026-11-21T030000Z-full.tar.zst'],
    ['startedAtMs', incremental.startedAtMs],
    ['software', 'central-backup 0.1.0'],
    ['paths', header.paths.map(asBuffer)],
    ['exclude', header.exclude.map(asBuffer)],
  ])
  assert.deepEqual(batch.gone, [
    [asBuffer('etc/old'), 0],
    [asBuffer('srv'), 1],
  ])
  assert.deepEqual(batch.archives, [archive])
  assert.deepEqual(batch.end, { ...end, counts: { ...end.counts }, broken: 0 })
  const root = asBuffer('root')
  assert.deepEqual(batch.entries, [
    [
      asBuffer('dev/sda'),
      7,
      0o644,
      0,
      0,
      root,
      root,
      0,
      1_700_000_000,
      123_456_789,
      1_700_000_001,
      987_654_321,
    ]
      .concat([4711, 2049, 1])
      .concat([null, [8, 0], null, null, 0, null, [], 1] as never[]),
    [
      asBuffer('etc/hosts'),
      0,
      0o644,
      4_000_000_000,
      0,
      root,
      root,
      3,
      -5,
      123_456_789,
      1_700_000_001,
      987_654_321,
    ]
      .concat([2n ** 60n, 2049, 1] as never[])
      .concat([
        null,
        null,
        [[asBuffer('user.a'), Buffer.from([1])]],
        0x10,
        77,
        hosts.digest,
        [
          [1, 2 ** 40, 1],
          [0, 512, 2],
        ],
        2,
      ] as never[]),
  ])
})

function asBuffer(text: string): Buffer {
  return bufferFromBytePath(bytes(text))
}

test('entries that break a rule of their type are refused', () => {
  const regular = () => file('f', 'abc', { extents: [{ archive: null, offset: 512, length: 3 }] }).entry
  const digest = new Uint8Array(32)
  const device = { major: 1, minor: 3 }
  assert.equal(decodeOne(regular()), 'none')
  const wrong: Record<string, Entry> = {
    'an unsafe path': { ...regular(), path: '../f' as BytePath },
    'an absolute path': { ...regular(), path: '/f' as BytePath },
    'a mode with a type in it': { ...regular(), mode: 0o100644 },
    'an owner of more than 32 bits': { ...regular(), uid: 2 ** 32 },
    'a NUL in the name of a group': { ...regular(), group: 'a\0b' as BytePath },
    'a second of nanoseconds': { ...regular(), mtimeNanoseconds: 1_000_000_000 },
    'a file without a digest': { ...regular(), digest: null },
    'a digest of 31 bytes': { ...regular(), digest: digest.subarray(1) },
    'too few extents': { ...regular(), size: 4 },
    'too many extents': { ...regular(), size: 2 },
    'a file with a target': { ...regular(), target: bytes('t') },
    'a file with a device number': { ...regular(), device },
    'a directory with a size': { ...other('d', 'directory').entry, size: 1 },
    'a directory with extents': { ...other('d', 'directory').entry, extents: regular().extents },
    'a directory with a digest': { ...other('d', 'directory').entry, digest },
    'a symbolic link without a target': other('l', 'symlink').entry,
    'a symbolic link with an empty target': { ...other('l', 'symlink').entry, target: bytes('') },
    'a symbolic link with a NUL in it': { ...other('l', 'symlink').entry, target: 'a\0b' as BytePath },
    'a hard link without a target': other('l', 'hardlink').entry,
    'a hard link to outside': { ...other('l', 'hardlink').entry, target: bytes('../etc/passwd') },
    'a hard link to itself': { ...other('l', 'hardlink').entry, target: bytes('l') },
    'a hard link to what comes later': { ...other('l', 'hardlink').entry, target: bytes('m') },
    'a device without a number': other('b', 'block-device').entry,
    'a device number of more than 31 bits': {
      ...other('b', 'block-device').entry,
      device: { major: 2 ** 31, minor: 0 },
    },
    'an attribute without a name': { ...regular(), xattrs: new Map([['', digest]]) },
    'an attribute with a NUL in its name': { ...regular(), xattrs: new Map([['a\0', digest]]) },
  }
  for (const [what, entry] of Object.entries(wrong)) assert.equal(decodeOne(entry), 'index-invalid', what)
})

test('extents are in order, apart from each other, and within the largest archive', () => {
  const withExtents = (...extents: [string | null, number, number][]) => {
    const size = extents.reduce((sum, [, , length]) => sum + length, 0)
    const list = extents.map(([archive, offset, length]) => ({ archive, offset, length }))
    return decodeOne({ ...file('f').entry, size, extents: list })
  }
  assert.equal(withExtents([null, 0, 10], [null, 10, 10]), 'none')
  assert.equal(
    withExtents([null, 100, 10], ['other.tar.zst', 0, 10], [null, 110, 1], ['other.tar.zst', 10, 1]),
    'none',
  )
  assert.equal(withExtents([null, 0, 10], [null, 9, 10]), 'index-invalid', 'overlap')
  assert.equal(
    withExtents([null, 100, 10], ['other.tar.zst', 0, 10], [null, 50, 10]),
    'index-invalid',
    'order',
  )
  assert.equal(withExtents([null, 5, 0]), 'index-invalid', 'empty')
  assert.equal(withExtents([null, 2 ** 45 - 1, 1]), 'none')
  assert.equal(withExtents([null, 2 ** 45 - 1, 2]), 'index-invalid', 'too far')
})

test('what is stored of a sparse file is less than its size, and at least a map', () => {
  const sparse = (fields: Partial<Entry>, kind: 'archive' | 'listing' = 'archive') => {
    const length = fields.storedSize ?? 1024
    const extents = [{ archive: null, offset: 512, length }]
    return decodeOne({ ...file('f').entry, size: 2 ** 50, storedSize: 1024, extents, ...fields }, kind)
  }
  assert.equal(sparse({}), 'none')
  assert.equal(sparse({ size: 2 ** 53 - 1, storedSize: 512 }), 'none')
  assert.equal(sparse({ storedSize: 511 }), 'index-invalid', 'no room for a map')
  assert.equal(sparse({ size: 1024 }), 'index-invalid', 'as much as its size')
  assert.equal(sparse({ size: 1023 }), 'index-invalid', 'more than its size')
  assert.equal(sparse({ extents: [] }), 'index-invalid', 'nothing stored')
  assert.equal(sparse({ digest: null }), 'index-invalid', 'no digest')
  assert.equal(sparse({}, 'listing'), 'index-invalid', 'content in a listing')
  assert.equal(sparse({ type: 'fifo', size: 0, digest: null, extents: [] }), 'index-invalid', 'no file')
  const tooLarge = { ...file('f').entry, size: 2 ** 53 }
  assert.throws(() => checkEntryLimits(tooLarge), /its size is 9007199254740992/)
  assert.throws(() => checkEntryLimits({ ...tooLarge, size: 2 ** 50 }), /what is stored of its content/)
  checkEntryLimits({ ...tooLarge, size: 2 ** 50, storedSize: 2 ** 45 })
})

test('a listing has sizes but no content, and an archive has both', () => {
  const listed = { ...file('f', 'abc').entry, digest: null }
  assert.equal(decodeOne(listed, 'listing'), 'none')
  assert.equal(decodeOne(listed, 'archive'), 'index-invalid')
  assert.equal(
    decodeOne(file('f', 'abc', { extents: [{ archive: null, offset: 0, length: 3 }] }).entry, 'listing'),
    'index-invalid',
  )
})

test('rows that no encoder makes are refused', () => {
  const row = (changes: Record<number, unknown> = {}): unknown[] => {
    const path = Buffer.from('f')
    const none = Buffer.alloc(0)
    const fields = [
      path,
      4,
      0o644,
      0,
      0,
      none,
      none,
      0,
      1,
      0,
      1,
      0,
      1,
      1,
      1,
      null,
      null,
      null,
      null,
      0,
      null,
      [],
      0,
    ]
    return Object.assign(fields, changes)
  }
  const decode = (row: unknown[]) =>
    code(() => decodeIndexBatch(new Packr({ useRecords: false }).pack({ v: 1, entries: [row] })))
  assert.equal(decode(row()), 'none')
  const name = Buffer.from('user.a')
  const half = Buffer.alloc(256 * 1024)
  const wrong: Record<string, unknown[]> = {
    'a field too few': row().slice(1),
    'a field too many': [...row(), 0],
    'a path as text': row({ 0: 'f' }),
    'a type without a meaning': row({ 1: 8 }),
    'a fraction': row({ 7: 0.5 }),
    'a negative size': row({ 7: -1 }),
    'a mark without a meaning': row({ 22: 4 }),
    'a mount point that is no directory': row({ 22: 8 }),
    'a mark beyond all': row({ 22: 16 }),
    'flags of a fifo': row({ 18: 0x10 }),
    'a flag without a meaning': row({ 1: 1, 18: 0x8_0000 }),
    'a project of more than 32 bits': row({ 19: 2 ** 32 }),
    'the same attribute twice': row({
      17: [
        [name, name],
        [name, name],
      ],
    }),
    'an attribute without a value': row({ 17: [[name]] }),
    'attributes of more than 512 KiB': row({
      17: [
        [name, half],
        [Buffer.from('user.b'), half],
      ],
    }),
    'an extent of two numbers': row({ 21: [[0, 1]] }),
    'an archive without a name': row({ 1: 0, 7: 1, 20: Buffer.alloc(32), 21: [[1, 0, 1]] }),
  }
  for (const [what, fields] of Object.entries(wrong)) assert.equal(decode(fields), 'index-invalid', what)
})

test('paths that are gone are refused where they break a rule', () => {
  const decode = (gone: unknown) =>
    code(() => decodeIndexBatch(new Packr({ useRecords: false }).pack({ v: 1, entries: [], gone })))
  const path = (text: string) => Buffer.from(text, 'latin1')
  assert.equal(
    decode([
      [path('a'), 0],
      [path('a/b'), 1],
      [path('a.b'), 0],
    ]),
    'none',
  )
  const wrong: Record<string, unknown> = {
    'no array': {},
    'no array of arrays': [path('a')],
    'a path alone': [[path('a')]],
    'a field too many': [[path('a'), 0, 0]],
    'a path as text': [['a', 0]],
    'a reason without a meaning': [[path('a'), 2]],
    'a reason in words': [[path('a'), 'deleted']],
    'no reason': [[path('a'), null]],
    'the root': [[path(''), 0]],
    'an absolute path': [[path('/a'), 0]],
    'a path that leads up': [[path('a/../b'), 0]],
    'a path with a NUL': [[path('a\0'), 0]],
    'too long a path': [[Buffer.alloc(pathBytesMax + 1, 'a'), 0]],
  }
  for (const [what, gone] of Object.entries(wrong)) assert.equal(decode(gone), 'index-invalid', what)
  for (const [first, second] of [
    ['a', 'a'],
    ['b', 'a'],
    ['a.b', 'a/b'],
  ] as const)
    assert.equal(
      decode([
        [path(first), 0],
        [path(second), 0],
      ]),
      'index-order',
    )
})

test('names of archives cannot lead anywhere', () => {
  for (const archive of ['', '..', '.hidden', '../x', 'a/b', 'a\0', 'ä', 'x'.repeat(256)]) {
    const extents = [{ archive, offset: 0, length: 1 }]
    assert.equal(decodeOne({ ...file('f', 'a').entry, extents }), 'entry-limit', archive)
    const packed = new Packr({ useRecords: false }).pack({ v: 1, archives: [archive], entries: [] })
    assert.equal(
      code(() => decodeIndexBatch(packed)),
      'index-invalid',
      archive,
    )
  }
})

test('what is not the map of a batch is refused', () => {
  const packr = new Packr({ useRecords: false })
  const decode = (value: unknown) => code(() => decodeIndexBatch(packr.pack(value)))
  // msgpackr writes what is over 32 bits as a fraction, which an index has none of.
  const { repack: _, ...plainHeader } = header
  const small = { ...plainHeader, startedAtMs: 5, paths: [Buffer.from('/')], exclude: [] }
  const last = { ...end, counts: { ...end.counts, contentBytes: 6 }, finishedAtMs: 7, broken: 0 }
  assert.equal(decode({ v: 1, entries: [] }), 'none')
  assert.equal(decode({ v: 1, header: small, archives: ['a'], entries: [], gone: [], end: last }), 'none')
  assert.equal(
    decode({ v: 1, header: { ...small, kind: 'incremental', base: 'a.tar.zst' }, entries: [] }),
    'none',
  )
  const wrong: unknown[] = [
    {},
    [],
    null,
    { v: 2, entries: [] },
    { v: 1 },
    { entries: [], v: 1 },
    { v: 1, entries: [], more: 1 },
    { v: 1, entries: [], header: small },
    { v: 1, entries: {} },
    { v: 1, entries: [[]] },
    { v: 1, entries: [null] },
    { v: 1, header: {}, entries: [] },
    { v: 1, header: { ...small, more: 1 }, entries: [] },
    { v: 1, header: { ...small, kind: 'weekly' }, entries: [] },
    { v: 1, header: { ...small, base: 'a.tar.zst' }, entries: [] },
    { v: 1, header: { ...small, kind: 'incremental' }, entries: [] },
    { v: 1, header: { ...small, kind: 'incremental', base: '' }, entries: [] },
    { v: 1, header: { ...small, kind: 'incremental', base: '../a.tar.zst' }, entries: [] },
    { v: 1, header: { ...small, kind: 'incremental', base: 'a'.repeat(256) }, entries: [] },
    { v: 1, header: { ...small, kind: 'incremental', base: Buffer.from('a.tar.zst') }, entries: [] },
    { v: 1, header: { ...small, host: 'a\nb' }, entries: [] },
    { v: 1, header: { ...small, host: 'x'.repeat(257) }, entries: [] },
    { v: 1, header: { ...small, startedAtMs: -1 }, entries: [] },
    { v: 1, header: { ...small, paths: ['/'] }, entries: [] },
    {
      v: 1,
      header: { ...small, paths: [Buffer.alloc(200_000)], exclude: [Buffer.alloc(100_000)] },
      entries: [],
    },
    { v: 1, gone: [], entries: [] },
    { v: 1, entries: [], end: last, gone: [] },
    { v: 1, entries: [], end: {} },
    { v: 1, entries: [], end: { ...last, outcome: 'perfect' } },
    { v: 1, entries: [], end: { ...last, counts: { ...last.counts, files: -1 } } },
    { v: 1, entries: [], end: { ...last, counts: {} } },
  ]
  for (const value of wrong) assert.equal(decode(value), 'index-invalid', inspect(value))
  const whole = encodeIndexBatch({ header, entries: [], gone: [], end })
  assert.equal(
    code(() => decodeIndexBatch(Buffer.concat([whole, Buffer.from([0xc0])]))),
    'index-invalid',
  )
  assert.equal(
    code(() => decodeIndexBatch(Buffer.alloc(indexBatchBytesMax + 1))),
    'index-invalid',
  )
})

test('paths ascend within a batch and from one to the next', () => {
  const batch = (...paths: string[]): IndexBatch => ({
    header: null,
    entries: paths.map((path) => other(path, 'fifo').entry),
    gone: [],
    membersEnd: null,
    end: null,
  })
  const decode = (...paths: string[]) => code(() => decodeIndexBatch(encodeIndexBatch(batch(...paths))))
  assert.equal(decode('a', 'a/b', 'a.b'), 'none')
  assert.equal(decode('a', 'a'), 'index-order')
  assert.equal(decode('a.b', 'a/b'), 'index-order')

  const sequence = new IndexSequence()
  assert.equal(
    code(() => sequence.accept(batch('a'))),
    'index-invalid',
    'no header',
  )
  sequence.accept({ ...batch('a', 'b'), header })
  sequence.accept(batch())
  assert.equal(
    code(() => sequence.accept(batch('b'))),
    'index-order',
  )
  assert.equal(
    code(() => sequence.accept({ ...batch('c'), header })),
    'index-invalid',
    'a second header',
  )
  assert.equal(
    code(() => sequence.finish()),
    'index-incomplete',
  )
  sequence.accept({ ...batch('c'), end })
  sequence.finish()
  assert.equal(
    code(() => sequence.accept(batch('d'))),
    'index-invalid',
    'after the end',
  )
})

test('entries that are streamed in another order keep to all rules but that one', () => {
  const entries = ['b', 'a', 'c'].map((path) => entry(path, { type: 'directory' }))
  const batch = encodeIndexBatch({ header: null, entries, gone: [], end: null })
  assert.deepEqual(decodeIndexBatch(batch, 'archive', 'any').entries, entries)
  assert.throws(() => decodeIndexBatch(batch), { code: 'index-order' })
  const unsafe = encodeIndexBatch({
    header: null,
    entries: [entry('../a', { type: 'fifo' })],
    gone: [],
    end: null,
  })
  assert.throws(() => decodeIndexBatch(unsafe, 'archive', 'any'), { code: 'index-invalid' })
})

test('entries are the same one at a time as all at once, and so is what is refused', () => {
  const allOf = (batch: Uint8Array) => {
    const next = entriesOfBatch(batch)
    const all: Entry[] = []
    for (let entry = next(); entry !== null; entry = next()) all.push(entry)
    assert.equal(next(), null)
    return all
  }
  const refusal = (action: () => unknown): string => {
    try {
      action()
      return 'nothing'
    } catch (error) {
      return (error as ArchiveError).message
    }
  }
  const nothingElse = { header: null, gone: [], end: null }
  fc.assert(
    fc.property(entries, fc.nat(), fc.nat(255), (entries, at, byte) => {
      const batch = encodeIndexBatch({ ...nothingElse, entries })
      assert.deepEqual(allOf(batch), decodeIndexBatch(batch).entries)
      batch[at % batch.length] = byte
      const expected = refusal(() => decodeIndexBatch(batch))
      const found = refusal(() => allOf(batch))
      if (expected === 'nothing') assert.equal(found, 'nothing')
      else assert.notEqual(found, 'nothing')
    }),
  )
  for (const more of [
    { header },
    { gone: [{ path: 'a' as BytePath, reason: 'deleted' as const }] },
    { end },
  ]) {
    const batch = encodeIndexBatch({ ...nothingElse, entries: [], ...more })
    assert.throws(() => allOf(batch), { code: 'index-invalid' })
  }
})

test('paths that are gone ascend on their own, and in an incremental index only', () => {
  const batch = (entries: string[], gone: string[]): IndexBatch => ({
    header: null,
    entries: entries.map((path) => other(path, 'fifo').entry),
    gone: gone.map((path) => ({ path: bytes(path), reason: 'deleted' })),
    membersEnd: null,
    end: null,
  })
  const sequence = new IndexSequence()
  sequence.accept({ ...batch(['m'], ['b', 'x']), header: incremental })
  sequence.accept(batch(['n'], []))
  sequence.accept(batch([], ['y']))
  for (const path of ['a', 'y'])
    assert.equal(
      code(() => sequence.accept(batch([], [path]))),
      'index-order',
    )
  sequence.accept({ ...batch(['o'], ['z']), end })
  sequence.finish()

  const full = new IndexSequence()
  full.accept({ ...batch(['m'], []), header })
  assert.equal(
    code(() => full.accept(batch([], ['y']))),
    'index-invalid',
  )
  assert.equal(
    code(() => new IndexSequence().accept({ ...batch([], ['y']), header })),
    'index-invalid',
  )
})

test('what is gone with the folder above it is not named again, but where other archives were taken over', () => {
  const batch = (...gone: string[]): IndexBatch => ({
    header: null,
    entries: [],
    gone: gone.map((path) => ({ path: bytes(path), reason: 'deleted' })),
    membersEnd: null,
    end: null,
  })
  const sequenceOf = (header: ArchiveHeader) => {
    const sequence = new IndexSequence()
    sequence.accept({ ...batch('a/b', 'a/bc'), header })
    return sequence
  }
  for (const again of [['d', 'd/e'], ['a/bc/d'], ['d', 'd/e/f', 'd/e/g']]) {
    const accepted = code(() => sequenceOf(incremental).accept(batch(...again)))
    assert.equal(accepted, 'index-invalid', again.join(' '))
    const merged = { ...incremental, repack: { kept: [], absorbed: [] } }
    assert.equal(
      code(() => sequenceOf(merged).accept(batch(...again))),
      'none',
    )
  }
})

test('a batch that is full of paths that are gone says so, and has room for the longest of all', () => {
  const path = (i: number) => `${String(i).padStart(6, '0')}/${'x'.repeat(90)}`
  const encoder = new IndexBatchEncoder(incremental)
  assert.ok(encoder.isEmpty)
  let count = 0
  const batches: Buffer[] = []
  for (; batches.length < 3; count++) {
    if (encoder.addGone({ path: bytes(path(count)), reason: 'deleted' })) continue
    assert.ok(!encoder.add(entry(path(count), { type: 'fifo' })))
    batches.push(encoder.take())
    assert.ok(encoder.isEmpty)
    assert.ok(encoder.addGone({ path: bytes(path(count)), reason: 'deleted' }))
    assert.ok(!encoder.isEmpty)
  }
  assert.ok(encoder.addGone({ path: bytes('x'.repeat(pathBytesMax)), reason: 'unselected' }))
  batches.push(encoder.take(end))
  const sequence = new IndexSequence()
  const decoded = batches.map((batch) => decodeIndexBatch(batch))
  for (const batch of decoded) sequence.accept(batch)
  sequence.finish()
  const gone = decoded.flatMap((batch) => batch.gone)
  assert.equal(gone.length, count + 1)
  assert.ok(gone.every((one, i) => i === count || one.path === path(i)))
  assert.ok(batches.slice(0, -1).every(({ length }) => length > 0.98 * indexBatchBytesMax))
})

test('a full batch says so, and what was refused fits into the next one', () => {
  const encoder = new IndexBatchEncoder(header)
  const paths = Array.from({ length: 400 }, (_, i) => `${String(i).padStart(3, '0')}/${'x'.repeat(16_000)}`)
  const batches: Buffer[] = []
  for (const path of paths) {
    if (encoder.add(entry(path, { type: 'fifo' }))) continue
    batches.push(encoder.take())
    assert.ok(encoder.isEmpty)
    assert.ok(encoder.add(entry(path, { type: 'fifo' })))
  }
  batches.push(encoder.take(end))
  assert.ok(batches.every((batch) => batch.length <= indexBatchBytesMax))
  const sequence = new IndexSequence()
  const decoded = batches.map((batch) => decodeIndexBatch(batch))
  for (const batch of decoded) sequence.accept(batch)
  sequence.finish()
  assert.deepEqual(
    decoded.flatMap(({ entries }) => entries.map(({ path }) => path)),
    paths,
  )
})

test('the largest entry of all fits into a batch', () => {
  const archives = Array.from({ length: batchArchivesMax }, (_, i) => `${i}-`.padEnd(255, 'x'))
  const largest: Entry = {
    ...file(`y${'x'.repeat(pathBytesMax - 1)}`, '', {
      user: bytes('u'.repeat(256)),
      group: bytes('g'.repeat(256)),
    }).entry,
    xattrs: new Map(Array.from({ length: 4096 }, (_, i) => [`user.${i}`.padEnd(100, 'x'), Buffer.alloc(28)])),
    extents: Array.from({ length: 8192 }, (_, i) => ({
      archive: archives[i % 1024]!,
      offset: 2 ** 40 + i * 2 ** 31,
      length: 2 ** 31,
    })),
    size: 2 ** 44,
  }
  const encoded = encodeIndexBatch({ header: null, entries: [largest], gone: [], end })
  assert.ok(encoded.length > 768 * 1024)
  assert.deepEqual(decodeIndexBatch(encoded).entries[0]!.extents, largest.extents)
})

test('an entry that no reader would take is not written', () => {
  const wrong: Record<string, Partial<Entry>> = {
    path: { path: 'x'.repeat(pathBytesMax + 1) as BytePath },
    target: { type: 'symlink', target: 'x'.repeat(4097) as BytePath },
    user: { user: 'x'.repeat(257) as BytePath },
    extents: { extents: new Array(8193).fill({ archive: null, offset: 0, length: 1 }) },
    archives: {
      extents: Array.from({ length: 1025 }, (_, i) => ({ archive: `a${i}`, offset: 0, length: 1 })),
    },
    'xattr name': { xattrs: new Map([['x'.repeat(256), Buffer.alloc(1)]]) },
    'xattr value': { xattrs: new Map([['x', Buffer.alloc(512 * 1024)]]) },
    'xattr count': { xattrs: new Map(Array.from({ length: 4097 }, (_, i) => [String(i), Buffer.alloc(1)])) },
  }
  for (const [what, fields] of Object.entries(wrong)) {
    const encoder = new IndexBatchEncoder(null)
    assert.equal(
      code(() => encoder.add(entry('f', fields))),
      'entry-limit',
      what,
    )
    assert.ok(encoder.isEmpty)
  }
})

test('a header that is too large is refused by its writer', () => {
  const withHeader = (fields: object) =>
    code(() => encodeIndexBatch({ header: { ...header, ...fields }, entries: [], gone: [], end: null }))
  assert.equal(withHeader({ paths: ['/x'.repeat(50_000)] }), 'none')
  assert.equal(withHeader({ host: '' }), 'entry-limit')
  assert.equal(withHeader({ host: 'a\x1b[31m' }), 'entry-limit')
  assert.equal(withHeader({ software: 'x'.repeat(257) }), 'entry-limit')
  for (const base of ['', '../x', 'x\n', 'x'.repeat(256)])
    assert.equal(withHeader({ kind: 'incremental', base }), 'entry-limit', base)
  assert.equal(withHeader({ paths: new Array(4097).fill('/') }), 'entry-limit')
  assert.equal(withHeader({ exclude: ['x'.repeat(256 * 1024 + 1)] }), 'entry-limit')
})
