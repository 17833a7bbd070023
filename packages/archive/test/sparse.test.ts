import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import {
  ArchiveReader,
  type BytePath,
  type Entry,
  planRestore,
  type RestoreReport,
  restoreTree,
} from '../src/index.ts'
import { mapData } from '../src/pack/map-data.ts'
import { bytesAt, lacksHoles, makeSparse, type Region, regionsOf } from './holes.ts'
import { run, skippedWithout } from './oracles.ts'
import { contentOf, entriesIn, packInPlace, requireSound, warningsIn } from './pack-in-place.ts'
import { PackingFolder, runProgram } from './packing-folder.ts'
import { buildArchive, file, type Member, sparseFile } from './sample.ts'
import { ListSource, packTree, sourceOf, TemporaryFolder } from './tree.ts'

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB
const TiB = 1024 * GiB

/** Sizes and regions of files that have holes where holes can be. Blocks of file systems are at most 64 KiB. */
const layouts: Record<string, { size: number; regions: Region[] }> = {
  'begins-with-a-hole': { size: 2 * MiB, regions: [[MiB, 2 * MiB]] },
  'ends-in-a-hole': { size: 2 * MiB, regions: [[0, MiB]] },
  'ends-in-a-hole-within-a-block': { size: 2 * MiB + 5, regions: [[0, MiB]] },
  'ends-within-a-block': { size: 2 * MiB + 5, regions: [[2 * MiB, 2 * MiB + 5]] },
  'one-hole': { size: 3 * MiB + 1, regions: [] },
  'one-hole-of-a-tebibyte': { size: TiB, regions: [] },
  'larger-than-8-GiB': {
    size: 9 * GiB + 123,
    regions: [
      [0, 64 * KiB],
      [8 * GiB - 64 * KiB, 8 * GiB + 64 * KiB],
      [9 * GiB, 9 * GiB + 123],
    ],
  },
  'many-regions': {
    size: 257 * 128 * KiB,
    regions: Array.from({ length: 256 }, (_, i) => [(2 * i + 1) * 64 * KiB, (2 * i + 2) * 64 * KiB]),
  },
}

/** Without holes that can be seen, nothing of this can be tried. */
function skippedWithoutHoles(t: TestContext, folder: string): boolean {
  const reason = lacksHoles(folder)
  if (reason !== false) t.skip(reason)
  return reason !== false
}

function makeLayouts(folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, { size, regions }] of Object.entries(layouts))
    makeSparse(join(folder, name), size, regions)
}

/** Fails unless the file has the holes and the bytes of its layout. */
function requireLayout(path: string, { size, regions }: { size: number; regions: readonly Region[] }): void {
  assert.equal(statSync(path).size, size, path)
  assert.deepEqual(regionsOf(path), regions, path)
  const fd = openSync(path, 'r')
  try {
    for (const [start, end] of regions) {
      const found = Buffer.alloc(end - start)
      assert.equal(readSync(fd, found, 0, found.length, start), found.length)
      assert.ok(found.equals(bytesAt(start, end)), `${path} at ${start}`)
    }
  } finally {
    closeSync(fd)
  }
}

/** Packs what is below a folder, and restores it into another one. */
async function packAndRestore(
  folder: TemporaryFolder,
  tree: string,
  options: Parameters<typeof restoreTree>[2] = {},
): Promise<{ archive: string; entries: Entry[]; report: RestoreReport; restored: string }> {
  const archive = folder.at('archive.tar.zst')
  const target = folder.at('target')
  mkdirSync(target, { recursive: true })
  const entries = await packTree(tree, archive)
  await using source = sourceOf(entries, archive)
  const report = await restoreTree(source, target, options)
  return { archive, entries, report, restored: join(target, tree) }
}

test('holes come back at their places, wherever they are', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  makeLayouts(folder.at('tree'))
  const { report, restored, entries } = await packAndRestore(folder, folder.at('tree'))
  assert.deepEqual([report.failed.count, report.damaged.count], [0, 0])
  assert.equal(report.restored.files, Object.keys(layouts).length)
  for (const [name, layout] of Object.entries(layouts)) requireLayout(join(restored, name), layout)
  for (const entry of entries.filter(({ type }) => type === 'file')) assert.ok(entry.storedSize! < entry.size)
})

for (const [program, ...args] of [
  ['tar', '-xpf'],
  ['tar', '-S', '-xpf'],
  ['bsdtar', '-xpf'],
] as const) {
  test(`${program} ${args.slice(0, -1).join(' ')} restores holes at their places, without a word`, async (t) => {
    if (skippedWithout(t, program) || skippedWithout(t, 'zstd')) return
    using folder = new TemporaryFolder()
    if (skippedWithoutHoles(t, folder.path)) return
    const tree = folder.at('tree')
    makeLayouts(tree)
    // Names that have no room in the header, and such that are not ASCII.
    const odd = ['n'.repeat(120), 'é', Buffer.from('\xe9', 'latin1')]
    const oddPaths = odd.map((name) => Buffer.concat([Buffer.from(`${tree}/`), Buffer.from(name as string)]))
    for (const path of oddPaths) makeSparse(path, 2 * MiB, [[MiB, 2 * MiB]])
    const archive = folder.at('archive.tar.zst')
    await packTree(tree, archive)
    run('zstd', ['-q', '-d', archive, '-o', folder.at('archive.tar')])
    for (const locale of ['C', 'C.UTF-8']) {
      const target = folder.at(locale)
      mkdirSync(target)
      run(program, [...args, folder.at('archive.tar'), '-C', target], locale)
      for (const [name, layout] of Object.entries(layouts)) requireLayout(join(target, tree, name), layout)
      for (const path of oddPaths)
        assert.deepEqual(regionsOf(Buffer.concat([Buffer.from(target), path])), [[MiB, 2 * MiB]])
    }
  })
}

test('a file of 1 TiB with 10 MiB of data costs 10 MiB', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  const layout = {
    size: TiB,
    regions: Array.from({ length: 10 }, (_, i): Region => [i * 100 * GiB, i * 100 * GiB + MiB]),
  }
  mkdirSync(folder.at('tree'))
  makeSparse(folder.at('tree/image'), layout.size, layout.regions)
  let read = 0
  const roots = [{ path: folder.at('tree').slice(1) as BytePath, recursive: true }]
  const packed = packInPlace(roots, {
    onRead: (_, total) => {
      read = Math.max(read, total)
    },
  })
  assert.equal(read, 10 * MiB + 512)
  assert.equal(packed.counts.contentBytes, 10 * MiB + 512)
  assert.ok(packed.tar.length < 10 * MiB + 64 * KiB)
  const { report, restored, archive } = await packAndRestore(folder, folder.at('tree'))
  assert.ok(statSync(archive).size < 10 * MiB)
  assert.equal(report.contentBytes, 10 * MiB + 512)
  requireLayout(join(restored, 'image'), layout)
  assert.ok(statSync(join(restored, 'image')).blocks * 512 < 11 * MiB)
})

test('thousands of holes come back, and the index costs the same as for one', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  const regions = Array.from({ length: 5000 }, (_, i): Region => [i * 128 * KiB, i * 128 * KiB + 4 * KiB])
  mkdirSync(folder.at('tree'))
  makeSparse(folder.at('tree/image'), 5000 * 128 * KiB, regions)
  const before = regionsOf(folder.at('tree/image'))
  const { entries, restored } = await packAndRestore(folder, folder.at('tree'))
  assert.equal(entries.find(({ type }) => type === 'file')!.extents.length, 1)
  assert.deepEqual(regionsOf(join(restored, 'image')), before)
})

test('a byte in the middle of a hole is packed with the block around it', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  mkdirSync(folder.at('tree'))
  const path = folder.at('tree/byte')
  const fd = openSync(path, 'w')
  ftruncateSync(fd, GiB)
  writeSync(fd, 'x', GiB / 2 + 777)
  closeSync(fd)
  const { restored, report } = await packAndRestore(folder, folder.at('tree'))
  assert.ok(report.contentBytes < 128 * KiB)
  assert.deepEqual(regionsOf(join(restored, 'byte')), regionsOf(path))
  const byte = Buffer.alloc(1)
  const back = openSync(join(restored, 'byte'), 'r')
  readSync(back, byte, 0, 1, GiB / 2 + 777)
  closeSync(back)
  assert.equal(byte.toString(), 'x')
})

test('random layouts come back as they were', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  const blocks = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 2 ** 24 }))
  const layout = fc.record({
    pieces: fc.array(fc.record({ hole: blocks, data: fc.integer({ min: 1, max: 10 }) }), { maxLength: 12 }),
    tail: fc.oneof(
      fc.constant(0),
      fc.integer({ min: 4096, max: 70_000 }),
      fc.integer({ min: 4096, max: 2 ** 40 }),
    ),
  })
  let round = 0
  await fc.assert(
    fc.asyncProperty(fc.array(layout, { minLength: 8, maxLength: 8 }), async (all) => {
      using inner = new TemporaryFolder()
      const tree = inner.at('tree')
      mkdirSync(tree)
      for (const [i, { pieces, tail }] of all.entries()) {
        let at = 0
        const regions = pieces.map(({ hole, data }): Region => {
          const start = at + hole * 64 * KiB
          at = start + data * 64 * KiB
          return [start, at]
        })
        makeSparse(join(tree, `${i}`), at + tail, regions)
      }
      const { restored } = await packAndRestore(inner, tree)
      for (const i of all.keys()) {
        const [path, back] = [join(tree, `${i}`), join(restored, `${i}`)]
        assert.equal(statSync(back).size, statSync(path).size)
        assert.deepEqual(regionsOf(back), regionsOf(path))
        for (const [start, end] of regionsOf(path)) {
          const [a, b] = [path, back].map((file) => readRange(file, start, end))
          assert.ok(a!.equals(b!))
        }
      }
      round++
    }),
    { numRuns: 6 },
  )
  assert.ok(round >= 6)
})

function readRange(path: string, start: number, end: number): Buffer {
  const bytes = Buffer.alloc(end - start)
  const fd = openSync(path, 'r')
  readSync(fd, bytes, 0, bytes.length, start)
  closeSync(fd)
  return bytes
}

test('a file that takes as much room as its size is not asked for holes', (t) => {
  using folder = new PackingFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  // Its blocks are there, and nothing is in them: it would say that it is one hole.
  runProgram('fallocate', ['-l', String(MiB), folder.at('taken').toString()])
  if (regionsOf(folder.at('taken')).length > 0)
    return t.skip('the file system has data in what is only reserved')
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  assert.equal(entriesIn(folder, packed).taken!.storedSize, null)
  assert.equal(contentOf(packed, entriesIn(folder, packed).taken!).length, MiB)
})

test('where the file system cannot tell, there is no map, and where it finds no hole, one region', () => {
  using folder = new PackingFolder()
  folder.fifo('fifo')
  folder.file('dense', Buffer.alloc(MiB, 'x'))
  const told: number[] = []
  for (const [name, regions] of [
    ['fifo', undefined],
    ['dense', 1],
  ] as const) {
    const fd = openSync(folder.at(name), constants.O_RDONLY | constants.O_NONBLOCK)
    assert.equal(mapData(fd, MiB, (more) => told.push(more))?.regions, regions)
    closeSync(fd)
  }
  assert.deepEqual(told, [])
})

test('while a file of very many regions is asked for them, progress is told, and the run can be ended', (t) => {
  using folder = PackingFolder.forMany()
  if (skippedWithoutHoles(t, folder.path)) return
  makeSparse(
    folder.at('comb'),
    3000 * 16 * KiB,
    Array.from({ length: 3000 }, (_, i) => [i * 16 * KiB, i * 16 * KiB + 1]),
  )
  const totals: number[] = []
  const stop = new Error('ended')
  assert.throws(
    () =>
      packInPlace([folder.root()], {
        onRead(_, total) {
          totals.push(total)
          if (totals.length === 2) throw stop
        },
      }),
    (error) => error === stop,
  )
  assert.deepEqual(totals, [1024, 2048])
})

test('a file whose map and data would be no less than its content is stored as it is', () => {
  using folder = new PackingFolder()
  for (const size of [1, 100, 512]) makeSparse(folder.at(`${size}`), size, [])
  const packed = packInPlace([folder.root()])
  requireSound(packed, folder)
  for (const entry of Object.values(entriesIn(folder, packed)).filter(({ type }) => type === 'file')) {
    assert.equal(entry.storedSize, null)
    assert.deepEqual(contentOf(packed, entry), Buffer.alloc(entry.size))
  }
})

/** Packs a sparse file, to which something is done once its map was read. */
function packChanged(change: (path: Buffer) => void) {
  const folder = new PackingFolder()
  makeSparse(folder.at('m'), 64 * MiB, [
    [MiB, 2 * MiB],
    [32 * MiB, 33 * MiB],
  ])
  writeFileSync(folder.at('z'), 'behind it')
  let done = false
  const packed = packInPlace([folder.root()], {
    onRead(path) {
      if (done || folder.nameOf(path) !== 'm') return
      done = true
      change(folder.at('m'))
    },
  })
  return { folder, packed, entry: entriesIn(folder, packed).m!, warnings: warningsIn(folder, packed) }
}

/** Data of the file of `packChanged`, without its map. */
function dataOf(packed: ReturnType<typeof packInPlace>, entry: Entry): Buffer {
  return contentOf(packed, entry).subarray(512)
}

test('a sparse file that is cut off while it is read is filled up with zeros, marked and counted', () => {
  const { folder, packed, entry, warnings } = packChanged((path) => truncateSync(path, MiB + 100))
  using _ = folder
  requireSound(packed, folder)
  assert.deepEqual(warnings, ['changed m'])
  assert.equal(entry.changedWhileRead, true)
  assert.equal(entry.size, 64 * MiB)
  const data = dataOf(packed, entry)
  assert.equal(data.length, 2 * MiB)
  assert.ok(data.subarray(0, 100).equals(bytesAt(MiB, MiB + 100)))
  assert.ok(data.subarray(100).every((byte) => byte === 0))
})

test('a sparse file that is cut off in its last hole is marked', () => {
  const { folder, packed, entry, warnings } = packChanged((path) => truncateSync(path, 40 * MiB))
  using _ = folder
  requireSound(packed, folder)
  assert.deepEqual(warnings, ['changed m'])
  assert.equal(entry.size, 64 * MiB)
})

test('data that becomes a hole while the file is read, reads as zeros, and is marked', () => {
  const { folder, packed, entry, warnings } = packChanged((path) =>
    runProgram('fallocate', ['-p', '-o', String(MiB), '-l', String(MiB), path.toString()]),
  )
  using _ = folder
  requireSound(packed, folder)
  assert.deepEqual(warnings, ['changed m'])
  const data = dataOf(packed, entry)
  assert.ok(data.subarray(0, MiB).every((byte) => byte === 0))
  assert.ok(data.subarray(MiB).equals(bytesAt(32 * MiB, 33 * MiB)))
})

test('what is written into a hole after the map was read is not packed, and the file is marked', () => {
  const { folder, packed, entry, warnings } = packChanged((path) => {
    const fd = openSync(path, 'r+')
    writeSync(fd, 'late', 10 * MiB)
    closeSync(fd)
  })
  using _ = folder
  requireSound(packed, folder)
  assert.deepEqual(warnings, ['changed m'])
  assert.equal(dataOf(packed, entry).length, 2 * MiB)
})

test('a sparse file of which only the attributes have changed is compared by its data, and not packed again', (t) => {
  using folder = new PackingFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  makeSparse(folder.at('image'), TiB, [[512 * GiB, 512 * GiB + MiB]])
  const first = packInPlace([folder.root()])
  const baseline = first.entries.map((entry) => ({
    ...entry,
    extents: entry.extents.map((extent) => ({ ...extent, archive: '2026-11-21T030000Z-full.tar.zst' })),
  }))
  chmodSync(folder.at('image'), 0o640)
  const second = packInPlace([folder.root()], { baseline })
  const [before, now] = [entriesIn(folder, first).image!, entriesIn(folder, second).image!]
  assert.equal(now.mode, 0o640)
  assert.deepEqual(
    [now.extents[0]!.archive, now.extents[0]!.offset, now.storedSize, now.digest],
    ['2026-11-21T030000Z-full.tar.zst', before.extents[0]!.offset, before.storedSize, before.digest],
  )
  assert.equal(second.counts.contentBytes, 0)
  assert.ok(second.tar.length < 100 * KiB)
})

test('a file whose content is the same and whose holes are elsewhere is packed again', (t) => {
  using folder = new PackingFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  makeSparse(folder.at('image'), 8 * MiB, [[0, MiB]])
  const first = packInPlace([folder.root()])
  const fd = openSync(folder.at('image'), 'r+')
  writeSync(fd, Buffer.alloc(MiB), 0, null, 4 * MiB)
  closeSync(fd)
  const second = packInPlace([folder.root()], { baseline: first.entries })
  requireSound(second, folder)
  const entry = entriesIn(folder, second).image!
  assert.equal(entry.extents[0]!.archive, null)
  assert.equal(entry.storedSize, 2 * MiB + 512)
})

test('a file that is too large for the archive is reported by all its names, and the run goes on', (t) => {
  if (!existsSync('/dev/shm')) return t.skip('this machine has no /dev/shm')
  using folder = new PackingFolder('/dev/shm')
  try {
    // Node passes no more on exactly; it is over 2^53 in any case.
    runProgram('truncate', ['-s', '9007199254744064', folder.at('huge').toString()])
  } catch (error) {
    return t.skip(`/dev/shm has no such files: ${(error as Error).message}`)
  }
  linkSync(folder.at('huge'), folder.at('second'))
  writeFileSync(folder.at('small'), 'small')
  for (const listOnly of [false, true]) {
    const packed = packInPlace([folder.root()], { listOnly })
    assert.deepEqual(warningsIn(folder, packed), ['unreadable huge', 'unreadable second'])
    assert.match(packed.warnings[0]!.message, /its size is \d+, at most 9007199254740991/)
    assert.ok(entriesIn(folder, packed).small !== undefined)
    assert.equal(entriesIn(folder, packed).huge, undefined)
    assert.equal(entriesIn(folder, packed).second, undefined)
  }
})

test('a sparse file takes the place of one that is there, and has its own holes', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  const tree = folder.at('tree')
  makeLayouts(tree)
  const there = folder.at('target', tree, 'larger-than-8-GiB')
  mkdirSync(dirname(there), { recursive: true })
  writeFileSync(there, Buffer.alloc(3 * MiB, 'dense'))
  const { report, restored } = await packAndRestore(folder, tree, { overwrite: 'always' })
  assert.equal(report.failed.count, 0)
  for (const [name, layout] of Object.entries(layouts)) requireLayout(join(restored, name), layout)
})

test('further names of a sparse file are names of it, and a restore that is repeated writes nothing', async (t) => {
  using folder = new TemporaryFolder()
  if (skippedWithoutHoles(t, folder.path)) return
  const tree = folder.at('tree')
  mkdirSync(tree)
  makeSparse(join(tree, 'a'), GiB, [[MiB, 2 * MiB]])
  linkSync(join(tree, 'a'), join(tree, 'b'))
  const { entries, archive, restored } = await packAndRestore(folder, tree)
  assert.equal(lstatSync(join(restored, 'a')).ino, lstatSync(join(restored, 'b')).ino)
  await using source = sourceOf(entries, archive)
  const again = await restoreTree(source, folder.at('target'))
  assert.deepEqual([again.restored.files, again.contentBytes, again.equal], [0, 0, 2 + countFolders(entries)])
  const plan = [...planRestore(source, folder.at('nowhere'))]
  assert.equal(plan.find(({ path }) => path.endsWith('/a'))!.bytes, MiB + 512)
})

/** Folders that were selected, and not only lead to what was. */
function countFolders(entries: readonly Entry[]): number {
  return entries.filter(({ type, ancestor }) => type === 'directory' && !ancestor).length
}

/** Entries and what is stored of them, in memory. */
function memberSource(members: readonly Member[]): ListSource {
  const contents = new Map(members.map(({ entry, content }) => [entry.path, content]))
  const self = { uid: process.geteuid!(), gid: process.getegid!() }
  return new ListSource(
    members.map(({ entry }) => Object.assign(entry, self)),
    async function* (entry) {
      yield contents.get(entry.path)!
    },
  )
}

/** A sparse file with any map, whose digest is right. */
function falseMap(path: string, size: number, map: string, dataBytes: number): Member {
  const text = Buffer.from(map)
  const stored = Buffer.concat([
    text,
    Buffer.alloc((512 - (text.length % 512)) % 512),
    Buffer.alloc(dataBytes),
  ])
  return file(path, stored, { size, storedSize: stored.length })
}

const falseMaps = (): Member[] => [
  falseMap('beyond', 4096, '1\n8192\n512\n', 512),
  falseMap('huge-hole', 4096, `1\n${2 ** 52}\n0\n`, 0),
  falseMap('more', 4096, '1\n4096\n0\n', 512),
  falseMap('overlap', 8192, '3\n0\n1024\n512\n512\n8192\n0\n', 1536),
]

test('a file whose map of holes is false is damaged, is not there, and the rest is restored', async () => {
  using folder = new TemporaryFolder()
  const members = [...falseMaps(), file('z', 'whole')]
  const report = await restoreTree(memberSource(members), folder.path)
  assert.equal(report.damaged.count, 4)
  for (const { message } of report.damaged.listed) assert.match(message, /map/)
  assert.equal(report.restored.files, 1)
  for (const { entry } of falseMaps()) assert.ok(!existsSync(folder.at(entry.path)))
})

test('a reader finds a false map where the digest is right', async () => {
  using folder = new TemporaryFolder()
  const members = [...falseMaps(), sparseFile('z', 2 ** 40, [[512, 'x'.repeat(512)]])]
  writeFileSync(folder.at('archive'), buildArchive(members))
  await using reader = await ArchiveReader.open(folder.at('archive'))
  const outcomes: string[] = []
  for await (const { entries } of reader.batches()) {
    for (const entry of entries) {
      const hash = createHash('sha256')
      try {
        for await (const piece of reader.readContent(entry)) hash.update(piece)
        outcomes.push(`${entry.path}: whole`)
      } catch (error) {
        outcomes.push(`${entry.path}: ${/map/.test((error as Error).message) ? 'false map' : error}`)
      }
    }
  }
  assert.deepEqual(outcomes, [
    'beyond: false map',
    'huge-hole: false map',
    'more: false map',
    'overlap: false map',
    'z: whole',
  ])
})

test('a size that the target cannot have is told, and all else is restored', async (t) => {
  using folder = new TemporaryFolder()
  const size = Number.MAX_SAFE_INTEGER
  const members = [sparseFile('a', size, [[2 ** 52, 'x'.repeat(512)]]), file('z', 'whole')]
  const report = await restoreTree(memberSource(members), folder.path)
  assert.ok(existsSync(folder.at('z')))
  if (report.failed.count === 0) {
    assert.equal(statSync(folder.at('a')).size, size)
    return t.skip('the file system of the temporary folder has files of 8 PiB')
  }
  assert.match(report.failed.listed[0]!.message, /9007199254740991 bytes long.*EFBIG/)
  assert.ok(!existsSync(folder.at('a')))
})
