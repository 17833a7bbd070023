import type Database from 'better-sqlite3'
import { checksummedRunColumns } from './statements.ts'

/** Whose runs a command reads or changes: those of some hosts, or of the host that a run is of. */
export type Watched = { hosts: readonly string[] } | { run: number }

/** An entry of an index of runs, with what that has itself, and the row of the table, which is read by its number. */
const entriesOf = (index: string) =>
  `main.runs AS entry INDEXED BY ${index} CROSS JOIN main.runs AS row NOT INDEXED ON row.id = entry.id`

const isWritten = `row.checksum IS row_checksum(${checksummedRunColumns.map((column) => `row.${column}`).join(', ')})`

/** Few rows, of which none may be damaged, whoever they are of. */
const damagedElsewhere = [
  'SELECT COUNT(*) FROM main.hosts NOT INDEXED WHERE checksum IS NOT row_checksum(id, name, run_count)',
  `SELECT COUNT(*) FROM main.repacks
   WHERE checksum IS NOT row_checksum(run_id, digest, archive_bytes, stored_bytes, absorbed)`,
  // Runs at work, whose process may be dead: they are ended by the next who comes.
  `SELECT (SELECT COUNT(*) FROM main.runs INDEXED BY runs_at_work WHERE outcome IS NULL) -
     (SELECT COUNT(*) FROM ${entriesOf('runs_at_work')}
      WHERE entry.outcome IS NULL AND row.outcome IS NULL AND row.lease_token = entry.lease_token AND ${isWritten})`,
]

const generations = `SELECT row.generation FROM ${entriesOf('runs_by_host')} WHERE entry.host_id = :host`

/** Each as large as the number of runs that the row of the host tells, where nothing is damaged or missing. */
const countsOfHost = [
  'SELECT COUNT(*) FROM main.runs INDEXED BY runs_by_host WHERE host_id = :host',
  `SELECT COUNT(*) FROM ${entriesOf('runs_by_host')} WHERE entry.host_id = :host AND row.host_id = entry.host_id
     AND row.started_at_ms = entry.started_at_ms AND ${isWritten}`,
  'SELECT COUNT(*) FROM main.runs INDEXED BY sqlite_autoindex_runs_1 WHERE host_id = :host',
  `SELECT COUNT(*) FROM ${entriesOf('sqlite_autoindex_runs_1')} WHERE entry.host_id = :host
     AND row.host_id = entry.host_id AND row.archive IS entry.archive`,
  `SELECT COUNT(*) FROM main.runs INDEXED BY runs_by_generation WHERE generation IN (${generations})`,
  `SELECT COUNT(*) FROM ${entriesOf('runs_by_generation')} WHERE entry.generation IN (${generations})
     AND row.generation = entry.generation AND row.host_id = :host`,
]

/** Of a host, each 0 where nothing is damaged or missing. */
const damagedOfHost = [
  `SELECT COUNT(*) FROM main.repack_refusals AS refusal
   WHERE run_id IN (SELECT id FROM main.runs INDEXED BY runs_by_host WHERE host_id = :host)
     AND refusal.checksum IS NOT row_checksum(run_id, state, at_ms, reason)`,
  // A run at work that its index does not have would be so for ever.
  `SELECT (SELECT COUNT(*) FROM ${entriesOf('runs_by_host')} WHERE entry.host_id = :host AND row.outcome IS NULL) -
     (SELECT COUNT(*) FROM ${entriesOf('runs_at_work')} WHERE entry.outcome IS NULL AND row.host_id = :host)`,
]

/**
 * Whether the rows of all hosts, of what is at work, and of the runs that are watched are what was written, and are all
 * there: in the table, and in each index of it. Costs some microseconds for each host, and for each run that is
 * watched. Throws what SQLite throws.
 */
export function areSound(database: Database.Database, watched: Watched): boolean {
  const prepare = (sql: string) => database.prepare<[object], number>(sql).pluck()
  const isSound = () => {
    if (database.pragma('integrity_check(hosts)', { simple: true }) !== 'ok') return false
    if (damagedElsewhere.some((sql) => prepare(sql).get({}) !== 0)) return false
    const counts = countsOfHost.map(prepare)
    const damaged = damagedOfHost.map(prepare)
    return hostsOf(database, watched).every(
      ({ host, runs }) =>
        counts.every((count) => count.get({ host }) === runs) &&
        damaged.every((count) => count.get({ host }) === 0),
    )
  }
  // One view of them all: others write meanwhile.
  return database.transaction(isSound)()
}

/** A host of which nothing is known has no runs yet. */
function hostsOf(database: Database.Database, watched: Watched): { host: number; runs: number }[] {
  const [condition, value] =
    'run' in watched
      ? ['id = (SELECT host_id FROM main.runs NOT INDEXED WHERE id = ?)', watched.run]
      : ['name IN (SELECT value FROM json_each(?))', JSON.stringify(watched.hosts)]
  return database
    .prepare<[unknown], { host: number; runs: number }>(
      `SELECT id AS host, run_count AS runs FROM main.hosts WHERE ${condition}`,
    )
    .all(value)
}
