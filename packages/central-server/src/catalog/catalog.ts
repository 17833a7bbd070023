import type { Outcome, RunKind } from '@central-backup/archive'
import type Database from 'better-sqlite3'
import { clockToleranceMs } from '../clock.ts'
import { type CatalogError, LeaseLostError } from '../errors.ts'
import { guardStatement, toCatalogError, withCatalogErrors } from './failure.ts'
import { type Migration, migrate, readMigrations } from './migrate.ts'
import { openDatabase, temporaryFile } from './open.ts'
import { type DamagedRun, findDamage, leaveOutDamaged } from './sound-rows.ts'
import { prepareStatements, type RunRow, type Statements } from './statements.ts'
import type { Watched } from './watched-rows.ts'

/** How many warnings of a run are kept; all are counted. */
export const warningsKeptMax = 1000

/** Messages of errors and warnings, and the paths that warnings are about, are cut to this. */
export const messageLengthMax = 4096

/** What of a text from elsewhere is kept: a thousand warnings take no more than some MiB. */
export function cutText(text: string): string {
  if (text.length <= messageLengthMax) return text
  // A copy: a slice would keep the whole in memory.
  return Buffer.from(`${text.slice(0, messageLengthMax - 1)}…`, 'utf16le').toString('utf16le')
}

/** What was counted in a run, by name, like `files` or `directories`. */
export type RunCounts = Record<string, number>

export interface RunWarning {
  code: string
  /** For people; `null` where the warning is of no path. */
  path: string | null
  message: string
}

export interface Run {
  id: number
  host: string
  kind: RunKind
  /** The full run that its versions begin with. */
  generation: number
  /** It stays, whatever retention says. */
  pinned: boolean
  /** `running` until it is one of the four. */
  outcome: Outcome | 'running'
  startedAtMs: number
  finishedAtMs: number | null
  error: { code: string; message: string } | null
  /** What the run left, or `null`. */
  archive: { name: string; bytes: number; digest: Uint8Array } | null
  contentBytes: number
  /** Bytes of content that its archive still holds. */
  storedBytes: number
  /** It was broken off: `archive` has what came until then, in path order, and what stood before of the rest. */
  broken: boolean
  counts: RunCounts
  /** How many there were; `warnings` lists at most `warningsKeptMax` of them. */
  warningCount: number
  warnings: RunWarning[]
}

/** How a run ended. */
export interface RunResult {
  outcome: Outcome
  /** As it was in the end: an agent may make a full one where an incremental one was wanted. */
  kind: RunKind
  error: { code: string; message: string } | null
  archive: { name: string; bytes: number; digest: Uint8Array } | null
  contentBytes: number
  counts: RunCounts
  warningCount: number
  warnings: readonly RunWarning[]
  broken?: boolean
  /** Bytes of content that the archive holds; `contentBytes` if not given. */
  storedBytes?: number
  /** Now if not given. */
  finishedAtMs?: number
}

export interface CatalogOptions {
  /** Milliseconds since 1970. */
  now?: () => number
  /**
   * Where rows of runs or hosts are damaged, opens the catalog all the same, without them: `damage` says so. Then nothing can be
   * written.
   */
  toRead?: boolean
  /**
   * For who reads and changes no other runs: then rows of others are looked at only where something is wrong with
   * these. Not given: all are.
   */
  watched?: Watched | undefined
  migrations?: readonly Migration[]
}

/**
 * What the server knows of its hosts and runs: one SQLite database, which can be rebuilt from the archives. Calls are
 * synchronous and short. Every method throws `CatalogError`, or `StorageError` for the disk below it.
 */
export class Catalog implements Disposable {
  readonly file: string
  readonly now: () => number
  /** `false` on a disk that takes nothing: then everything that writes throws a `StorageError` that says why. */
  readonly writable: boolean
  /** What is wrong with rows of runs or hosts, and which runs are left out; `null` where all is well. Only with `toRead`. */
  readonly damage: { error: CatalogError; runs: readonly DamagedRun[] } | null
  /** For the modules beside this one. */
  readonly database: Database.Database
  readonly statements: Statements
  readonly #close: () => void
  readonly #obstacle: unknown

  /**
   * Opens the catalog, and makes it or brings its schema up to date where needed. `close` it in the end. Throws a
   * `CatalogError` also where rows that only the catalog has are not what was written, of those that are watched. Of
   * `temporaryFile`, makes an empty one that is gone when it is closed.
   */
  constructor(file: string, options: CatalogOptions = {}) {
    this.file = file === temporaryFile ? 'in the folder for temporary files' : file
    this.now = options.now ?? Date.now
    const { database, obstacle, close } = withCatalogErrors(file, () => openDatabase(file))
    try {
      migrate(database, options.migrations ?? readMigrations(), file)
      const damage = findDamage(database, this.file, options.watched)
      if (damage !== null && !(options.toRead === true && damage.isReadable)) throw damage.error
      this.damage = damage && { error: damage.error, runs: leaveOutDamaged(database) }
      this.statements = prepareStatements(database)
      for (const statement of Object.values(this.statements)) guardStatement(statement, this.file)
    } catch (error) {
      close()
      throw toCatalogError(error, file)
    }
    this.database = database
    this.writable = obstacle === null && this.damage === null
    this.#obstacle = this.damage?.error ?? (obstacle === null ? null : toCatalogError(obstacle, file))
    this.#close = close
  }

  close(): void {
    this.#close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** With exclusive locking, as on a full disk, no other connection can be opened beside this one. */
  get isAlone(): boolean {
    const mode = withCatalogErrors(this.file, () => this.database.pragma('locking_mode', { simple: true }))
    return mode === 'exclusive'
  }

  /** Names of all hosts that ever had a run or a lease, sorted. */
  hostNames(): string[] {
    return withCatalogErrors(this.file, () => this.statements.hostNames.all())
  }

  /**
   * Notes that a run begins, under the lease `token` of its host. `generation` is that of the run which an incremental one is
   * compared with; a full run begins its own. Returns its id.
   */
  beginRun(run: {
    host: string
    kind: RunKind
    generation?: number | null
    leaseToken: string
    startedAtMs: number
  }): number {
    return this.transaction(() => {
      this.#requireLease(run.leaseToken, run.host)
      const { host, kind, generation = null, startedAtMs } = run
      const { insertRun, setGeneration } = this.statements
      const { lastInsertRowid } = insertRun.run({
        host,
        kind,
        generation,
        startedAtMs,
        token: run.leaseToken,
      })
      setGeneration.run(Number(lastInsertRowid))
      return Number(lastInsertRowid)
    })
  }

  /**
   * Notes how a run ended, in one transaction, together with what `also` writes. Throws `LeaseLostError`, and changes
   * nothing, where the run's lease was taken over: then another run may be at work.
   */
  finishRun(id: number, result: RunResult, also: () => void = () => {}): void {
    this.durableTransaction(() => {
      const run = this.statements.run.get(id)
      if (run === undefined) throw new Error(`there is no run ${id}`)
      this.#requireLease(run.lease_token, run.host)
      const { changes } = this.statements.finishRun.run(
        toFinishParameters(id, result, result.finishedAtMs ?? this.now()),
      )
      if (changes !== 1) throw new Error(`run ${id} has ended before`)
      also()
    })
  }

  /** The newest runs first, of one host or of all. */
  runs(host?: string, limit = Number.MAX_SAFE_INTEGER): Run[] {
    return withCatalogErrors(this.file, () => {
      const { runsOfAll, runsOfHost } = this.statements
      return (host === undefined ? runsOfAll.all(limit) : runsOfHost.all(host, limit)).map(toRun)
    })
  }

  /** All runs of a host that have left an archive, also those that retention removed, in the order of their ids. */
  archivedRuns(host: string): Run[] {
    return withCatalogErrors(this.file, () => this.statements.archivedRuns.all(host).map(toRun))
  }

  /** The run of a host that was begun last, whatever the clock said. */
  lastRun(host: string): Run | null {
    return withCatalogErrors(this.file, () => {
      const row = this.statements.lastRun.get(host)
      return row === undefined ? null : toRun(row)
    })
  }

  run(id: number): Run | null {
    return withCatalogErrors(this.file, () => {
      const row = this.statements.run.get(id)
      return row === undefined ? null : toRun(row)
    })
  }

  /** The run of a host that began at a time and left no archive. */
  failedRun(host: string, startedAtMs: number): Run | null {
    return withCatalogErrors(this.file, () => {
      const row = this.statements.failedRun.get({ host, startedAtMs })
      return row === undefined ? null : toRun(row)
    })
  }

  /** The newest run, in the sense of `newestRun`, of outcome `complete` or `complete-with-changes`. */
  lastGoodRun(host: string): Run | null {
    return this.newestRun(host, ['complete', 'complete-with-changes'])
  }

  /**
   * The newest run of a host that has one of some outcomes and left an archive. A run is newer than those that it builds on,
   * whatever the clock said; else the later start counts, but for runs that lie in the future: these come
   * last, as the clock was set back after them.
   */
  newestRun(host: string, outcomes: readonly Outcome[], { broken = true } = {}): Run | null {
    return withCatalogErrors(this.file, () => {
      const row = this.statements.newestRun.get({
        ...{ host, outcomes: JSON.stringify(outcomes), broken: Number(broken) },
        presentMs: this.now() + clockToleranceMs,
      })
      return row === undefined ? null : toRun(row)
    })
  }

  /** As `transaction`, and when it returns, this and all that was written before survives a power loss. */
  durableTransaction<T>(work: () => T): T {
    withCatalogErrors(this.file, () => this.database.pragma('synchronous = FULL'))
    try {
      return this.transaction(work)
    } finally {
      withCatalogErrors(this.file, () => this.database.pragma('synchronous = NORMAL'))
    }
  }

  /** Names of the archives of a host that the catalog knows. */
  archiveNames(host: string): string[] {
    return withCatalogErrors(this.file, () => this.statements.archiveNames.all(host))
  }

  /** When the full run of a generation began; `null` where its row is gone. */
  generationBegan(generation: number): number | null {
    return withCatalogErrors(this.file, () => this.statements.run.get(generation)?.started_at_ms ?? null)
  }

  /** Names of the archives of a generation, removed runs included. */
  archivesOfGeneration(generation: number): string[] {
    return withCatalogErrors(this.file, () => this.statements.archivesOfGeneration.all(generation))
  }

  /**
   * The run whose state the rows of a generation have come to, and so the only one that another can build on; `null`
   * where the generation has none. By id: the clock may have been set back since.
   */
  lastOfGeneration(generation: number): number | null {
    return withCatalogErrors(this.file, () => this.statements.lastOfGeneration.get(generation) ?? null)
  }

  /** Makes a run stay, or leaves it to retention again. False where there is no such run with an archive. */
  setPinned(id: number, pinned: boolean): boolean {
    return this.transaction(() => this.statements.setPinned.run({ id, pinned: Number(pinned) }).changes === 1)
  }

  /** Takes the place of the warnings that a run had when it ended. */
  setWarnings(id: number, warningCount: number, warnings: readonly RunWarning[]): void {
    const text = JSON.stringify(warnings.slice(0, warningsKeptMax).map(cutWarning))
    this.transaction(() => this.statements.setWarnings.run({ id, warningCount, warnings: text }))
  }

  /** Removes a run that came to nothing and is not to be seen; its versions were purged before. */
  forgetRun(id: number): void {
    this.transaction(() => this.statements.deleteRun.run(id))
  }

  /** Brings all that was written into the database file itself, so that it can be moved. */
  checkpoint(): void {
    withCatalogErrors(this.file, () => this.database.pragma('wal_checkpoint(TRUNCATE)'))
  }

  /** Does `work` in a transaction that nobody else writes during, and turns SQLite's errors into ours. */
  transaction<T>(work: () => T): T {
    if (this.#obstacle !== null) throw this.#obstacle
    return withCatalogErrors(this.file, () => this.database.transaction(work).immediate())
  }

  #requireLease(token: string, host: string): void {
    if (this.statements.leaseIsHeld.get(token) !== undefined) return
    throw new LeaseLostError(`Another process took over ${host} while this one was at work`, {
      hint: 'This process did not show a sign of life for a minute: was it stopped, or the machine asleep?',
    })
  }
}

function toFinishParameters(id: number, result: RunResult, finishedAtMs: number): Record<string, unknown> {
  return {
    id,
    outcome: result.outcome,
    kind: result.kind,
    finishedAtMs,
    errorCode: result.error?.code ?? null,
    errorMessage: result.error && cutText(result.error.message),
    archive: result.archive?.name ?? null,
    digest: result.archive?.digest ?? null,
    archiveBytes: result.archive?.bytes ?? 0,
    contentBytes: result.contentBytes,
    storedBytes: result.storedBytes ?? result.contentBytes,
    broken: Number(result.broken ?? false),
    counts: JSON.stringify(result.counts),
    warningCount: result.warningCount,
    warnings: JSON.stringify(result.warnings.slice(0, warningsKeptMax).map(cutWarning)),
  }
}

function cutWarning(warning: RunWarning): RunWarning {
  return {
    ...warning,
    path: warning.path === null ? null : cutText(warning.path),
    message: cutText(warning.message),
  }
}

function toRun(row: RunRow): Run {
  return {
    id: row.id,
    host: row.host,
    kind: row.kind as RunKind,
    generation: row.generation ?? row.id,
    pinned: row.pinned === 1,
    outcome: (row.outcome as Outcome | null) ?? 'running',
    startedAtMs: row.started_at_ms,
    finishedAtMs: row.finished_at_ms,
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
    archive:
      row.archive === null ? null : { name: row.archive, bytes: row.archive_bytes, digest: row.digest! },
    contentBytes: row.content_bytes,
    storedBytes: row.stored_bytes,
    broken: row.broken === 1,
    counts: JSON.parse(row.counts) as RunCounts,
    warningCount: row.warning_count,
    warnings: JSON.parse(row.warnings) as RunWarning[],
  }
}
