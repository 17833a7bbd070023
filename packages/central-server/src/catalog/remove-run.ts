import type { Catalog, Run } from './catalog.ts'

/** Rows that are removed in one transaction: some tens of milliseconds. */
const purgedRowsMax = 10_000

/**
 * Takes a run out of what people see, and removes the versions that no other run has. Its archive may be needed on: by
 * later runs for content, and to make the catalog anew. The row is written so that it survives a power loss.
 */
export function removeRun(catalog: Catalog, run: Pick<Run, 'id' | 'generation'>, atMs: number): void {
  catalog.durableTransaction(() => catalog.statements.setRemoved.run({ id: run.id, atMs }))
  purgeRemoved(catalog, run)
}

/** Removes the versions of a generation that stand only in runs that were removed. */
export function purgeRemoved(catalog: Catalog, run: Pick<Run, 'generation'>): void {
  const purge = { generation: run.generation, limit: purgedRowsMax }
  while (catalog.transaction(() => catalog.statements.purgeUnused.run(purge).changes) > 0);
}

/**
 * Forgets the removed runs of a host whose whole generation is removed, and returns the names of their archives, which
 * nothing needs any more. Within a generation none goes alone: what a run says of deletions holds for all that follow.
 */
export function forgetUnneededRuns(catalog: Catalog, host: string): string[] {
  return catalog.durableTransaction(() => {
    const runs = catalog.statements.unneededRuns.all(host)
    for (const { id } of runs) catalog.statements.deleteRun.run(id)
    return runs.flatMap(({ archive }) => archive ?? [])
  })
}
