import { setImmediate as nextTurn } from 'node:timers/promises'
import { ArchiveError, type ArchiveHeader, type BytePath, type IndexBatch } from '@central-backup/archive'
import { Catalog, type Run } from './catalog.ts'
import { guardStatement, requireKey, withCatalogErrors } from './failure.ts'
import { isBridged } from './ingest-archive.ts'
import { temporaryFile } from './open.ts'
import { RunRecorder } from './record-run.ts'
import { comparedColumns } from './statements.ts'
import { pathOfSortKey } from './version-row.ts'

/** Paths that are compared at once, some tens of milliseconds. */
const pathsMax = 5000

/** A version of which the catalog and the archives do not say the same. */
export interface VersionDifference {
  generation: number
  firstRun: number
  path: BytePath
  kind: 'lacking' | 'added' | 'other-end' | 'other-values'
}

/**
 * The versions of a host as its archives tell them, in a temporary database that they are taken into while they are read
 * for other reasons, to be compared with those of the catalog. Runs have the numbers that they have there.
 */
export class RetoldVersions implements Disposable {
  readonly #told: Catalog
  readonly #runs: readonly Run[]
  /** In order of their ids. */
  readonly #visible: readonly number[]
  readonly #newestRun: number
  readonly #unknown = new Set<number>()
  #recorder: { run: Run; recorder: RunRecorder } | null = null

  /** `runs`: all of the host in the catalog that have left an archive, in the order of their ids. Dispose of it in the end. */
  constructor(catalog: Catalog, host: string, runs: readonly Run[]) {
    this.#runs = runs
    const kept = new Set(catalog.runs(host).map(({ id }) => id))
    this.#visible = runs.flatMap(({ id }) => (kept.has(id) ? id : []))
    this.#newestRun = catalog.statements.newestId.get()!
    this.#told = new Catalog(temporaryFile)
    this.#told.transaction(() => {
      this.#told.statements.addHost.run(host)
      for (const { id, kind, generation, startedAtMs, archive } of runs)
        this.#told.statements.copyRun.run({ host, id, kind, generation, startedAtMs, archive: archive!.name })
    })
  }

  [Symbol.dispose](): void {
    this.#told.close()
  }

  /** Takes in what the index of a run's archive says; runs come in the order of their ids. Throws `ArchiveError`. */
  add(run: Run, batch: IndexBatch): void {
    if (this.#unknown.has(run.generation)) return
    if (batch.header !== null) this.#begin(run, batch.header)
    if (this.#recorder?.run === run) this.#recorder.recorder.add(batch.entries, batch.gone)
  }

  /** An archive of a generation cannot be read: what the generation should be is not known. */
  giveUp(generation: number): void {
    this.#unknown.add(generation)
  }

  #begin(run: Run, { base, kind, startedAtMs }: ArchiveHeader): void {
    const before = this.#runs.find(({ archive }) => archive!.name === base)
    // Where its base was missing when the catalog was made, what stood before is a guess that is made again.
    const generation = base === null ? run.id : isBridged(run) ? run.generation : before?.generation
    if (generation !== run.generation || kind !== run.kind || startedAtMs !== run.startedAtMs)
      throw new ArchiveError('index-invalid', 'the catalog has another kind, base or time of its run')
    // What points into an archive that is not there any more is of a run that was removed, and goes with it.
    const missing = () => run.id
    this.#recorder = { run, recorder: new RunRecorder(this.#told, run.id, { generation, missing }) }
  }

  /**
   * Compares what was taken in with the versions of the catalog, in one pass over both. What only removed runs have
   * does not count, nor what runs have done that are at work, or began since. With `part`, only what began in a run of
   * a generation or after it is compared, and the archives before that one need not have been taken in. Throws
   * `CatalogError`, or the reason of the signal.
   */
  async *differences(
    catalog: Catalog,
    signal: AbortSignal,
    part: { generation: number; from: number } | null = null,
  ): AsyncIterableIterator<VersionDifference> {
    const generations = part === null ? this.#runs.map((run) => run.generation) : [part.generation]
    // One view of runs and versions, whoever writes meanwhile.
    const execute = (sql: string) => withCatalogErrors(catalog.file, () => catalog.database.exec(sql))
    execute('BEGIN')
    try {
      for (const generation of new Set(generations))
        if (!this.#unknown.has(generation))
          yield* this.#differencesOf({ generation, from: part?.from ?? 0 }, catalog, signal)
    } finally {
      execute('COMMIT')
    }
  }

  async *#differencesOf(
    { generation, from }: { generation: number; from: number },
    catalog: Catalog,
    signal: AbortSignal,
  ): AsyncIterableIterator<VersionDifference> {
    const ids = new Set(this.#runs.flatMap((run) => (run.generation === generation ? run.id : [])))
    const visible = this.#visible.filter((id) => ids.has(id))
    const later = new Set(catalog.statements.runsSince.all(this.#newestRun))
    const known = groupByPath(versionsOf(catalog, generation, from), visible, later)
    const told = groupByPath(versionsOf(this.#told, generation, from), visible, new Set())
    try {
      let paths = 0
      for (const difference of mergePaths(known, told)) {
        if (difference !== null) yield { generation, ...difference }
        else if (++paths % pathsMax === 0) {
          signal.throwIfAborted()
          await nextTurn()
        }
      }
    } finally {
      known.return?.()
      told.return?.()
    }
  }
}

/** Of a row of `versionsOf`, what has a meaning here; the rest are values to be compared. */
type Row = [path: Buffer, firstRun: number, endRun: number | null, endReason: number | null, ...unknown[]]

interface PathGroup {
  path: Buffer
  rows: Row[]
}

type Groups = IterableIterator<PathGroup>

function* versionsOf(catalog: Catalog, generation: number, from: number): IterableIterator<Row> {
  const statement = catalog.database.prepare<[number, number], Row>(
    `SELECT path, first_run, end_run, end_reason, ${comparedColumns.join(', ')}, user_name, group_name
     FROM versions LEFT JOIN owners ON owners.id = owner_id WHERE generation = ? AND first_run >= ?
     ORDER BY path, first_run`,
  )
  for (const row of guardStatement(statement.raw(), catalog.file).iterate(generation, from)) {
    requireKey(row[0], catalog.file)
    yield row
  }
}

/** Versions of each path that stand in a visible run, as if all others had been purged, and no later run had begun. */
function* groupByPath(rows: Iterable<Row>, visible: readonly number[], later: ReadonlySet<number>): Groups {
  let group: PathGroup | null = null
  for (const row of rows) {
    if (later.has(row[1])) continue
    if (row[2] !== null && later.has(row[2])) [row[2], row[3]] = [null, null]
    if (group !== null && !group.path.equals(row[0])) {
      yield withoutUnused(group, visible)
      group = null
    }
    group ??= { path: row[0], rows: [] }
    group.rows.push(row)
  }
  if (group !== null) yield withoutUnused(group, visible)
}

/** As `purgeRemoved` does it: the version that one which goes had replaced ends where that did. */
function withoutUnused({ path, rows }: PathGroup, visible: readonly number[]): PathGroup {
  if (rows.every((row) => standsInOne(row, visible))) return { path, rows }
  const kept: Row[] = []
  for (const row of rows) {
    if (standsInOne(row, visible)) {
      kept.push(row)
      continue
    }
    for (const before of kept)
      if (before[2] === row[1] && before[3] === null) [before[2], before[3]] = [row[2], row[3]]
  }
  return { path, rows: kept }
}

function standsInOne([, firstRun, endRun]: Row, visible: readonly number[]): boolean {
  // The first visible run that is not before the version: few versions begin in a run, so the list is searched by halves.
  let [low, high] = [0, visible.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (visible[middle]! < firstRun) low = middle + 1
    else high = middle
  }
  return low < visible.length && (endRun === null || visible[low]! < endRun)
}

type Difference = Omit<VersionDifference, 'generation'> | null

/** Goes through both in order of path; `null` for what is the same. */
function* mergePaths(known: Groups, told: Groups): IterableIterator<Difference> {
  let [a, b] = [known.next(), told.next()]
  while (!a.done || !b.done) {
    const order = a.done ? 1 : b.done ? -1 : Buffer.compare(a.value.path, b.value.path)
    const path = (order <= 0 ? a : b).value.path
    yield null
    yield* mergeRows(path, order <= 0 ? a.value.rows : [], order >= 0 ? b.value.rows : [])
    if (order <= 0) a = known.next()
    if (order >= 0) b = told.next()
  }
}

function* mergeRows(path: Buffer, known: readonly Row[], told: readonly Row[]): IterableIterator<Difference> {
  const difference = (firstRun: number, kind: VersionDifference['kind']) => ({
    ...{ path: pathOfSortKey(path), firstRun, kind },
  })
  const toldByRun = new Map(told.map((row) => [row[1], row]))
  for (const row of known) {
    const same = toldByRun.get(row[1])
    toldByRun.delete(row[1])
    if (same === undefined) yield difference(row[1], 'added')
    else if (row[2] !== same[2] || row[3] !== same[3]) yield difference(row[1], 'other-end')
    else if (!row.every((value, at) => isSame(value, same[at]))) yield difference(row[1], 'other-values')
  }
  for (const firstRun of toldByRun.keys()) yield difference(firstRun, 'lacking')
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || (Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b))
}
