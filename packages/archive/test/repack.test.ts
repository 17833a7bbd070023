/** What is needed stays where it is, what is not goes, and every reader of tar finds just what the index names. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import {
  ArchiveAssembly,
  ArchiveReader,
  type BytePath,
  CompressorPool,
  type Entry,
  MemberCheck,
  Packing,
  repackArchive,
} from '../src/index.ts'
import { PackingFolder } from './packing-folder.ts'
import { header } from './sample.ts'

let folder: PackingFolder
let whole: Entry[]
let wholeBytes: number
const kept = ['2026-11-21T030000Z-full.tar.zst']

before(async () => {
  folder = new PackingFolder()
  for (let i = 0; i < 60; i++) {
    mkdirSync(folder.at(`tree/${i}`), { recursive: true })
    for (let j = 0; j < 12; j++)
      folder.file(`tree/${i}/${j}`, randomBytes(j % 6 === 3 ? 0 : (i * 3701 + j * 977) % 9000))
    symlinkSync('anywhere', folder.at(`tree/${i}/link`))
    linkSync(folder.at(`tree/${i}/1`), folder.at(`tree/${i}/twin`))
  }
  for (const large of ['tree/15/large', 'tree/30/larger'])
    folder.file(large, randomBytes(large.endsWith('r') ? 14_000_000 : 3_000_000))
  folder.file('tree/31/sparse', 'data')
  truncateSync(folder.at('tree/31/sparse'), 50_000_000)
  const pool = new CompressorPool(2)
  const packing = new Packing({ selection: { roots: [folder.root('tree')], exclude: [] }, header }, pool)
  const assembly = new ArchiveAssembly()
  const pieces: Buffer[] = []
  for await (const part of packing) {
    if (part.kind === 'frame') assembly.addFrame(part.bytes)
    else assembly.addIndex(part.bytes)
    pieces.push(Buffer.from(part.bytes))
    part.release()
  }
  await pool.close()
  const bytes = Buffer.concat([...pieces, assembly.finish().seekTable])
  wholeBytes = bytes.length
  writeFileSync(`${folder.path}/whole`, bytes)
  whole = await entriesOf(`${folder.path}/whole`)
})
after(() => folder[Symbol.dispose]())

/** All entries, after each content was compared with its digest. */
async function entriesOf(path: string): Promise<Entry[]> {
  await using reader = await ArchiveReader.open(path)
  const entries: Entry[] = []
  const members = new MemberCheck(reader)
  for await (const batch of reader.batches()) {
    if (batch.header !== null) members.begin(batch.header)
    for (const entry of batch.entries) await members.add(entry)
    entries.push(...batch.entries)
  }
  await members.finish()
  for (const entry of entries) if (entry.type === 'file') for await (const _ of reader.readContent(entry));
  return entries
}

const offsetOf = ({ extents }: Entry) => extents[0]?.offset ?? null

async function repackTo(name: string, from: string, paths: readonly BytePath[], contents: readonly number[]) {
  await using reader = await ArchiveReader.open(`${folder.path}/${from}`)
  const pieces: Buffer[] = []
  const needed = { paths: () => paths, contents: Float64Array.from(contents) }
  const done = await repackArchive(reader, { needed, absorbed: [], kept }, async (bytes) => {
    pieces.push(Buffer.from(bytes))
  })
  writeFileSync(`${folder.path}/${name}`, Buffer.concat(pieces))
  return done
}

function tarNames(path: string): string[] {
  const listed = spawnSync('tar', ['--zstd', '-tf', path], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  assert.equal(listed.stderr, '')
  assert.equal(listed.status, 0)
  return listed.stdout.split('\n').flatMap((line) => (line === '' ? [] : line.replace(/\/$/, '')))
}

/** Packs anew what a choice leaves, and compares what comes of it with what was there. */
async function requireKept(
  name: string,
  from: string,
  needs: (entry: Entry) => 'entry' | 'content' | 'nothing',
) {
  const entries = from === 'whole' ? whole : await entriesOf(`${folder.path}/${from}`)
  const kept = entries.filter(
    (entry) => needs(entry) === 'entry' || (needs(entry) === 'content' && offsetOf(entry) !== null),
  )
  const paths = entries.filter((entry) => needs(entry) === 'entry').map(({ path }) => path)
  const done = await repackTo(
    name,
    from,
    paths,
    kept.flatMap((entry) => offsetOf(entry) ?? []),
  )
  const path = `${folder.path}/${name}`
  assert.deepEqual(await entriesOf(path), kept)
  assert.deepEqual(
    tarNames(path),
    kept.map(({ path }) => path as string),
  )
  const bytes = readFileSync(path)
  assert.equal(done.archiveBytes, bytes.length)
  assert.deepEqual(done.digest, createHash('sha256').update(bytes).digest())
  assert.equal(
    done.storedBytes,
    kept.reduce((sum, { extents }) => sum + (extents[0]?.length ?? 0), 0),
  )
  return { bytes: bytes.length, contentBytes: done.storedBytes }
}

test('whatever is needed stays at its place, again and again', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.constantFrom(0.02, 0.3, 0.7, 0.97), async (seed, share) => {
      const dice = (path: string, salt: string) =>
        createHash('md5').update(`${seed} ${salt} ${path}`).digest().readUInt16LE() / 65536
      const needs = (salt: string) => (entry: Entry) =>
        dice(entry.path, salt) < share ? 'entry' : dice(entry.path, `${salt}c`) < 0.1 ? 'content' : 'nothing'
      await requireKept('once', 'whole', needs('a'))
      await requireKept('twice', 'once', needs('b'))
    }),
    { numRuns: 6 },
  )
})

test('an archive of which all is needed stays as it is, but for its index', async () => {
  const { bytes } = await requireKept('all', 'whole', () => 'entry')
  assert.ok(Math.abs(bytes - wholeBytes) < 5000, `${wholeBytes} bytes became ${bytes}`)
})

test('what is not needed takes no room', async () => {
  const { bytes } = await requireKept('last', 'whole', ({ path }) =>
    path.endsWith('/9/11') ? 'entry' : 'nothing',
  )
  assert.ok(bytes < 30_000, `${bytes} bytes for one small file`)
  const none = await requireKept('none', 'whole', () => 'nothing')
  assert.ok(none.bytes < 1000, `${none.bytes} bytes for nothing`)
})

test('bsdtar and Python read it too', {
  skip: spawnSync('bsdtar', ['--version']).error && 'needs bsdtar',
}, async () => {
  await requireKept('some', 'whole', ({ path }) => (/[13579]$/.test(path) ? 'entry' : 'nothing'))
  const path = `${folder.path}/some`
  const listed = spawnSync('bsdtar', ['-tf', path], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  assert.deepEqual([listed.status, listed.stderr], [0, ''])
  assert.equal(listed.stdout.split('\n').length, tarNames(path).length + 1)
  const script =
    'import sys, tarfile\nprint(len(tarfile.open(fileobj=sys.stdin.buffer, mode="r|").getmembers()))'
  const tar = spawnSync('zstd', ['-dc', path], { maxBuffer: 2 ** 27 }).stdout
  const read = spawnSync('python3', ['-c', script], { input: tar, encoding: 'utf8' })
  assert.equal(Number(read.stdout), tarNames(path).length, read.stderr)
})

test('an archive that lacks what is needed is refused, before anything is lost', async () => {
  const missing = 'tree/nowhere' as BytePath
  await assert.rejects(repackTo('x', 'whole', [missing], []), { code: 'repack-refused' })
  await assert.rejects(repackTo('x', 'whole', [], [12]), { code: 'repack-refused' })
  const large = whole.find(({ path }) => path.endsWith('/large'))!
  await assert.rejects(repackTo('x', 'whole', [large.path], []), { code: 'repack-refused' })
})
