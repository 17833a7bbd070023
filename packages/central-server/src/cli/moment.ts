import type { Moment } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'

const agoUnits = ['minute', 'hour', 'day', 'week', 'month', 'year'] as const
type AgoUnit = (typeof agoUnits)[number]

const datePattern = /^(\d{4})-(\d{2})-(\d{2})$/
const clockPattern = /^(\d{2}):(\d{2})(?::(\d{2}))?$/
const agoPattern = /^(\d{1,6}) ?([a-z]+?)s? ago$/
const absolutePattern = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})$/

/**
 * Reads a time as people write it, or the id of a run: `latest`, `12`, `2026-11-20`, `2026-11-20 14:30`, `yesterday`,
 * `yesterday 14:30`, `3 days ago`, `2026-11-20T14:30:00Z`. Times without a zone are local. A day without a time means
 * its end, and a minute its end, so that what was backed up in it counts. Throws `UsageError`.
 */
export function parseMoment(text: string, nowMs: number): Moment {
  const trimmed = text.trim().toLowerCase().replaceAll(/\s+/g, ' ')
  if (trimmed === 'latest' || trimmed === 'now') return 'latest'
  if (/^\d{1,15}$/.test(trimmed)) return { run: Number(trimmed) }
  const atMs = absoluteTime(text.trim()) ?? timeAgo(trimmed, nowMs) ?? localTime(trimmed, nowMs)
  if (atMs !== null) return { atMs }
  throw new UsageError(`'${text}' is not a time`, {
    hint: "Write it like '2026-11-20', '2026-11-20 14:30', 'yesterday', '3 days ago', 'latest', or give the id of a run.",
  })
}

function absoluteTime(text: string): number | null {
  const ms = absolutePattern.test(text) ? Date.parse(text.replace(' ', 'T')) : Number.NaN
  return Number.isNaN(ms) ? null : ms
}

/** Months and years go by the calendar: a month before the 31st of March is the last day of February. */
function timeAgo(text: string, nowMs: number): number | null {
  const match = agoPattern.exec(text)
  const unit = match?.[2] as AgoUnit | undefined
  if (match === null || unit === undefined || !agoUnits.includes(unit)) return null
  const count = Number(match[1])
  const time = new Date(nowMs)
  if (unit === 'minute') return nowMs - count * 60_000
  if (unit === 'hour') return nowMs - count * 3_600_000
  if (unit === 'day') time.setDate(time.getDate() - count)
  else if (unit === 'week') time.setDate(time.getDate() - 7 * count)
  else goBackMonths(time, unit === 'month' ? count : 12 * count)
  // Before the year -271821 there is no time.
  return Number.isNaN(time.getTime()) ? null : time.getTime()
}

function goBackMonths(time: Date, count: number): void {
  const day = time.getDate()
  time.setMonth(time.getMonth() - count)
  // The 31st of a month that has 30 days has become the 1st of the next.
  if (time.getDate() !== day) time.setDate(0)
}

function localTime(text: string, nowMs: number): number | null {
  const [day, clock, ...rest] = text.replace(/^(\d{4}-\d{2}-\d{2})t/, '$1 ').split(' ')
  if (day === undefined || rest.length > 0) return null
  const date = localDay(day, nowMs)
  if (date === null) return null
  if (clock === undefined) return date.setHours(23, 59, 59, 999)
  const match = clockPattern.exec(clock)
  if (match === null) return null
  const [hour, minute, second] = match.slice(1).map(Number) as [number, number, number]
  if (hour > 23 || minute > 59 || second > 59) return null
  return date.setHours(hour, minute, match[3] === undefined ? 59 : second, 999)
}

function localDay(text: string, nowMs: number): Date | null {
  const today = new Date(nowMs)
  if (text === 'today') return today
  if (text === 'yesterday') {
    today.setDate(today.getDate() - 1)
    return today
  }
  const match = datePattern.exec(text)
  if (match === null) return null
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number]
  const date = new Date(year, month - 1, day)
  // The 31st of November is no day, and not the 1st of December either.
  return date.getMonth() === month - 1 && date.getDate() === day ? date : null
}
