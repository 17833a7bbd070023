import type { BytePath } from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import { requireKey } from './failure.ts'
import { pathOfSortKey } from './version-row.ts'

/** Rows of one query, so that others can write to the catalog in between. */
const pathsRowsMax = 10_000

/** The archive of a run as one of those of its generation, and what of it could be thrown away. */
export interface ChainLink {
  run: Run
  /** Retention removed its run before the time that was asked for. */
  removed: boolean
  /** Bytes of content that it holds, and how many of them some version still has. */
  storedBytes: number
  neededBytes: number
  /** It has pieces of content that lies in several archives: such an archive stays as it is. */
  inPieces: boolean
  /** Objects with several names began in its run: in a tar stream these have to stand in their order. */
  hasLinks: boolean
  /** It was found that it cannot be packed anew. */
  refused: boolean
}

/**
 * The archives of each generation of a host of which a run was removed before a time, in the order in which they build on each
 * other. Where a removed one holds content, looks at all versions of the generation: about a second for a million.
 */
export function chainsWithRemoved(catalog: Catalog, host: string, beforeMs: number): ChainLink[][] {
  const { statements } = catalog
  const removed = new Set(statements.removedRuns.all({ host, beforeMs }).map(({ id }) => id))
  if (removed.size === 0) return []
  const chains = Map.groupBy(catalog.archivedRuns(host), ({ generation }) => generation)
  return [...chains].flatMap(([generation, runs]) => {
    const those = runs.filter(({ id }) => removed.has(id))
    if (those.length === 0) return []
    const looks = those.some(({ storedBytes }) => storedBytes > 0)
    const needed = new Map(
      looks ? statements.neededBytes.all(generation).map(({ run, bytes }) => [run, bytes] as const) : [],
    )
    const inPieces = new Set(looks ? statements.runsOfPieces.all(generation) : [])
    return [
      runs.map((run) => ({
        run,
        removed: removed.has(run.id),
        storedBytes: run.storedBytes,
        neededBytes: needed.get(run.id) ?? 0,
        inPieces: inPieces.has(run.id),
        hasLinks: false,
        refused: false,
      })),
    ]
  })
}

/** Fills in `hasLinks` for some runs of a chain; looks at all versions of the generation. Returns whether there are any. */
export function findLinks(
  { statements }: Catalog,
  chain: readonly ChainLink[],
  runs: readonly Run[],
): boolean {
  const generation = chain[0]!.run.generation
  const list = JSON.stringify(runs.map(({ id }) => id))
  const found = new Set(statements.runsOfLinks.all({ generation, runs: list }))
  for (const link of chain) link.hasLinks ||= found.has(link.run.id)
  return found.size > 0
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
export function* neededPaths(
  { statements, file }: Catalog,
  { generation, id }: Run,
): IterableIterator<BytePath> {
  let after: Buffer = Buffer.alloc(0)
  for (;;) {
    const keys = statements.neededPaths.all({ generation, run: id, after, limit: pathsRowsMax })
    for (const key of keys) {
      requireKey(key, file)
      yield pathOfSortKey(key)
    }
    if (keys.length < pathsRowsMax) return
    after = keys.at(-1)!
  }
}

/** Where the archive of a run has content that versions have, whichever run they are of. */
export function neededContents({ statements }: Catalog, { generation, id }: Run): Float64Array {
  return Float64Array.from(statements.neededContents.all({ generation, run: id }))
}
