/** Whether archives are what they should be: whole, and readable without any of our programs. */
import assert from 'node:assert/strict'
import { ArchiveReader, type Entry, MemberCheck, textFromBytes } from '@central-backup/archive'
import { runCommand } from './program.ts'
import type { Site } from './site.ts'

/**
 * All entries of an archive by path, after the content that it has of each was read and compared with its digest, and
 * the tar stream with the index.
 */
export async function readWholeArchive(path: string): Promise<Map<string, Entry>> {
  await using reader = await ArchiveReader.open(path)
  const entries = new Map<string, Entry>()
  const members = new MemberCheck(reader)
  for await (const { header, entries: batch } of reader.batches()) {
    if (header !== null) members.begin(header)
    for (const entry of batch) {
      await members.add(entry)
      const isHere = entry.extents.every(({ archive }) => archive === null)
      // Throws where the content is not what was recorded.
      if (isHere) for await (const _ of reader.readContent(entry));
      entries.set(textFromBytes(entry.path), entry)
    }
  }
  await members.finish()
  return entries
}

/** Fails unless every file of the repository that is not `.partial` is whole, for us and for stock zstd and tar. */
export async function requireWholeArchives(
  site: Site,
  host: string,
  known = new Set<string>(),
): Promise<void> {
  for (const path of site.archives(host)) {
    if (known.has(path)) continue
    const entries = await readWholeArchive(path)
    if (path.endsWith('-full.tar.zst')) assert.ok(entries.size > 0, `${path} has no entries`)
    const tested = await runCommand(['zstd', '-t', '-q', path])
    assert.equal(tested.code, 0, `zstd -t ${path}: ${tested.stderr}`)
    const listed = await runCommand(['tar', '--zstd', '-tf', path])
    assert.equal(listed.code, 0, `tar -t ${path}: ${listed.stderr}`)
    known.add(path)
  }
}
