import { checkArchiveName, readArchiveName } from './archive-table.ts'
import {
  type ArchiveEnd,
  type ArchiveHeader,
  type Counts,
  outcomes,
  type Repack,
  type RunKind,
} from './entry.ts'
import { ArchiveError } from './errors.ts'
import { headerArchivesMax, headerPatternsBytesMax, headerPatternsMax, headerTextBytesMax } from './limits.ts'
import type { MsgpackReader, MsgpackWriter } from './msgpack.ts'
import { type BytePath, bytesFromText, textFromBytes } from './path.ts'

/** The header and the end of an index: maps whose keys stand in the order in which they are written here. */

const kinds: readonly RunKind[] = ['full', 'incremental']

const countKeys: readonly (keyof Counts)[] = [
  'files',
  'directories',
  'symlinks',
  'hardlinks',
  'specials',
  'sockets',
  'unchanged',
  'gone',
  'excluded',
  'changed',
  'vanished',
  'unreadable',
  'attributes',
  'contentBytes',
]

const timestampMsMax = Number.MAX_SAFE_INTEGER

/** At least what `writeHeader` writes, which is checked against the maxima of the format on the way. */
export function headerBytesMax(header: ArchiveHeader): number {
  const patterns = [...header.paths, ...header.exclude]
  const archives = header.repack === null ? [] : [...header.repack.kept, ...header.repack.absorbed]
  return (
    256 +
    3 * (header.host.length + header.software.length + (header.base?.length ?? 0)) +
    patterns.reduce((sum, { length }) => sum + 5 + 3 * length, 0) +
    archives.reduce((sum, { length }) => sum + 5 + length, 0)
  )
}

export function writeHeader(writer: MsgpackWriter, header: ArchiveHeader): void {
  checkText('the name of the host', header.host)
  checkText('the name of the program', header.software)
  if (header.base !== null) checkArchiveName(header.base)
  const paths = header.paths.map(bytesFromText)
  const exclude = header.exclude.map(bytesFromText)
  const patternBytes = [...paths, ...exclude].reduce((sum, { length }) => sum + length, 0)
  if (patternBytes > headerPatternsBytesMax) {
    throw tooMuch('paths and exclude patterns', patternBytes, `${headerPatternsBytesMax} bytes`)
  }
  const patternCount = Math.max(paths.length, exclude.length)
  if (patternCount > headerPatternsMax) {
    throw tooMuch('paths or exclude patterns', patternCount, `${headerPatternsMax}`)
  }

  writer.map(header.repack === null ? 7 : 8)
  writer.text('host')
  writer.text(header.host)
  writer.text('kind')
  writer.text(header.kind)
  writer.text('base')
  if (header.base === null) writer.nil()
  else writer.text(header.base)
  writer.text('startedAtMs')
  writer.integer(header.startedAtMs)
  writer.text('software')
  writer.text(header.software)
  writer.text('paths')
  writePatterns(writer, paths)
  writer.text('exclude')
  writePatterns(writer, exclude)
  if (header.repack !== null) {
    writer.text('repack')
    writer.map(2)
    writer.text('kept')
    writeArchives(writer, header.repack.kept)
    writer.text('absorbed')
    writeArchives(writer, header.repack.absorbed)
  }
}

export function readHeader(reader: MsgpackReader): ArchiveHeader {
  const keys = reader.map('header')
  if (keys !== 7 && keys !== 8) throw reader.error('header: 7 or 8 keys expected')
  expectKey(reader, 'host')
  const host = readText(reader, 'host')
  expectKey(reader, 'kind')
  const kind = readOneOf(reader, kinds, 'kind')
  expectKey(reader, 'base')
  const base = reader.nil() ? null : readArchiveName(reader, 'base')
  if ((base === null) !== (kind === 'full'))
    throw reader.error('base: an incremental archive has one, and no other has')
  expectKey(reader, 'startedAtMs')
  const startedAtMs = reader.unsigned(timestampMsMax, 'startedAtMs')
  expectKey(reader, 'software')
  const software = readText(reader, 'software')
  expectKey(reader, 'paths')
  const paths = readPatterns(reader, headerPatternsBytesMax, 'paths')
  expectKey(reader, 'exclude')
  const exclude = readPatterns(reader, headerPatternsBytesMax - paths.bytes, 'exclude')
  const repack = keys === 8 ? readRepack(reader) : null
  return { host, kind, base, startedAtMs, software, paths: paths.patterns, exclude: exclude.patterns, repack }
}

function readRepack(reader: MsgpackReader): Repack {
  expectKey(reader, 'repack')
  if (reader.map('repack') !== 2) throw reader.error('repack: 2 keys expected')
  expectKey(reader, 'kept')
  const kept = readArchives(reader, 'kept')
  expectKey(reader, 'absorbed')
  return { kept, absorbed: readArchives(reader, 'absorbed') }
}

/** At least what `writeEnd` writes. */
export const endBytesMax = 640

export function writeEnd(writer: MsgpackWriter, end: ArchiveEnd): void {
  writer.map(4)
  writer.text('outcome')
  writer.text(end.outcome)
  writer.text('counts')
  writer.map(countKeys.length)
  for (const key of countKeys) {
    writer.text(key)
    writer.integer(end.counts[key])
  }
  writer.text('finishedAtMs')
  writer.integer(end.finishedAtMs)
  writer.text('broken')
  writer.integer(end.broken ? 1 : 0)
}

export function readEnd(reader: MsgpackReader): ArchiveEnd {
  if (reader.map('end') !== 4) throw reader.error('end: 4 keys expected')
  expectKey(reader, 'outcome')
  const outcome = readOneOf(reader, outcomes, 'outcome')
  expectKey(reader, 'counts')
  if (reader.map('counts') !== countKeys.length) {
    throw reader.error(`counts: ${countKeys.length} keys expected`)
  }
  const counts = {} as Counts
  for (const key of countKeys) {
    expectKey(reader, key)
    counts[key] = reader.unsigned(Number.MAX_SAFE_INTEGER, key)
  }
  expectKey(reader, 'finishedAtMs')
  const finishedAtMs = reader.unsigned(timestampMsMax, 'finishedAtMs')
  expectKey(reader, 'broken')
  const broken = reader.unsigned(1, 'broken') === 1
  if (broken && outcome !== 'incomplete')
    throw reader.error('broken: a run that was broken off is incomplete')
  return { outcome, counts, finishedAtMs, broken }
}

/** Reads the key that must come next. */
export function expectKey(reader: MsgpackReader, key: string): void {
  if (!reader.key(key)) throw reader.error(`the key ${key} expected`)
}

function writeArchives(writer: MsgpackWriter, names: readonly string[]): void {
  if (names.length > headerArchivesMax)
    throw tooMuch('names of archives', names.length, `${headerArchivesMax}`)
  writer.array(names.length)
  for (const name of names) {
    checkArchiveName(name)
    writer.text(name)
  }
}

function readArchives(reader: MsgpackReader, what: string): string[] {
  const count = reader.array(headerArchivesMax, what)
  return Array.from({ length: count }, () => readArchiveName(reader, what))
}

// As `bin`: a pattern may hold bytes that are not UTF-8, in the notation of `textFromBytes`.
function writePatterns(writer: MsgpackWriter, patterns: readonly BytePath[]): void {
  writer.array(patterns.length)
  for (const pattern of patterns) writer.byteString(pattern)
}

function readPatterns(
  reader: MsgpackReader,
  bytesMax: number,
  what: string,
): { patterns: string[]; bytes: number } {
  const count = reader.array(headerPatternsMax, what)
  const patterns: string[] = []
  let bytes = 0
  for (let i = 0; i < count; i++) {
    const pattern = reader.byteString(bytesMax - bytes, what) as BytePath
    bytes += pattern.length
    patterns.push(textFromBytes(pattern))
  }
  return { patterns, bytes }
}

function readOneOf<T extends string>(reader: MsgpackReader, choices: readonly T[], what: string): T {
  for (const choice of choices) if (reader.key(choice)) return choice
  throw reader.error(`${what}: ${choices.join(' or ')} expected`)
}

function readText(reader: MsgpackReader, what: string): string {
  const text = reader.text(headerTextBytesMax, what)
  if (!isPrintable(text)) throw reader.error(`${what}: empty, or with control characters`)
  return text
}

function checkText(what: string, text: string): void {
  const size = Buffer.byteLength(text)
  if (size > headerTextBytesMax) throw tooMuch(what, size, `${headerTextBytesMax} bytes`)
  if (!isPrintable(text)) {
    throw new ArchiveError('entry-limit', `in ${what} there are control characters, or nothing`)
  }
}

function isPrintable(text: string): boolean {
  return text !== '' && !/\p{C}/u.test(text)
}

function tooMuch(what: string, found: number, max: string): ArchiveError {
  return new ArchiveError('entry-limit', `an archive has no room for ${what}: ${found} found, at most ${max}`)
}
