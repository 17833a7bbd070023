import type Database from 'better-sqlite3'
import type { CatalogError } from '../errors.ts'
import { catalogDamaged } from './failure.ts'
import { checksummedRunColumns } from './statements.ts'
import { areSound, type Watched } from './watched-rows.ts'

/** A run whose row is not what was written. */
export interface DamagedRun {
  id: number
  /** The host that it is of; `null` where that cannot be told. */
  host: string | null
}

/** What `integrity_check` says of an index or of values, and not of the table itself, all of whose rows can then be read. */
const ofRows =
  /^(row \d+ missing from index |wrong # of entries in index |non-unique entry in index |(NULL|NUMERIC|TEXT|BLOB|INT|INTEGER|REAL) value in |CHECK constraint failed in )/

/** SQLite takes names in capitals for the same, and gives rows with them. All names of this program are in small letters. */
const otherNames = `SELECT tables.name || '.' || columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
  WHERE tables.type = 'table' AND columns.name <> lower(columns.name) LIMIT 1`

/**
 * What is wrong with what people see first, and what retention and the next run decide by: an archive that an index has
 * under another name would be taken for a stranger, and set aside. `null` where all is well. Some microseconds for each
 * run that is looked at: all of them, or where `watched` is given and nothing is wrong with these, no others. Throws
 * what SQLite throws.
 */
export function findDamage(
  database: Database.Database,
  file: string,
  watched?: Watched,
): { error: CatalogError; isReadable: boolean } | null {
  const renamed = database.prepare<[], string>(otherNames).pluck().get()
  if (renamed !== undefined)
    return { error: catalogDamaged(file, `its schema has a column ${renamed}`), isReadable: false }
  if (watched !== undefined && areSound(database, watched)) return null
  const faults = ['hosts', 'runs'].flatMap((table) =>
    (database.pragma(`integrity_check(${table})`) as { integrity_check: string }[])
      .map((row) => row.integrity_check)
      .filter((text) => text !== 'ok'),
  )
  const damaged = database.prepare<[], string>('SELECT row FROM damaged_rows').pluck().all()
  if (faults.length === 0 && damaged.length === 0) return null
  const [first] = [...damaged.map((row) => `${row} is not what was written`), ...faults]
  return { error: catalogDamaged(file, first!), isReadable: faults.every((fault) => ofRows.test(fault)) }
}

/**
 * Leaves out of hosts and runs what is not what was written, for this connection: tables of its own take their place,
 * and what is asked of indexes is not asked of those that may be damaged. To be called before statements are prepared.
 * Returns the runs that are left out.
 */
export function leaveOutDamaged(database: Database.Database): DamagedRun[] {
  const queryOnly = database.pragma('query_only', { simple: true }) as number
  database.pragma('query_only = OFF')
  database.exec(`
    CREATE TEMP TABLE hosts AS SELECT * FROM main.hosts NOT INDEXED
      WHERE 'host ' || id NOT IN (SELECT row FROM damaged_rows);
    CREATE TEMP TABLE runs AS SELECT * FROM main.runs NOT INDEXED
      WHERE 'run ' || id NOT IN (SELECT row FROM damaged_rows) AND host_id IN (SELECT id FROM temp.hosts);
    CREATE UNIQUE INDEX temp.runs_by_id ON runs (id);
    CREATE INDEX temp.runs_by_generation ON runs (generation);`)
  const columns = checksummedRunColumns
    .map((column) => (column === 'host_id' ? 'other.id' : column))
    .join(', ')
  const left = database
    .prepare<[], DamagedRun>(
      // Where the row is what was written but for its host, that is another one.
      `SELECT id, COALESCE(
         (SELECT name FROM temp.hosts AS other WHERE damaged.checksum IS row_checksum(${columns.replace(/^id,/, 'damaged.id,')})),
         (SELECT name FROM temp.hosts AS own WHERE own.id = damaged.host_id)) AS host
       FROM main.runs AS damaged NOT INDEXED WHERE damaged.id NOT IN (SELECT sound.id FROM temp.runs AS sound)`,
    )
    .all()
  database.pragma(`query_only = ${queryOnly === 1 ? 'ON' : 'OFF'}`)
  return left
}
