import { Catalog } from './catalog.ts'
import { withCatalogErrors } from './failure.ts'
import { temporaryFile } from './open.ts'

/** How many faults of its pages SQLite tells. */
const faultsMax = 100

/**
 * What is wrong with the database as such: its pages, indexes and types, its schema, the rows that only it has. For people, one
 * line each. Reads it all, about a second for a million versions. Throws `CatalogError`.
 */
export function catalogFaults(catalog: Catalog): string[] {
  return withCatalogErrors(catalog.file, () => {
    const { database, statements } = catalog
    const pages = database.pragma(`integrity_check(${faultsMax})`) as { integrity_check: string }[]
    const faults = pages.map((row) => row.integrity_check).filter((text) => text !== 'ok')
    using fresh = new Catalog(temporaryFile)
    if (statements.schema.get() !== fresh.statements.schema.get())
      faults.push('its schema is not the one of this program')
    for (const row of statements.damagedRows.all()) faults.push(`${row} is not what was written`)
    const { length } = database.pragma('foreign_key_check') as unknown[]
    if (length > 0) faults.push(`${length} rows are of runs or hosts that are not there`)
    for (const generation of statements.strayGenerations.all())
      faults.push(`it has versions of run ${generation}, which it does not know`)
    if (statements.isSequenceLow.get() === 1) faults.push('it would give the number of a run once more')
    return faults
  })
}
