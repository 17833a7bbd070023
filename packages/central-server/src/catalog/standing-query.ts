import { type BytePath, comparePaths, type EntryType, isWithin } from '@central-backup/archive'
import type { Run } from './catalog.ts'
import { sortKey, typeNumber } from './version-row.ts'

export interface StandingOptions {
  /** Only these paths and what is below them, with the folders that lead to them as ancestors. All if not given. */
  under?: readonly BytePath[]
  /** `content`: files by the archive and the offset of their content. */
  order: 'path' | 'path-descending' | 'content'
  types?: readonly EntryType[]
}

export interface StandingQuery {
  sql: string
  /** Values of its parameters, once for each time that it is to be run; the rows of these come one after another. */
  executions: unknown[][]
}

/** Keys from `low` up to, not including, `high`. */
interface KeyRange {
  low: Buffer
  high: Buffer
}

const stood = 'generation = ? AND first_run <= ? AND (end_run IS NULL OR end_run > ?)'

/**
 * The query for what stood in a run. It visits what was selected and no more, as each of the ranges is a search by the
 * primary key; a condition made of ranges and `OR` would visit the whole generation.
 */
export function standingQuery(run: Run, { under = [], order, types }: StandingOptions): StandingQuery {
  const moment = [run.generation, run.id, run.id]
  const ofTypes = types === undefined ? '' : ` AND type IN (${types.map(typeNumber).join(', ')})`
  const versions = `SELECT * FROM versions WHERE ${stood}${ofTypes}`
  const ranges = selectedRanges(under)
  if (order === 'content') {
    const sorted = 'ORDER BY content_run, content_offset, path'
    if (ranges === null) return { sql: `${versions} ${sorted}`, executions: [moment] }
    // One value, however many there are: SQLite has limits for both parameters and terms of a UNION.
    const list = JSON.stringify(ranges.map(({ low, high }) => [low.toString('hex'), high.toString('hex')]))
    const selected = 'SELECT unhex(value ->> 0) AS low, unhex(value ->> 1) AS high FROM json_each(?)'
    const sql = `SELECT versions.* FROM (${selected}) CROSS JOIN versions
      WHERE ${stood}${ofTypes} AND path >= low AND path < high ${sorted}`
    return { sql, executions: [[list, ...moment]] }
  }
  const sorted = order === 'path' ? 'ORDER BY path' : 'ORDER BY path DESC'
  if (ranges === null) return { sql: `${versions} ${sorted}`, executions: [moment] }
  const executions = ranges.map(({ low, high }) => [...moment, low, high])
  if (order === 'path-descending') executions.reverse()
  return { sql: `${versions} AND path >= ? AND path < ? ${sorted}`, executions }
}

/** What of `under` is not below another of them, in path order, each once. */
export function outermostPaths(under: readonly BytePath[]): BytePath[] {
  const outermost: BytePath[] = []
  for (const path of under.toSorted(comparePaths)) {
    const last = outermost.at(-1)
    if (last === undefined || !isWithin(path, last)) outermost.push(path)
  }
  return outermost
}

/** The folders that lead to paths of which none is below another, each once. */
export function ancestorsOf(outermost: readonly BytePath[]): Set<BytePath> {
  const ancestors = new Set<BytePath>()
  for (const path of outermost) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
      ancestors.add(path.slice(0, slash) as BytePath)
  }
  return ancestors
}

/** Ranges that do not overlap, in path order; `null` for all there is. */
function selectedRanges(under: readonly BytePath[]): KeyRange[] | null {
  const outermost = outermostPaths(under)
  if (outermost.length === 0 || outermost[0] === '') return null
  return [
    ...[...ancestorsOf(outermost)].map((path) => keysFrom(sortKey(path), 0)),
    ...outermost.map((path) => keysFrom(sortKey(path), 1)),
  ].sort((a, b) => Buffer.compare(a.low, b.low))
}

/** Up to `key` and NUL that is `key` alone; up to `key` and 1, all below it too. */
function keysFrom(low: Buffer, end: 0 | 1): KeyRange {
  return { low, high: Buffer.concat([low, Buffer.from([end])]) }
}
