import type { Catalog, Run } from './catalog.ts'

/** Rows that are removed in one transaction: some tens of milliseconds. */
const purgedRowsMax = 10_000

/**
 * Makes the catalog forget a run and its archive: the row in one transaction that survives a power loss, so that the file
 * may go; then, bit by bit, the versions that no other run has. Those that a crash leaves are invisible.
 */
export function removeRun(catalog: Catalog, run: Run): void {
  catalog.durableTransaction(() => catalog.statements.deleteRun.run(run.id))
  if (run.generation === null) return
  const purge = { generation: run.generation, limit: purgedRowsMax }
  while (catalog.transaction(() => catalog.statements.purgeUnused.run(purge).changes) > 0);
}
