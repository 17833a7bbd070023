import type Database from 'better-sqlite3'
import type { VersionRow } from './version-row.ts'

/** All SQL but the schema stands here. Types of the rows are those of the columns. */

export interface RunRow {
  id: number
  host: string
  kind: string
  outcome: string | null
  generation: number | null
  pinned: number
  removed_at_ms: number | null
  lease_token: string
  started_at_ms: number
  finished_at_ms: number | null
  error_code: string | null
  error_message: string | null
  archive: string | null
  digest: Buffer | null
  content_bytes: number
  archive_bytes: number
  stored_bytes: number
  broken: number
  counts: string
  warning_count: number
  warnings: string
}

export interface LeaseRow {
  host: string
  token: string
  machine: string
  boot_id: string
  pid_namespace: string
  pid: number
  process_start: string
  acquired_at_ms: number
  heartbeat_at_ms: number
}

const selectRuns = 'SELECT runs.*, hosts.name AS host FROM runs JOIN hosts ON hosts.id = runs.host_id'
const selectLeases = 'SELECT leases.*, hosts.name AS host FROM leases JOIN hosts ON hosts.id = leases.host_id'

/** Of a run, in the order in which the schema makes a checksum of them. */
export const checksummedRunColumns = [
  ...['id', 'host_id', 'kind', 'generation', 'outcome', 'lease_token', 'started_at_ms', 'finished_at_ms'],
  ...['error_code', 'error_message', 'archive', 'digest', 'content_bytes', 'archive_bytes', 'stored_bytes'],
  ...['broken', 'counts', 'warning_count', 'warnings', 'pinned', 'removed_at_ms'],
]

/** As `toVersionValues` makes them. */
const versionColumns = [
  ...['generation', 'path', 'first_run', 'type', 'mode', 'uid', 'gid', 'owner_id', 'size'],
  ...[
    'mtime_s',
    'mtime_ns',
    'ctime_s',
    'ctime_ns',
    'ino',
    'dev',
    'nlink',
    'target',
    'device_major',
    'device_minor',
  ],
  ...['xattrs', 'flags', 'project', 'digest'],
  ...['content_run', 'content_offset', 'stored_size', 'content_pieces', 'marks'],
]

/** Of those, what is a value of its own, and not where the row belongs. */
export const comparedColumns = versionColumns.filter(
  (column) => !['generation', 'path', 'first_run', 'owner_id'].includes(column),
)

/** Rows of a generation from a key on and before another. */
export interface KeyRange {
  generation: number
  from: Buffer
  end: Buffer
}

const inRange = 'generation = :generation AND path >= :from AND path < :end'

export type Statements = ReturnType<typeof prepareStatements>

export function prepareStatements(database: Database.Database) {
  return {
    addHost: database.prepare<[name: string]>('INSERT INTO hosts (name) VALUES (?) ON CONFLICT DO NOTHING'),
    damagedRows: database.prepare<[], string>('SELECT row FROM damaged_rows').pluck(),
    schema: database
      .prepare<[], string>(
        'SELECT json_group_array(json_array(type, name, tbl_name, sql) ORDER BY type, name) FROM sqlite_schema',
      )
      .pluck(),
    /** Runs that versions belong to, and that are not there. Goes from one to the next, and not through all rows. */
    strayGenerations: database
      .prepare<[], number>(
        `WITH RECURSIVE generations (id) AS (
           SELECT MIN(generation) FROM versions
           UNION ALL
           SELECT (SELECT MIN(generation) FROM versions WHERE generation > id) FROM generations WHERE id IS NOT NULL)
         SELECT id FROM generations WHERE id IS NOT NULL AND id NOT IN (SELECT runs.id FROM runs)`,
      )
      .pluck(),
    isSequenceLow: database
      .prepare<[], number>(
        `SELECT (SELECT COALESCE(MAX(id), 0) FROM runs) >
           COALESCE((SELECT MAX(seq) FROM sqlite_sequence WHERE name = 'runs'), 0)`,
      )
      .pluck(),
    newestId: database.prepare<[], number>('SELECT COALESCE(MAX(id), 0) FROM runs').pluck(),
    /** Runs that are at work, or began after another. With the token, the index of runs at work can be used. */
    runsSince: database
      .prepare<[newest: number], number>(
        "SELECT id FROM runs WHERE outcome IS NULL AND lease_token >= '' UNION ALL SELECT id FROM runs WHERE id > ? AND outcome IS NOT NULL",
      )
      .pluck(),
    /** A run under its own number, in another database. */
    copyRun: database.prepare<
      [{ host: string; id: number; kind: string; generation: number; startedAtMs: number; archive: string }]
    >(
      `INSERT INTO runs (id, host_id, kind, generation, lease_token, started_at_ms, finished_at_ms, outcome, archive, digest)
       SELECT :id, id, :kind, :generation, '', :startedAtMs, :startedAtMs, 'complete', :archive, zeroblob(32)
       FROM hosts WHERE name = :host`,
    ),
    hostNames: database.prepare<[], string>('SELECT name FROM hosts ORDER BY name').pluck(),

    insertRun: database.prepare<
      [{ host: string; kind: string; generation: number | null; token: string; startedAtMs: number }]
    >(
      `INSERT INTO runs (host_id, kind, generation, lease_token, started_at_ms)
       SELECT id, :kind, :generation, :token, :startedAtMs FROM hosts WHERE name = :host`,
    ),
    finishRun: database.prepare<[Record<string, unknown>]>(
      `UPDATE runs SET outcome = :outcome, finished_at_ms = :finishedAtMs, kind = :kind,
         error_code = :errorCode, error_message = :errorMessage, archive = :archive, digest = :digest,
         content_bytes = :contentBytes, archive_bytes = :archiveBytes, stored_bytes = :storedBytes, broken = :broken, counts = :counts,
         warning_count = :warningCount, warnings = :warnings
       WHERE id = :id AND outcome IS NULL`,
    ),
    setWarnings: database.prepare<[Record<string, unknown>]>(
      'UPDATE runs SET warning_count = :warningCount, warnings = :warnings WHERE id = :id',
    ),
    /** A full run begins a generation of its own. */
    setGeneration: database.prepare<[id: number]>(
      'UPDATE runs SET generation = id WHERE id = ? AND generation IS NULL',
    ),
    run: database.prepare<[id: number], RunRow>(`${selectRuns} WHERE runs.id = ?`),
    runsOfAll: database.prepare<[limit: number], RunRow>(
      `${selectRuns} WHERE removed_at_ms IS NULL ORDER BY runs.started_at_ms DESC, runs.id DESC LIMIT ?`,
    ),
    runsOfHost: database.prepare<[host: string, limit: number], RunRow>(
      `${selectRuns} WHERE hosts.name = ? AND removed_at_ms IS NULL ORDER BY runs.started_at_ms DESC, runs.id DESC LIMIT ?`,
    ),
    archivedRuns: database.prepare<[host: string], RunRow>(
      `${selectRuns} WHERE hosts.name = ? AND archive IS NOT NULL ORDER BY runs.id`,
    ),
    /**
     * `outcomes`: JSON list. Of each generation the last, as each run of it builds on the one before; those from the
     * future last.
     */
    newestRun: database.prepare<
      [{ host: string; outcomes: string; broken: number; presentMs: number }],
      RunRow
    >(
      `${selectRuns} WHERE runs.id IN (
         SELECT MAX(one.id) FROM runs AS one JOIN hosts ON hosts.id = one.host_id
         WHERE hosts.name = :host AND removed_at_ms IS NULL AND archive IS NOT NULL AND broken <= :broken
           AND outcome IN (SELECT value FROM json_each(:outcomes)) GROUP BY generation)
       ORDER BY runs.started_at_ms > :presentMs, runs.started_at_ms DESC, runs.id DESC LIMIT 1`,
    ),
    lastRun: database.prepare<[host: string], RunRow>(
      `${selectRuns} WHERE hosts.name = ? AND removed_at_ms IS NULL ORDER BY runs.id DESC LIMIT 1`,
    ),
    /** What a run left in the catalog whose archive was finished afterwards. */
    failedRun: database.prepare<[{ host: string; startedAtMs: number }], RunRow>(
      `${selectRuns} WHERE hosts.name = :host AND runs.started_at_ms = :startedAtMs AND outcome = 'failed'
       AND archive IS NULL`,
    ),
    /** Runs that are at work under a lease that is not there any more. */
    orphanedRuns: database.prepare<[], RunRow>(
      `${selectRuns} WHERE outcome IS NULL AND lease_token NOT IN (SELECT token FROM leases)`,
    ),
    failRun: database.prepare<[{ id: number; atMs: number; code: string; message: string }]>(
      `UPDATE runs SET outcome = 'failed', finished_at_ms = :atMs, error_code = :code, error_message = :message
       WHERE id = :id AND outcome IS NULL`,
    ),

    archiveNames: database
      .prepare<[host: string], string>(
        `SELECT archive FROM runs JOIN hosts ON hosts.id = host_id
         WHERE hosts.name = ? AND archive IS NOT NULL ORDER BY archive`,
      )
      .pluck(),
    archivesOfGeneration: database
      .prepare<[generation: number], string>(
        'SELECT archive FROM runs WHERE generation = ? AND archive IS NOT NULL ORDER BY archive',
      )
      .pluck(),
    lastOfGeneration: database
      .prepare<[generation: number], number>(
        'SELECT id FROM runs WHERE generation = ? AND archive IS NOT NULL ORDER BY id DESC LIMIT 1',
      )
      .pluck(),
    setRemoved: database.prepare<[{ id: number; atMs: number }]>(
      'UPDATE runs SET removed_at_ms = :atMs WHERE id = :id AND removed_at_ms IS NULL',
    ),
    /** Runs that retention removed before a time, of whose archives something may have become needless. */
    removedRuns: database.prepare<[{ host: string; beforeMs: number }], RunRow>(
      `${selectRuns} WHERE hosts.name = :host AND archive IS NOT NULL AND removed_at_ms <= :beforeMs ORDER BY runs.id`,
    ),
    keptArchives: database
      .prepare<[generation: number], string>(
        `SELECT archive FROM runs WHERE generation = ? AND archive IS NOT NULL AND removed_at_ms IS NULL ORDER BY id`,
      )
      .pluck(),
    /** Content of the archives of a generation that versions have, as bytes by run. */
    neededBytes: database.prepare<[generation: number], { run: number; bytes: number }>(
      `SELECT content_run AS run, SUM(bytes) AS bytes FROM (
         SELECT DISTINCT content_run, content_offset, COALESCE(stored_size, size) AS bytes
         FROM versions WHERE generation = ? AND content_run IS NOT NULL)
       GROUP BY content_run`,
    ),
    /** Runs whose archives have pieces of content that is in several. */
    runsOfPieces: database
      .prepare<[generation: number], number>(
        `SELECT DISTINCT piece.value ->> 0 FROM versions, json_each(content_pieces) AS piece WHERE generation = ?`,
      )
      .pluck(),
    /** Versions whose content lies in the archive of a run. */
    versionsInArchive: database.prepare<
      [{ generation: number; run: number; after: Buffer; limit: number }],
      { path: Buffer; first_run: number; end_run: number | null }
    >(
      `SELECT path, first_run, end_run FROM versions WHERE generation = :generation AND path > :after
       AND content_run = :run ORDER BY path, first_run LIMIT :limit`,
    ),
    /** A run of which nothing is known but the name of its archive, which is missing. */
    insertStandIn: database.prepare<
      [{ host: string; kind: string; token: string; startedAtMs: number; archive: string; message: string }]
    >(
      `INSERT INTO runs (host_id, kind, lease_token, started_at_ms, finished_at_ms, outcome, archive, digest,
         error_code, error_message)
       SELECT id, :kind, :token, :startedAtMs, :startedAtMs, 'failed', :archive, zeroblob(32), 'archive-missing', :message
       FROM hosts WHERE name = :host`,
    ),
    countVersionsInArchive: database
      .prepare<[run: number], number>('SELECT COUNT(*) FROM versions WHERE content_run = ?')
      .pluck(),
    neededContents: database
      .prepare<[{ generation: number; run: number }], number>(
        `SELECT DISTINCT content_offset FROM versions WHERE generation = :generation AND content_run = :run
         ORDER BY content_offset`,
      )
      .pluck(),
    neededPaths: database
      .prepare<[{ generation: number; run: number; after: Buffer; limit: number }], Buffer>(
        `SELECT path FROM versions WHERE generation = :generation AND path > :after AND first_run = :run
         ORDER BY path LIMIT :limit`,
      )
      .pluck(),
    /** `absorbed`: JSON, [[run, archive], ...]. */
    insertRepack: database.prepare<
      [{ run: number; digest: Buffer; archiveBytes: number; storedBytes: number; absorbed: string }]
    >(
      `INSERT INTO repacks (run_id, digest, archive_bytes, stored_bytes, absorbed)
       VALUES (:run, :digest, :archiveBytes, :storedBytes, :absorbed)`,
    ),
    repacks: database.prepare<
      [host: string],
      { run: number; generation: number; archive: string; digest: Buffer; absorbed: string }
    >(
      `SELECT run_id AS run, generation, archive, repacks.digest, absorbed FROM repacks JOIN runs ON runs.id = run_id
       JOIN hosts ON hosts.id = host_id WHERE hosts.name = ?`,
    ),
    applyRepack: database.prepare<[run: number]>(
      `UPDATE runs SET (digest, archive_bytes, stored_bytes) =
         (SELECT digest, archive_bytes, stored_bytes FROM repacks WHERE run_id = runs.id) WHERE id = ?`,
    ),
    deleteRepack: database.prepare<[run: number]>('DELETE FROM repacks WHERE run_id = ?'),
    /** The key that so many rows of a generation stand before, from a key on. */
    keyAfterRows: database
      .prepare<[{ generation: number; from: Buffer; rows: number }], Buffer>(
        `SELECT path FROM versions WHERE generation = :generation AND path >= :from
         ORDER BY path, first_run LIMIT 1 OFFSET :rows`,
      )
      .pluck(),
    /** As `keyAfterRows`, if that stands before another key. */
    keyAfterRowsWithin: database
      .prepare<[KeyRange & { rows: number }], Buffer>(
        `SELECT path FROM versions WHERE ${inRange} ORDER BY path, first_run LIMIT 1 OFFSET :rows`,
      )
      .pluck(),
    keyAfter: database
      .prepare<[{ generation: number; from: Buffer }], Buffer>(
        'SELECT path FROM versions WHERE generation = :generation AND path > :from ORDER BY path LIMIT 1',
      )
      .pluck(),
    /** Versions that begin or end in one of the runs do so in another that follows them at once. `absorbed`: JSON list. */
    beginLater: database.prepare<[KeyRange & { run: number; absorbed: string }]>(
      `UPDATE versions SET first_run = :run WHERE ${inRange}
       AND first_run IN (SELECT value FROM json_each(:absorbed))`,
    ),
    endLater: database.prepare<[KeyRange & { run: number; absorbed: string }]>(
      `UPDATE versions SET end_run = :run WHERE ${inRange}
       AND end_run IN (SELECT value FROM json_each(:absorbed))`,
    ),
    /** Runs among some in which objects with several names began. `runs`: JSON list. */
    runsOfLinks: database
      .prepare<[{ generation: number; runs: string }], number>(
        `SELECT DISTINCT first_run FROM versions WHERE generation = :generation AND type <> 1 AND nlink > 1
         AND first_run IN (SELECT value FROM json_each(:runs))`,
      )
      .pluck(),
    repackRefusals: database.prepare<
      [generation: number],
      { run: number; state: string; at_ms: number; reason: string }
    >(
      `SELECT run_id AS run, state, at_ms, reason FROM repack_refusals JOIN runs ON runs.id = run_id
       WHERE generation = ?`,
    ),
    setRepackRefusal: database.prepare<[{ run: number; state: string; atMs: number; reason: string }]>(
      `INSERT INTO repack_refusals (run_id, state, at_ms, reason) VALUES (:run, :state, :atMs, :reason)
       ON CONFLICT DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms, reason = excluded.reason`,
    ),
    deleteRepackRefusal: database.prepare<[run: number]>('DELETE FROM repack_refusals WHERE run_id = ?'),
    /** Removed runs of a host that no run builds on that is not removed, the newest first. */
    unneededRuns: database.prepare<[host: string], RunRow>(
      `${selectRuns} WHERE hosts.name = ? AND removed_at_ms IS NOT NULL AND NOT EXISTS (
         SELECT 1 FROM runs AS other WHERE other.generation = runs.generation AND other.id > runs.id
           AND other.archive IS NOT NULL AND other.removed_at_ms IS NULL)
       ORDER BY runs.id DESC`,
    ),
    /** What ended in a run that is forgotten still stands in the last one that is left. */
    endNoMore: database.prepare<[KeyRange & { run: number }]>(
      `UPDATE versions SET end_run = NULL, end_reason = NULL WHERE ${inRange} AND end_run >= :run`,
    ),
    deleteRun: database.prepare<[id: number]>('DELETE FROM runs WHERE id = ?'),
    /** Runs of a host that failed before a time and left nothing that another builds on; not the last of its runs. */
    oldFailures: database
      .prepare<[{ host: string; beforeMs: number }], number>(
        `SELECT runs.id FROM runs JOIN hosts ON hosts.id = runs.host_id
         WHERE hosts.name = :host AND outcome = 'failed' AND archive IS NULL AND finished_at_ms < :beforeMs
           AND runs.id < (SELECT MAX(newest.id) FROM runs AS newest WHERE newest.host_id = hosts.id)
           AND NOT EXISTS (SELECT 1 FROM runs AS other WHERE other.generation = runs.id AND other.id <> runs.id)
         ORDER BY runs.id`,
      )
      .pluck(),

    setPinned: database.prepare<[{ id: number; pinned: number }]>(
      'UPDATE runs SET pinned = :pinned WHERE id = :id AND archive IS NOT NULL',
    ),
    /** Versions of a generation that stand in none of its runs which have an archive. */
    unusedVersions: database.prepare<
      [KeyRange],
      {
        generation: number
        path: Buffer
        first_run: number
        end_run: number | null
        end_reason: number | null
      }
    >(
      `SELECT generation, path, first_run, end_run, end_reason FROM versions AS version
       WHERE ${inRange} AND NOT EXISTS (
         SELECT 1 FROM runs WHERE runs.generation = :generation AND archive IS NOT NULL AND removed_at_ms IS NULL
           AND runs.id >= version.first_run AND (version.end_run IS NULL OR runs.id < version.end_run))`,
    ),
    /** The version that one which is removed had replaced ends where that did: nothing that is seen lies between. */
    inheritEnd: database.prepare<
      [
        {
          generation: number
          path: Buffer
          first_run: number
          end_run: number | null
          end_reason: number | null
        },
      ]
    >(
      `UPDATE versions SET end_run = :end_run, end_reason = :end_reason
       WHERE generation = :generation AND path = :path AND end_run = :first_run AND end_reason IS NULL`,
    ),
    deleteVersion: database.prepare<[{ generation: number; path: Buffer; first_run: number }]>(
      'DELETE FROM versions WHERE generation = :generation AND path = :path AND first_run = :first_run',
    ),

    addOwner: database.prepare<[{ user: Buffer; group: Buffer }]>(
      'INSERT INTO owners (user_name, group_name) VALUES (:user, :group) ON CONFLICT DO NOTHING',
    ),
    owner: database
      .prepare<[{ user: Buffer; group: Buffer }], number>(
        'SELECT id FROM owners WHERE user_name = :user AND group_name = :group',
      )
      .pluck(),
    ownerNames: database.prepare<[id: number], { user_name: Buffer; group_name: Buffer }>(
      'SELECT user_name, group_name FROM owners WHERE id = ?',
    ),
    insertVersion: database.prepare<[unknown[]]>(
      `INSERT INTO versions (${versionColumns.join(', ')}) VALUES (${versionColumns.map(() => '?').join(', ')})`,
    ),
    /** Another run of the same host. */
    runOfArchive: database
      .prepare<[{ run: number; archive: string }], number>(
        `SELECT runs.id FROM runs JOIN runs AS this ON this.host_id = runs.host_id
         WHERE this.id = :run AND runs.archive = :archive`,
      )
      .pluck(),
    /** Also of a run whose row is damaged: what is read there is held to its digest. */
    archiveOfRun: database
      .prepare<[run: number], string>('SELECT archive FROM main.runs NOT INDEXED WHERE id = ?')
      .pluck(),
    generationsOfHost: database
      .prepare<[host: string], number>(
        `SELECT DISTINCT generation FROM runs JOIN hosts ON hosts.id = host_id
         WHERE hosts.name = ? AND generation IS NOT NULL`,
      )
      .pluck(),
    /** What rows of versions take, nearly: some hundred bytes, and what has no fixed length. */
    versionsBytes: database
      .prepare<[KeyRange], number>(
        `SELECT COALESCE(SUM(120 + length(path) + COALESCE(length(target), 0) + COALESCE(length(xattrs), 0)
           + COALESCE(length(content_pieces), 0)), 0) FROM versions WHERE ${inRange}`,
      )
      .pluck(),
    /** As `versionsBytes`, of the runs of a host. */
    runsBytes: database
      .prepare<[host: string], number>(
        `SELECT COALESCE(SUM(400 + length(warnings) + length(counts) + COALESCE(length(error_message), 0)), 0)
         FROM runs JOIN hosts ON hosts.id = host_id WHERE hosts.name = ?`,
      )
      .pluck(),
    countOwners: database.prepare<[], number>('SELECT COUNT(*) FROM owners').pluck(),
    countLeases: database.prepare<[], number>('SELECT COUNT(*) FROM leases').pluck(),
    deleteUnusedOwners: database.prepare<[]>(
      'DELETE FROM owners WHERE id NOT IN (SELECT DISTINCT owner_id FROM versions)',
    ),
    /** The version that begins in a run. */
    versionFrom: database.prepare<[{ generation: number; run: number; path: Buffer }], VersionRow>(
      `SELECT * FROM versions WHERE generation = :generation AND path = :path AND first_run = :run`,
    ),
    /** The version that stands at a path in a run. */
    versionAt: database.prepare<[{ generation: number; run: number; path: Buffer }], VersionRow>(
      `SELECT * FROM versions WHERE generation = :generation AND path = :path
       AND first_run <= :run AND (end_run IS NULL OR end_run > :run)`,
    ),
    /** The first that stands in a run, from a key on. */
    nextVersion: database.prepare<[{ generation: number | null; run: number; from: Buffer }], VersionRow>(
      `SELECT * FROM versions WHERE generation = :generation AND path >= :from
       AND first_run <= :run AND (end_run IS NULL OR end_run > :run) ORDER BY path LIMIT 1`,
    ),
    /** A statement of its own: with a condition that holds for no end too, what follows the end would be visited. */
    nextVersionBefore: database.prepare<
      [{ generation: number | null; run: number; from: Buffer; end: Buffer }],
      VersionRow
    >(
      `SELECT * FROM versions WHERE generation = :generation AND path >= :from AND path < :end
       AND first_run <= :run AND (end_run IS NULL OR end_run > :run) ORDER BY path LIMIT 1`,
    ),
    baselineRows: database.prepare<
      [{ generation: number | null; run: number; after: Buffer; limit: number }],
      VersionRow
    >(
      `SELECT * FROM versions WHERE generation = :generation AND path > :after
       AND first_run <= :run AND (end_run IS NULL OR end_run > :run) ORDER BY path LIMIT :limit`,
    ),
    /** Another version takes the place of one. */
    replaceVersion: database.prepare<[{ generation: number; run: number; path: Buffer }]>(
      `UPDATE versions SET end_run = :run
       WHERE generation = :generation AND path = :path AND end_run IS NULL AND first_run < :run`,
    ),
    /** Also of what the same run has ended: a path that is gone may lie below another. */
    endVersion: database.prepare<[{ generation: number; run: number; path: Buffer; reason: number }]>(
      `UPDATE versions SET end_run = :run, end_reason = :reason
       WHERE generation = :generation AND path = :path AND (end_run IS NULL OR end_run = :run) AND first_run < :run`,
    ),
    endBelow: database.prepare<
      [{ generation: number; run: number; from: Buffer; end: Buffer; reason: number }]
    >(
      `UPDATE versions SET end_run = :run, end_reason = :reason
       WHERE generation = :generation AND path >= :from AND path < :end AND (end_run IS NULL OR end_run = :run)
         AND first_run < :run`,
    ),
    purgeAdded: database.prepare<[{ generation: number; run: number }]>(
      'DELETE FROM versions WHERE generation = :generation AND first_run = :run',
    ),
    purgeEnded: database.prepare<[{ generation: number; run: number }]>(
      'UPDATE versions SET end_run = NULL, end_reason = NULL WHERE generation = :generation AND end_run = :run',
    ),
    /** Versions whose key has the needle in it, from a key on and before another. */
    searchVersions: database.prepare<
      [{ generations: string; needle: Buffer | null; from: Buffer; end: Buffer }],
      VersionRow
    >(
      `SELECT * FROM versions WHERE generation IN (SELECT value FROM json_each(:generations))
       AND path >= :from AND path < :end AND (:needle IS NULL OR instr(path, :needle) > 0) ORDER BY path, first_run`,
    ),
    purgeVersions: database.prepare<[{ run: number; limit: number }]>(
      `DELETE FROM versions WHERE generation = :run AND path IN
         (SELECT path FROM versions WHERE generation = :run ORDER BY path LIMIT :limit)`,
    ),

    leases: database.prepare<[], LeaseRow>(selectLeases),
    lease: database.prepare<[host: string], LeaseRow>(`${selectLeases} WHERE hosts.name = ?`),
    leaseIsHeld: database.prepare<[token: string], number>('SELECT 1 FROM leases WHERE token = ?').pluck(),
    insertLease: database.prepare<[Omit<LeaseRow, 'heartbeat_at_ms'>]>(
      `INSERT INTO leases (host_id, token, machine, boot_id, pid_namespace, pid, process_start, acquired_at_ms, heartbeat_at_ms)
       SELECT id, :token, :machine, :boot_id, :pid_namespace, :pid, :process_start, :acquired_at_ms, :acquired_at_ms
       FROM hosts WHERE name = :host`,
    ),
    renewLease: database.prepare<[{ token: string; atMs: number }]>(
      'UPDATE leases SET heartbeat_at_ms = :atMs WHERE token = :token',
    ),
    deleteLease: database.prepare<[token: string]>('DELETE FROM leases WHERE token = ?'),

    readers: database.prepare<[host: string], LeaseRow>(
      `SELECT readers.*, hosts.name AS host FROM readers JOIN hosts ON hosts.id = readers.host_id
       WHERE hosts.name = ? ORDER BY acquired_at_ms`,
    ),
    /** Also of one that was taken for dead, and is not. */
    renewReader: database.prepare<[LeaseRow]>(
      `INSERT INTO readers (host_id, token, machine, boot_id, pid_namespace, pid, process_start, acquired_at_ms, heartbeat_at_ms)
       SELECT id, :token, :machine, :boot_id, :pid_namespace, :pid, :process_start, :acquired_at_ms, :heartbeat_at_ms
       FROM hosts WHERE name = :host
       ON CONFLICT DO UPDATE SET heartbeat_at_ms = excluded.heartbeat_at_ms`,
    ),
    deleteReader: database.prepare<[token: string]>('DELETE FROM readers WHERE token = ?'),
  }
}
