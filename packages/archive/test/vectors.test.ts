import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { decompressFrame, indexFrameMagic, unwrapSkippable } from '../src/frame.ts'
import { ArchiveReader } from '../src/index.ts'
import { run, skippedWithout } from './oracles.ts'
import { all, buildArchive } from './sample.ts'
import { archivePath, describe, expectedPath, sha256, vectors } from './vectors/make.ts'

const changed = 'the format has changed: that needs a new version and a new vector, see test/vectors/make.ts'

const directory = mkdtempSync(join(tmpdir(), 'archive-vectors-'))
after(() => rmSync(directory, { recursive: true }))

for (const vector of vectors) {
  const pinned = archivePath(vector)
  const expected: unknown = JSON.parse(readFileSync(expectedPath(vector), 'utf8'))

  test(`the archive ${vector.name} is read as it was pinned`, async () => {
    assert.deepEqual(await describe(pinned), expected, changed)
  })

  test(`the archive ${vector.name} is made today as it was pinned, but for what zstd makes of it`, async () => {
    const today = buildArchive(vector.members(), vector.options)
    assert.deepEqual(contents(today), contents(readFileSync(pinned)), changed)
    const path = join(directory, vector.name)
    writeFileSync(path, today)
    assert.deepEqual(await describe(path), expected, changed)
  })

  test(`the files in the archive ${vector.name} have the content that was packed`, async () => {
    await using reader = await ArchiveReader.open(pinned)
    const packed = new Map(vector.members().map(({ entry, content }) => [entry.path, content]))
    for await (const { entries } of reader.batches()) {
      for (const entry of entries) {
        if (entry.type !== 'file' || entry.extents.some(({ archive }) => archive !== null)) continue
        assert.deepEqual(
          Buffer.concat(await all(reader.readContent(entry))),
          packed.get(entry.path),
          entry.path,
        )
      }
    }
  })

  test(`a reader in another language finds the same in the archive ${vector.name}`, (t) => {
    if (skippedWithout(t, 'python3') || skippedWithout(t, 'zstd')) return
    const found = run('python3', [join(import.meta.dirname, 'read-archive.py'), pinned], 'C.UTF-8')
    assert.deepEqual(JSON.parse(found.toString()), expected)
  })
}

/** SHA-256 of what is in each frame, in order, found without the reader: by walking over the frames. */
function contents(archive: Buffer): string[] {
  const found: string[] = []
  const footer = archive.length - 9
  const frames = archive.readUInt32LE(footer)
  let at = 0
  for (let i = 0; i < frames; i++) {
    const size = archive.readUInt32LE(footer - 8 * (frames - i))
    const frame = archive.subarray(at, at + size)
    const isIndex = frame.readUInt32LE(0) === indexFrameMagic
    const content = decompressFrame(isIndex ? unwrapSkippable(indexFrameMagic, frame) : frame)
    found.push(`${isIndex ? 'index' : 'tar'} ${sha256(content)}`)
    at += size
  }
  return found
}
