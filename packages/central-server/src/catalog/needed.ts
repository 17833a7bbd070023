import type { BytePath } from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import { pathOfSortKey } from './version-row.ts'

/** Rows of one query, so that others can write to the catalog in between. */
const pathsRowsMax = 10_000

/** An archive of a removed run, and how much of the content that it holds some version still has. */
export interface PartlyNeeded {
  run: Run
  storedBytes: number
  neededBytes: number
}

/**
 * Archives of runs of a host that retention removed before a time, and that hold content. Those whose content is in
 * pieces are left out. Looks at all versions of their generations: about a second for a million.
 */
export function partlyNeeded(catalog: Catalog, host: string, beforeMs: number): PartlyNeeded[] {
  const { statements } = catalog
  const removed = statements.removedRuns
    .all({ host, beforeMs })
    .filter(({ stored_bytes }) => stored_bytes > 0)
    .map((row) => ({ run: catalog.run(row.id)!, storedBytes: row.stored_bytes }))
  const generations = [...new Set(removed.map(({ run }) => run.generation))]
  const needed = new Map(
    generations.flatMap((generation) =>
      statements.neededBytes.all(generation).map(({ run, bytes }) => [run, bytes] as const),
    ),
  )
  const inPieces = new Set(generations.flatMap((generation) => statements.runsOfPieces.all(generation)))
  return removed
    .filter(({ run }) => !inPieces.has(run.id))
    .map(({ run, storedBytes }) => ({ run, storedBytes, neededBytes: needed.get(run.id) ?? 0 }))
}

/** A version whose content lies in an archive, and the runs in which it stands: from the first up to, not including, the end. */
export interface VersionInArchive {
  path: BytePath
  firstRun: number
  endRun: number | null
}

/** All versions of a generation whose content lies in the archive of a run, in path order. */
export function* versionsInArchive(
  { statements }: Catalog,
  generation: number,
  run: number,
): IterableIterator<VersionInArchive> {
  let after: Buffer = Buffer.alloc(0)
  for (;;) {
    const rows = statements.versionsInArchive.all({ generation, run, after, limit: pathsRowsMax })
    // A path whose versions may go on in the next page is left to it.
    const last = rows.length < pathsRowsMax ? null : rows.at(-1)!.path
    for (const { path, first_run, end_run } of rows) {
      if (last?.equals(path)) break
      yield { path: pathOfSortKey(path), firstRun: first_run, endRun: end_run }
      after = path
    }
    if (last === null) return
  }
}

/** Paths of the versions that stand first in a run, in path order. */
export function* neededPaths({ statements }: Catalog, { generation, id }: Run): IterableIterator<BytePath> {
  let after: Buffer = Buffer.alloc(0)
  for (;;) {
    const keys = statements.neededPaths.all({ generation, run: id, after, limit: pathsRowsMax })
    for (const key of keys) yield pathOfSortKey(key)
    if (keys.length < pathsRowsMax) return
    after = keys.at(-1)!
  }
}

/** Where the archive of a run has content that versions have, whichever run they are of. */
export function neededContents({ statements }: Catalog, { generation, id }: Run): Float64Array {
  return Float64Array.from(statements.neededContents.all({ generation, run: id }))
}
