import { type BytePath, type Entry, type Gone, pathBytesMax, textFromBytes } from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import { openReferences } from './references.ts'
import type { Search } from './search-pattern.ts'
import { endReasonOf, pathOfSortKey, toEntry, type VersionRow } from './version-row.ts'

/** A version of a path that matched a search, and the time in which it stood. */
export interface FoundVersion {
  host: string
  path: BytePath
  entry: Entry
  /** The first run in which it stood, and the last as far as is known. */
  firstRun: Run
  lastRun: Run
  /** Of the last version of a path that stands no more. */
  gone: GoneSince | null
}

export interface GoneSince {
  /** The first run that is left of those in which nothing stood there. */
  run: Run
  /** `null` where that is not known: a full run did not find it, or the run that could tell was removed. */
  reason: Gone['reason'] | null
}

/** Every version of every path of a host that is looked for, in order of path, then time. */
export function* findVersions(
  catalog: Catalog,
  host: string,
  { matches, needle, prefix }: Search,
): IterableIterator<FoundVersion> {
  const runs = catalog
    .runs(host)
    .filter(({ archive }) => archive !== null)
    .reverse()
  const references = openReferences(catalog)
  const generations = [...new Set(runs.map(({ generation }) => generation))]
  const range = { from: prefix ?? Buffer.alloc(0), end: endOfPrefix(prefix ?? Buffer.alloc(0)) }
  const rows = catalog.statements.searchVersions.iterate({
    generations: JSON.stringify(generations),
    needle,
    ...range,
  })
  let last: { row: VersionRow; version: FoundVersion } | null = null
  for (const row of rows) {
    const path = pathOfSortKey(row.path)
    if (!matches(`/${textFromBytes(path)}`)) continue
    const stood = runs.filter(
      ({ id, generation }) =>
        generation === row.generation && id >= row.first_run && (row.end_run === null || id < row.end_run),
    )
    const [firstRun, lastRun] = [stood[0], stood.at(-1)]
    if (firstRun === undefined || lastRun === undefined) continue
    if (last !== null) yield last.row.path.equals(row.path) ? last.version : withEnd(last, runs)
    last = { row, version: { host, path, entry: toEntry(row, references), firstRun, lastRun, gone: null } }
  }
  if (last !== null) yield withEnd(last, runs)
}

/** What a broken run did not come to may still be there, so such a run tells of an end only where it names it. */
function withEnd(
  { row, version }: { row: VersionRow; version: FoundVersion },
  runs: readonly Run[],
): FoundVersion {
  const later = runs.slice(runs.indexOf(version.lastRun) + 1)
  const run = later.find(({ id, outcome, broken }) => outcome !== 'failed' && (!broken || id === row.end_run))
  return run === undefined ? version : { ...version, gone: { run, reason: endReasonOf(row) } }
}

/** A key behind all that begin with a prefix. No byte of a key is followed by more of them than a path may have. */
function endOfPrefix(prefix: Buffer): Buffer {
  return Buffer.concat([prefix, Buffer.alloc(pathBytesMax, 0xff)])
}
