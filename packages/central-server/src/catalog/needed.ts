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
