import type { Catalog, Run } from './catalog.ts'
import { keyRanges } from './key-ranges.ts'
import { purgeRun } from './record-run.ts'

/** For so long, `list` tells of a run that failed and left nothing. */
const failuresToldMs = 30 * 24 * 3_600_000

/** Ids of failed runs of a host that nobody needs to know of any more. The last run of a host is always told. */
export function oldFailures({ statements }: Catalog, host: string, nowMs: number): number[] {
  return statements.oldFailures.all({ host, beforeMs: nowMs - failuresToldMs })
}

/** Removes runs that `oldFailures` has named, with what a crash may have left of them. */
export function forgetFailures(catalog: Catalog, runs: readonly number[]): void {
  // An incremental one was undone together with its end.
  for (const id of runs) purgeRun(catalog, id, id)
  if (runs.length > 0)
    catalog.transaction(() => runs.forEach((id) => void catalog.statements.deleteRun.run(id)))
}

/**
 * Takes a run out of what people see, and removes the versions that no other run has. Its archive may be needed on: by
 * later runs for content, and to make the catalog anew. The row is written so that it survives a power loss.
 */
export function removeRun(catalog: Catalog, run: Pick<Run, 'id' | 'generation'>, atMs: number): void {
  catalog.durableTransaction(() => catalog.statements.setRemoved.run({ id: run.id, atMs }))
  purgeRemoved(catalog, run)
}

/** Removes the versions of a generation that stand only in runs that were removed. */
export function purgeRemoved(catalog: Catalog, { generation }: Pick<Run, 'generation'>): void {
  const { unusedVersions, inheritEnd, deleteVersion } = catalog.statements
  for (const range of keyRanges(catalog, generation)) {
    catalog.transaction(() => {
      for (const row of unusedVersions.all(range)) {
        inheritEnd.run(row)
        deleteVersion.run(row)
      }
    })
  }
}

/**
 * Forgets the removed runs of a host that no other builds on: those of whole generations, and those behind the last run
 * of one that is not removed. Returns the names of their archives, which nothing needs any more. Before the last one of
 * a generation none goes alone: what a run says of deletions holds for all that follow. The newest comes first: what a
 * crash leaves has then all that it builds on, and is taken in again. Nothing of `keptGenerations` is forgotten, as
 * others have content there.
 */
export function forgetUnneededRuns(
  catalog: Catalog,
  host: string,
  keptGenerations: ReadonlySet<number> = new Set(),
): string[] {
  const { statements } = catalog
  const unneeded = () =>
    statements.unneededRuns.all(host).filter(({ id, generation }) => !keptGenerations.has(generation ?? id))
  const first = new Map<number, number>()
  for (const row of unneeded()) {
    const generation = row.generation ?? row.id
    first.set(generation, Math.min(row.id, first.get(generation) ?? row.id))
  }
  // A crash in between leaves runs that are forgotten the next time, and that nobody sees.
  for (const [generation, run] of first) {
    purgeRemoved(catalog, { generation })
    for (const range of keyRanges(catalog, generation))
      catalog.transaction(() => statements.endNoMore.run({ ...range, run }))
  }
  return catalog.durableTransaction(() => {
    const runs = unneeded()
    for (const { id } of runs) statements.deleteRun.run(id)
    return runs.flatMap(({ archive }) => archive ?? [])
  })
}
