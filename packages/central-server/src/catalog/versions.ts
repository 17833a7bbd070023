import type { BytePath, Entry } from '@central-backup/archive'
import { UsageError } from '../errors.ts'
import type { Catalog, Run } from './catalog.ts'
import { catalogDamaged, guardStatement, withCatalogErrors } from './failure.ts'
import { openReferences } from './references.ts'
import type { DamagedRun } from './sound-rows.ts'
import { ancestorsOf, outermostPaths, type StandingOptions, standingQuery } from './standing-query.ts'
import { sortKey, toEntry, type VersionRow } from './version-row.ts'

/** A moment, or a run by its id. */
export type Moment = { atMs: number } | { run: number } | 'latest'

const usableOutcomes = ['complete', 'complete-with-changes', 'incomplete'] as const

/**
 * The run that `chooseUsable` finds, if no run that is left out as damaged may be the one that is meant: a time, or the
 * newest, then is a run that is named. Throws `UsageError`, and `CatalogError` in that case.
 */
export function chooseRun(catalog: Catalog, host: string, moment: Moment): Run {
  if (catalog.damage === null) return chooseUsable(catalog, host, moment)
  const suspects = catalog.damage.runs.filter((damaged) => (damaged.host ?? host) === host)
  const named = moment !== 'latest' && 'run' in moment ? moment.run : null
  const doubt = ({ id }: DamagedRun, hint = '') =>
    catalogDamaged(catalog.file, `run ${id} is not what was written, and may be the one that is meant${hint}`)
  let run: Run
  try {
    run = chooseUsable(catalog, host, moment)
  } catch (error) {
    const meant = suspects.find(({ id }) => named === null || id === named)
    throw error instanceof UsageError && meant !== undefined ? doubt(meant) : error
  }
  if (named !== null) return run
  const isLater = ({ startedAtMs }: Run) =>
    moment !== 'latest' && 'atMs' in moment && startedAtMs > moment.atMs
  const later = catalog.runs(host).filter((one) => one.id > run.id && isLater(one))
  const next = Math.min(...later.map(({ id }) => id))
  const meant = suspects.find(({ id }) => id > run.id && id < next)
  if (meant !== undefined) throw doubt(meant, `. \`--at ${run.id}\` is the one before it`)
  return run
}

/**
 * The usable run of `host` that shows how it stood at a moment: the newest that had begun by then and was not broken off;
 * a broken one where there is no other. `latest` is that of `Catalog.newestRun`. Throws `UsageError`.
 */
function chooseUsable(catalog: Catalog, host: string, moment: Moment): Run {
  const usable = catalog
    .runs(host)
    .filter(({ outcome, archive }) => outcome !== 'running' && outcome !== 'failed' && archive !== null)
  const oldest = usable.at(-1)
  if (oldest === undefined) {
    throw new UsageError(`There is no backup of ${host}`, {
      hint: 'backup-server list tells the runs of all hosts.',
    })
  }
  // What a broken run has is the beginning of a state, which nobody means unless they say so, or there is nothing else.
  const whole = usable.filter(({ broken }) => !broken)
  if (moment === 'latest') {
    const newest =
      catalog.newestRun(host, usableOutcomes, { broken: false }) ?? catalog.newestRun(host, usableOutcomes)
    return newest ?? usable[0]!
  }
  if ('run' in moment) {
    const run = usable.find(({ id }) => id === moment.run)
    if (run !== undefined) return run
    throw new UsageError(`Run ${moment.run} is none of ${host} that left an archive`, {
      hint: `backup-server list ${host} tells which there are.`,
    })
  }
  const hadBegun = ({ startedAtMs }: Run) => startedAtMs <= moment.atMs
  const run = whole.find(hadBegun) ?? usable.find(hadBegun)
  if (run !== undefined) return run
  throw new UsageError(`The oldest backup of ${host} is of ${new Date(oldest.startedAtMs).toISOString()}`, {
    hint: 'Choose a later time, or leave out --at for the newest.',
  })
}

/** What stood in a run, streamed: the statement stays open until the iteration ends, and nothing may be written meanwhile. */
export function* standingEntries(
  catalog: Catalog,
  run: Run,
  options: StandingOptions,
): IterableIterator<Entry> {
  const references = openReferences(catalog)
  const { sql, executions } = standingQuery(run, options)
  const ancestors = ancestorsOf(outermostPaths(options.under ?? []))
  const statement = withCatalogErrors(catalog.file, () =>
    guardStatement(catalog.database.prepare<unknown[], VersionRow>(sql), catalog.file),
  )
  for (const values of executions) {
    for (const row of statement.iterate(...values)) {
      const entry = toEntry(row, references)
      if (ancestors.has(entry.path)) entry.ancestor = true
      yield entry
    }
  }
}

/** What stands in a folder itself, in order of name: a look-up for each name, however much lies below it. */
export function* childEntries(catalog: Catalog, run: Run, folder: BytePath): IterableIterator<Entry> {
  const references = openReferences(catalog)
  const prefix = folder === '' ? Buffer.alloc(0) : Buffer.concat([sortKey(folder), Buffer.from([0])])
  const end = folder === '' ? null : Buffer.concat([sortKey(folder), Buffer.from([1])])
  let from = prefix
  for (;;) {
    const row = nextVersion(catalog, run, from, end)
    if (row === undefined) return
    const slash = row.path.indexOf(0, prefix.length)
    const child = slash < 0 ? row.path : row.path.subarray(0, slash)
    if (slash < 0) yield toEntry(row, references)
    // Behind all that lies below it, as that begins with its name and NUL.
    from = Buffer.concat([child, Buffer.from([1])])
  }
}

function nextVersion(catalog: Catalog, run: Run, from: Buffer, end: Buffer | null): VersionRow | undefined {
  const { nextVersion, nextVersionBefore } = catalog.statements
  const place = { generation: run.generation, run: run.id, from }
  return withCatalogErrors(catalog.file, () =>
    end === null ? nextVersion.get(place) : nextVersionBefore.get({ ...place, end }),
  )
}

/** The entry at a path in a run; `null` where nothing stood there. */
export function entryAt(catalog: Catalog, run: Run, path: BytePath): Entry | null {
  const row = nextVersion(catalog, run, sortKey(path), Buffer.concat([sortKey(path), Buffer.from([0])]))
  return row === undefined ? null : toEntry(row, openReferences(catalog))
}
