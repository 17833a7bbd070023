import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  ArchiveAssembly,
  ArchiveError,
  type ArchiveErrorCode,
  type ArchiveHeader,
  ArchiveReader,
  compressFrame,
  encodeIndexBatch,
  endOfArchive,
  frameBytesMax,
  type Gone,
  indexFrameMagic,
  wrapSkippable,
} from '../src/index.ts'
import { run, skippedWithout } from './oracles.ts'
import {
  all,
  type BuildOptions,
  buildArchive,
  buildTar,
  bytes,
  end,
  file,
  header,
  incremental,
  type Member,
  other,
} from './sample.ts'

const directory = mkdtempSync(join(tmpdir(), 'archive-reader-'))
after(() => rmSync(directory, { recursive: true, force: true }))
let files = 0

function write(bytes: Uint8Array): string {
  const path = join(directory, `${files++}.tar.zst`)
  writeFileSync(path, bytes)
  return path
}

function sample(): Member[] {
  return [
    other('etc', 'directory', { mode: 0o755 }),
    file('etc/empty'),
    file('etc/hosts', '127.0.0.1 localhost\n'),
    file('etc/random', randomBytes(10_000)),
    other('etc/self', 'symlink', { target: bytes('.') }),
    other('run/socket', 'socket'),
    file('var/text', 'all work and no play\n'.repeat(1000)),
    file('var/zeros', Buffer.alloc(70_000)),
  ]
}

async function collect(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await all(pieces))
}

async function refuses(code: ArchiveErrorCode, path: string, action: () => Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error) => {
    assert.ok(error instanceof ArchiveError, String(error))
    assert.equal(error.code, code, error.message)
    assert.ok(error.message.startsWith(`${path}: `), error.message)
    return true
  })
}

const shapes: Record<string, BuildOptions> = {
  'one frame': {},
  'many small frames and index frames': { frameBytes: 4096, batchEntries: 2 },
  'frames that cut headers in two': { frameBytes: 700, batchEntries: 1 },
}

for (const [shape, options] of Object.entries(shapes)) {
  test(`an archive of ${shape} gives back its index, its tar stream and every file`, async () => {
    const members = sample()
    const tar = buildTar(members)
    await using reader = await ArchiveReader.open(write(buildArchive(members, options)))
    assert.equal(reader.tarBytes, tar.length)
    const batches = await all(reader.batches())
    assert.deepEqual(batches[0]!.header, header)
    assert.deepEqual(batches.at(-1)!.end, end)
    const entries = batches.flatMap(({ entries }) => entries)
    assert.deepEqual(
      entries.map(({ path }) => path),
      members.map(({ entry }) => entry.path),
    )
    for (const [i, entry] of entries.entries()) {
      assert.ok((await collect(reader.readContent(entry))).equals(members[i]!.content), entry.path)
    }
    assert.ok((await collect(reader.readTar(0, tar.length))).equals(tar))
    for (const [offset, length] of [
      [0, 0],
      [tar.length, 0],
      [tar.length - 1, 1],
      [511, 2],
      [699, 1402],
      [4095, 4098],
    ] as const) {
      assert.ok(
        (await collect(reader.readTar(offset, length))).equals(tar.subarray(offset, offset + length)),
        `${offset}`,
      )
    }
  })

  test(`tar and zstd open an archive of ${shape} as it is, without a word`, (t) => {
    if (skippedWithout(t, 'zstd') || skippedWithout(t, 'tar')) return
    const members = sample()
    const path = write(buildArchive(members, options))
    run('zstd', ['-q', '-t', path])
    run('zstd', ['-l', path])
    assert.ok(run('zstd', ['-q', '-d', '-c', path]).equals(buildTar(members)))
    const packed = members.filter(({ entry }) => entry.type !== 'socket').map(({ entry }) => entry.path)
    assert.deepEqual(
      run('tar', ['-tf', path]).toString().split('\n').slice(0, -1),
      packed.map((name) => (name === 'etc' ? 'etc/' : name)),
    )
    const target = mkdtempSync(join(directory, 'restored-'))
    run('tar', ['--zstd', '--no-same-owner', '-xpf', path, '-C', target])
    assert.ok(readFileSync(join(target, 'var/zeros')).equals(Buffer.alloc(70_000)))
    if (spawnSync('bsdtar', ['--version']).error === undefined) run('bsdtar', ['-tf', path])
  })
}

test('one file is read without the frames that do not hold it', async () => {
  const members = [file('a', randomBytes(3 * frameBytesMax)), file('b', 'small')]
  const archive = buildArchive(members)
  // Damage right behind the header of the first frame.
  archive.fill(0x55, 100, 100_000)
  await using reader = await ArchiveReader.open(write(archive))
  assert.equal((await collect(reader.readContent(members[1]!.entry))).toString(), 'small')
  await refuses('frame-damaged', reader.path, () => collect(reader.readContent(members[0]!.entry)))
})

test('pieces that were read before stay as they are', async () => {
  const members = sample()
  const tar = buildTar(members)
  await using reader = await ArchiveReader.open(write(buildArchive(members, { frameBytes: 1000 })))
  const pieces: Buffer[] = []
  for await (const piece of reader.readTar(0, tar.length)) pieces.push(piece)
  assert.ok(pieces.length > 100)
  assert.ok(Buffer.concat(pieces).equals(tar))
})

test('ranges outside the tar stream are refused', async () => {
  await using reader = await ArchiveReader.open(write(buildArchive(sample())))
  const { tarBytes, path } = reader
  for (const [offset, length] of [
    [-1, 1],
    [0, tarBytes + 1],
    [tarBytes, 1],
    [0, -1],
    [Number.NaN, 1],
    [0, Number.NaN],
  ] as const) {
    await refuses('range-invalid', path, () => collect(reader.readTar(offset, length)))
  }
})

test('content in another archive is refused by name, and content that differs from its digest after it was read', async () => {
  const members = sample()
  await using reader = await ArchiveReader.open(write(buildArchive(members)))
  const { entry } = members[2]!
  const elsewhere = { ...entry, extents: [{ archive: 'older.tar.zst', offset: 0, length: entry.size }] }
  await refuses('content-elsewhere', reader.path, () => collect(reader.readContent(elsewhere)))
  await refuses('content-damaged', reader.path, () =>
    collect(reader.readContent({ ...entry, digest: Buffer.alloc(32) })),
  )
})

test('a file that is cut at any place is refused', async () => {
  const archive = buildArchive(sample(), { frameBytes: 20_000, batchEntries: 3 })
  const { length } = archive
  const sizes = [0, 1, 8, 9, 17, length >> 1, length - 40, length - 9, length - 1]
  for (const size of sizes) {
    const path = write(archive.subarray(0, size))
    await refuses('not-an-archive', path, () => ArchiveReader.open(path))
  }
  for (const size of [1, 500, length - 60, length - 9]) {
    const path = write(archive.subarray(size))
    await refuses('archive-truncated', path, () => ArchiveReader.open(path))
  }
})

test('a file of another kind is refused, and a file that is not there has the error of the system', async () => {
  for (const bytes of [
    Buffer.from('plain text, and some more of it'),
    compressFrame(endOfArchive),
    Buffer.alloc(10_000),
  ]) {
    const path = write(bytes)
    await refuses('not-an-archive', path, () => ArchiveReader.open(path))
  }
  await assert.rejects(ArchiveReader.open(join(directory, 'missing')), { code: 'ENOENT' })
})

test('an archive whose run was broken off gives its entries and then says so', async () => {
  const members = sample()
  const path = write(
    rebuild(
      [compressFrame(buildTar(members))],
      [encodeIndexBatch({ header, entries: members.map(({ entry }) => entry), gone: [], end: null })],
    ),
  )
  await using reader = await ArchiveReader.open(path)
  let entries = 0
  await refuses('index-incomplete', path, async () => {
    for await (const batch of reader.batches()) entries += batch.entries.length
  })
  assert.equal(entries, members.length)
})

test('an index whose batches do not go together is refused', async () => {
  const batch = (paths: string[], first: boolean, last: boolean) => {
    const entries = paths.map((path) => other(path, 'fifo').entry)
    return encodeIndexBatch({ header: first ? header : null, entries, gone: [], end: last ? end : null })
  }
  const goneBatch = (header: ArchiveHeader | null, paths: string[], last: boolean) => {
    const gone = paths.map((path) => ({ path: bytes(path), reason: 'deleted' as const }))
    return encodeIndexBatch({ header, entries: [], gone, end: last ? end : null })
  }
  const wrong: [ArchiveErrorCode, Buffer[]][] = [
    ['index-order', [goneBatch(incremental, ['b'], false), goneBatch(null, ['a'], true)]],
    ['index-invalid', [goneBatch(header, ['a'], true)]],
    ['index-order', [batch(['a', 'c'], true, false), batch(['b'], false, true)]],
    ['index-invalid', [batch(['a'], false, true)]],
    ['index-invalid', [batch(['a'], true, true), batch(['b'], false, false)]],
    ['index-invalid', [batch(['a'], true, false), batch(['b'], true, true)]],
    ['index-invalid', [Buffer.from('no msgpack')]],
  ]
  for (const [code, batches] of wrong) {
    await using reader = await ArchiveReader.open(write(rebuild([compressFrame(endOfArchive)], batches)))
    await refuses(code, reader.path, () => all(reader.batches()))
  }
})

test('an incremental archive tells what it is compared with and what is gone, in the order of paths', async () => {
  const gone: Gone[] = [
    { path: bytes('a'), reason: 'unselected' },
    { path: bytes('etc/old'), reason: 'deleted' },
    { path: bytes('z'), reason: 'deleted' },
  ]
  const options = { header: incremental, gone, batchEntries: 1 }
  await using reader = await ArchiveReader.open(write(buildArchive(sample(), options)))
  const batches = await all(reader.batches())
  assert.equal(batches[0]!.header!.base, incremental.base)
  assert.deepEqual(
    batches.flatMap((batch) => batch.gone),
    gone,
  )
  assert.ok(batches.filter((batch) => batch.gone.length > 0).length > 1)
})

test('a frame that holds something else than the seek table says is refused', async () => {
  const archive = buildArchive([file('a', 'x'.repeat(5000))])
  const path = write(archive)
  const row = archive.length - 9 - 2 * 8
  for (const size of [archive.readUInt32LE(row + 4) - 512, archive.readUInt32LE(row + 4) + 512]) {
    archive.writeUInt32LE(size, row + 4)
    writeFileSync(path, archive)
    await using reader = await ArchiveReader.open(path)
    await assert.rejects(collect(reader.readTar(0, 512)), (error) => error instanceof ArchiveError)
  }
})

/** An archive of these frames and batches, whether they go together or not. */
function rebuild(frames: readonly Buffer[], batches: readonly Buffer[]): Buffer {
  const assembly = new ArchiveAssembly()
  const indexFrames = batches.map((batch) => wrapSkippable(indexFrameMagic, compressFrame(batch)))
  for (const frame of frames) assembly.addFrame(frame)
  for (const frame of indexFrames) assembly.addIndex(frame)
  return Buffer.concat([...frames, ...indexFrames, assembly.finish().seekTable])
}
