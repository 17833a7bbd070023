/** Archives that end anywhere, or have a damaged byte anywhere: what came whole is kept, and nothing else. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { scanFrames } from '../src/frame-scan.ts'
import {
  ArchiveAssembly,
  type ArchiveEnd,
  ArchiveReader,
  CompressorPool,
  type Entry,
  Packing,
  PartialFile,
  partialSuffix,
  planFinish,
} from '../src/index.ts'
import { PackingFolder } from './packing-folder.ts'
import { header } from './sample.ts'

let folder: PackingFolder
/** A whole archive of many small files, some large, and an index of several batches. */
let whole: Buffer
let wholeEntries: Entry[]
let wholeEnd: ArchiveEnd
const frameEnds: number[] = []

before(async () => {
  folder = new PackingFolder()
  for (let i = 0; i < 2500; i++) {
    const size = i % 500 === 250 ? 3_000_000 : i % 7 === 0 ? 0 : (i * 37) % 3000
    folder.file(`tree/${String(i).padStart(4, '0')}-${'name'.repeat(20)}`, randomBytes(size))
  }
  const pool = new CompressorPool(2)
  const packing = new Packing({ selection: { roots: [folder.root('tree')], exclude: [] }, header }, pool)
  const assembly = new ArchiveAssembly()
  const pieces: Buffer[] = []
  for await (const part of packing) {
    if (part.kind === 'frame') assembly.addFrame(part.bytes)
    else assembly.addIndex(part.bytes)
    pieces.push(Buffer.from(part.bytes))
    frameEnds.push(assembly.archiveBytes)
    part.release()
  }
  await pool.close()
  whole = Buffer.concat([...pieces, assembly.finish().seekTable])
  writeFileSync(archivePath(), whole)
  const read = await readArchive()
  wholeEntries = read.entries
  wholeEnd = read.end
  assert.ok(read.batches >= 3, 'the tree is too small for several batches')
})
after(() => folder[Symbol.dispose]())

function archivePath(): string {
  return `${folder.path}/archive`
}

/** Reads all of the archive: its index, and each content against its digest. */
async function readArchive(): Promise<{ entries: Entry[]; end: ArchiveEnd; batches: number }> {
  await using reader = await ArchiveReader.open(archivePath())
  const entries: Entry[] = []
  let end: ArchiveEnd | null = null
  let batches = 0
  for await (const batch of reader.batches()) {
    batches++
    entries.push(...batch.entries)
    end = batch.end
  }
  for (const entry of entries) if (entry.type === 'file') for await (const _ of reader.readContent(entry));
  return { entries, end: end!, batches }
}

/** Finishes what is left in `archive.partial`; false where it is nothing. */
async function finish(bytes: Uint8Array): Promise<boolean> {
  const partial = archivePath() + partialSuffix
  spawnSync('rm', ['-f', archivePath(), partial])
  writeFileSync(partial, bytes)
  let plan: Awaited<ReturnType<typeof planFinish>>
  try {
    plan = await planFinish(partial)
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'index-incomplete')
    return false
  }
  const file = await PartialFile.reopen(archivePath(), async () => plan)
  for (const piece of plan.tail) await file.write(piece)
  await file.commit()
  return true
}

/**
 * The archive holds the first entries of the whole one, tar sees just the members that the index names, and nothing
 * else is there.
 */
async function requireBeginning(): Promise<number> {
  const { entries, end } = await readArchive()
  assert.deepEqual(entries, wholeEntries.slice(0, entries.length))
  assert.ok(entries.length > 0)
  const listing = spawnSync('tar', ['--zstd', '-tf', archivePath()], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  assert.equal(listing.stderr, '')
  assert.equal(listing.status, 0)
  const names = listing.stdout.split('\n').filter((line) => line !== '')
  assert.deepEqual(
    names.map((name) => name.replace(/\/$/, '')),
    entries.map(({ path }) => path as string),
  )
  if (entries.length < wholeEntries.length) assert.deepEqual([end.outcome, end.broken], ['incomplete', true])
  assert.equal(end.counts.files, entries.filter(({ type }) => type === 'file').length)
  return entries.length
}

test('an archive that is cut off anywhere keeps what came whole', { timeout: 120_000 }, async () => {
  const places = new Set(frameEnds.flatMap((end) => [end - 1, end, end + 1]))
  for (let i = 0; i < 12; i++) places.add(Math.floor((whole.length * (i + 0.5)) / 12))
  let most = 0
  let nothing = 0
  for (const place of [...places].sort((a, b) => a - b)) {
    if (await finish(whole.subarray(0, place))) {
      const entries = await requireBeginning()
      assert.ok(
        entries >= most,
        `cut at ${place}, ${entries} entries are left, and ${most} when it is shorter`,
      )
      most = entries
    } else {
      nothing++
      assert.equal(most, 0, 'nothing is left of more than something was left of')
    }
  }
  assert.equal(most, wholeEntries.length)
  assert.ok(nothing > 0)
})

test('an archive with a damaged byte keeps what stands before it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (place, change) => {
      const bytes = Buffer.from(whole)
      bytes[place]! ^= change
      if (await finish(bytes)) await requireBeginning()
    }),
    { numRuns: 25, examples: [[whole.length - 4, 1]] },
  )
})

test('one that lacks nothing but its seek table is the archive that it was going to be', async () => {
  assert.ok(await finish(whole.subarray(0, frameEnds.at(-1)!)))
  assert.deepEqual(readFileSync(archivePath()), whole)
  assert.ok(await finish(whole))
  assert.deepEqual(readFileSync(archivePath()), whole)
  assert.deepEqual((await readArchive()).end, wholeEnd)
})

test('finishing what was finished changes nothing', async () => {
  assert.ok(await finish(whole.subarray(0, Math.floor(whole.length / 2))))
  const once = readFileSync(archivePath())
  assert.ok(await finish(once))
  assert.deepEqual(readFileSync(archivePath()), once)
})

test('a file whose writer is still there is left alone', async () => {
  const path = `${folder.path}/busy`
  const writer = await PartialFile.create(path)
  await writer.write(whole)
  const plan = () => planFinish(path + partialSuffix)
  await assert.rejects(PartialFile.reopen(path, plan), { code: 'EBUSY' })
  assert.equal(
    createHash('sha256')
      .update(readFileSync(path + partialSuffix))
      .digest('hex'),
    sha256(whole),
  )
  await writer.abandon()
  const file = await PartialFile.reopen(path, plan)
  await file.discard()
})

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

test('frames are found wherever the reads end', async () => {
  const path = `${folder.path}/scanned`
  copyFileSync(archivePath(), path)
  writeFileSync(path, whole)
  truncateSync(path, whole.length - 3)
  const file = await open(path)
  const ends: number[] = []
  for await (const { fileOffset, bytes } of scanFrames(file)) ends.push(fileOffset + bytes.length)
  await file.close()
  assert.deepEqual(ends, frameEnds)
})
