import type { Extent } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { archiveNameBytesMax, batchArchivesMax } from './limits.ts'
import type { MsgpackReader, MsgpackWriter } from './msgpack.ts'

const noNames: ReadonlySet<string> = new Set()

/** Other archives that the extents of one batch point into; an archive's number is its place, counted from 1. */
export class ArchiveTable {
  readonly names: string[] = []
  readonly #numbers = new Map<string, number>()
  /** At least what `writeArchiveNames` writes for them. */
  bytes = 0

  /** Archives that the entry points into and that have no number yet. */
  missingFrom(extents: readonly Extent[]): ReadonlySet<string> {
    let missing: Set<string> | undefined
    for (let i = 0; i < extents.length; i++) {
      const { archive } = extents[i]!
      if (archive === null || this.#numbers.has(archive)) continue
      missing ??= new Set()
      missing.add(archive)
    }
    return missing ?? noNames
  }

  numberOf(archive: string | null): number {
    if (archive === null) return 0
    let number = this.#numbers.get(archive)
    if (number === undefined) {
      number = this.names.push(archive)
      this.#numbers.set(archive, number)
      this.bytes += archiveBytesMax(archive)
    }
    return number
  }

  clear(): void {
    this.names.length = 0
    this.#numbers.clear()
    this.bytes = 0
  }
}

/** At least what `writeArchiveNames` writes for one name. */
export function archiveBytesMax(name: string): number {
  return name.length + 5
}

/** What the name of an archive looks like: a file name that can be nothing else. */
const archiveName = /^[0-9A-Za-z][0-9A-Za-z._-]*$/

/** Throws an `ArchiveError` (`entry-limit`) for what cannot be the file name of an archive. */
export function checkArchiveName(name: string): void {
  if (archiveName.test(name) && name.length <= archiveNameBytesMax) return
  throw new ArchiveError('entry-limit', `${JSON.stringify(name)} cannot be the name of an archive`)
}

export function writeArchiveNames(writer: MsgpackWriter, names: readonly string[]): void {
  writer.array(names.length)
  for (const name of names) writer.text(name)
}

export function readArchiveNames(reader: MsgpackReader): string[] {
  const count = reader.array(batchArchivesMax, 'archives')
  const names: string[] = []
  for (let i = 0; i < count; i++) names.push(readArchiveName(reader, 'archive name'))
  return names
}

export function readArchiveName(reader: MsgpackReader, what: string): string {
  const name = reader.text(archiveNameBytesMax, what)
  if (archiveName.test(name)) return name
  throw reader.error(`${what}: letters, digits, dots, hyphens and underscores expected`)
}
