import type { RunKind } from './entry.ts'
import { partialSuffix } from './partial-file.ts'

const suffix = '.tar.zst'
const namePattern = /^(\d{4})-(\d{2})-(\d{2})T(\d{2})(\d{2})(\d{2})Z-(full|incremental)\.tar\.zst$/
const partialPattern = /^(.+\.tar\.zst)(?:\.([a-z][a-z-]{0,31}))?$/

/** What the name of an archive says. */
export interface ArchiveName {
  /** Start of the run, whole seconds, as milliseconds since 1970. */
  startedAtMs: number
  kind: RunKind
}

/** `2026-11-21T030000Z-full.tar.zst`: start of the run in UTC, cut to the second, and its kind. */
export function formatArchiveName({ startedAtMs, kind }: ArchiveName): string {
  const time = new Date(startedAtMs).toISOString()
  const name = `${time.slice(0, 19).replaceAll(':', '')}Z-${kind}${suffix}`
  if (!namePattern.test(name)) throw new RangeError(`a run cannot have started at ${time}`)
  return name
}

/** Reads what `formatArchiveName` writes, and nothing else: `null` also for the 31st of February. */
export function parseArchiveName(name: string): ArchiveName | null {
  const match = namePattern.exec(name)
  if (match === null) return null
  const [, year, month, day, hour, minute, second, kind] = match
  const startedAtMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (Number.isNaN(startedAtMs)) return null
  const parsed = { startedAtMs, kind: kind as RunKind }
  return formatArchiveName(parsed) === name ? parsed : null
}

/** Reads the name of an archive that is not whole: `NAME.partial`, or `NAME.REASON.partial` for one that was set aside. */
export function parsePartialName(name: string): { archive: string; reason: string | null } | null {
  if (!name.endsWith(partialSuffix)) return null
  const match = partialPattern.exec(name.slice(0, -partialSuffix.length))
  if (match === null || parseArchiveName(match[1]!) === null) return null
  return { archive: match[1]!, reason: match[2] ?? null }
}
