import type { Outcome } from '@central-backup/archive'
import { clockToleranceMs } from '../clock.ts'

/**
 * What stays of a host's runs. A count keeps the newest run of each of that many hours, days, … that have one; `'always'`
 * keeps the newest of every one. A run stays where any rule keeps it. Without rules, all stay.
 */
export interface RetentionPolicy {
  /** The newest runs, whatever their age. */
  last?: number
  /** All that are at most so much older than the newest, in milliseconds. */
  withinMs?: number
  hourly?: number | 'always'
  daily?: number | 'always'
  weekly?: number | 'always'
  monthly?: number | 'always'
  yearly?: number | 'always'
}

/** A run that left an archive. */
export interface RetainableRun {
  id: number
  outcome: Outcome | 'running'
  startedAtMs: number
  pinned: boolean
}

export interface Decision {
  run: number
  action: 'keep' | 'remove'
  /** Why, for people: every rule that keeps it, or why none does. */
  reasons: string[]
}

export interface RetentionPlan {
  /** The newest first. */
  decisions: Decision[]
  /** Why nothing is removed although there are rules; `null` where all is as usual. */
  refusal: string | null
}

/** A gap before the newest run is suspicious from here on, where runs are expected more often. */
const gapMsMin = 7 * 24 * 3_600_000
const gapIntervals = 3

type Period = 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly'
const periods: readonly Period[] = ['hourly', 'daily', 'weekly', 'monthly', 'yearly']

/**
 * Decides for each run of one host whether it stays, from the runs and the time alone. Good runs count against the rules;
 * an incomplete one stays only while there is no newer good one. The last good run and pinned runs always stay. Where the
 * clock seems to have jumped, everything does.
 */
export function planRetention(
  runs: readonly RetainableRun[],
  policy: RetentionPolicy,
  nowMs: number,
  expectEveryMs: number,
): RetentionPlan {
  const newestFirst = [...runs].sort((a, b) => b.startedAtMs - a.startedAtMs || b.id - a.id)
  const good = newestFirst.filter(isGood)
  const reasons = new Map<number, string[]>(newestFirst.map(({ id }) => [id, []]))
  const keep = (run: RetainableRun, reason: string) => reasons.get(run.id)!.push(reason)

  if (!hasRules(policy)) for (const run of newestFirst) keep(run, 'no rules')
  for (const run of newestFirst) if (run.pinned) keep(run, 'pinned')
  if (good[0] !== undefined) keep(good[0], 'last good run')
  for (const run of newestFirst) if (!isGood(run) && isNewerThan(run, good[0])) keep(run, 'no newer good run')
  for (const run of good.slice(0, policy.last ?? 0)) keep(run, `last ${policy.last}`)
  keepWithin(good, policy.withinMs, keep)
  for (const period of periods) keepPeriods(good, period, policy[period], keep)

  const refusal = hasRules(policy) ? clockRefusal(newestFirst, nowMs, expectEveryMs) : null
  const decisions = newestFirst.map((run): Decision => {
    const found = reasons.get(run.id)!
    if (refusal !== null && found.length === 0) found.push('the clock may have jumped')
    if (found.length > 0) return { run: run.id, action: 'keep', reasons: found }
    return {
      run: run.id,
      action: 'remove',
      reasons: [isGood(run) ? 'no rule keeps it' : 'there is a newer good run'],
    }
  })
  return { decisions, refusal }
}

export function hasRules({ last, withinMs, ...counts }: RetentionPolicy): boolean {
  return (
    last !== undefined || withinMs !== undefined || periods.some((period) => counts[period] !== undefined)
  )
}

function isGood({ outcome }: RetainableRun): boolean {
  return outcome === 'complete' || outcome === 'complete-with-changes'
}

function isNewerThan(run: RetainableRun, other: RetainableRun | undefined): boolean {
  return other === undefined || run.startedAtMs > other.startedAtMs
}

/** Counted from the newest run, not from now: a host that is away for long keeps what it has. */
function keepWithin(
  good: readonly RetainableRun[],
  withinMs: number | undefined,
  keep: (run: RetainableRun, reason: string) => void,
): void {
  const newest = good[0]
  if (withinMs === undefined || newest === undefined) return
  for (const run of good) if (newest.startedAtMs - run.startedAtMs <= withinMs) keep(run, 'within')
}

function keepPeriods(
  good: readonly RetainableRun[],
  period: Period,
  count: number | 'always' | undefined,
  keep: (run: RetainableRun, reason: string) => void,
): void {
  if (count === undefined) return
  const seen = new Set<string>()
  for (const run of good) {
    const name = periodOf(run.startedAtMs, period)
    // An hour that comes twice when the clocks go back is two hours.
    const key = period === 'hourly' ? `${name} ${new Date(run.startedAtMs).getTimezoneOffset()}` : name
    if (seen.has(key)) continue
    if (count !== 'always' && seen.size >= count) return
    seen.add(key)
    keep(run, `${period} ${name}`)
  }
}

/** Name of the hour, day, … in local time; weeks are those of ISO 8601. */
export function periodOf(ms: number, period: Period): string {
  const time = new Date(ms)
  const two = (value: number) => String(value).padStart(2, '0')
  const month = `${time.getFullYear()}-${two(time.getMonth() + 1)}`
  const day = `${month}-${two(time.getDate())}`
  switch (period) {
    case 'yearly':
      return String(time.getFullYear())
    case 'monthly':
      return month
    case 'weekly':
      return isoWeek(time)
    case 'daily':
      return day
    case 'hourly':
      return `${day} ${two(time.getHours())}:00`
  }
}

/** The week belongs to the year that its Thursday is in. */
function isoWeek(time: Date): string {
  const thursday = new Date(Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()))
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7))
  const year = thursday.getUTCFullYear()
  const week = Math.ceil(((thursday.getTime() - Date.UTC(year, 0, 1)) / 86_400_000 + 1) / 7)
  return `${year}-W${String(week).padStart(2, '0')}`
}

function clockRefusal(
  [newest, before]: readonly RetainableRun[],
  nowMs: number,
  expectEveryMs: number,
): string | null {
  if (newest === undefined) return null
  if (newest.startedAtMs > nowMs + clockToleranceMs) {
    return `run ${newest.id} lies in the future (${new Date(newest.startedAtMs).toISOString()}): was the clock set back?`
  }
  const gapMs = before === undefined ? 0 : newest.startedAtMs - before.startedAtMs
  if (gapMs <= Math.max(gapMsMin, gapIntervals * expectEveryMs)) return null
  return `the newest run is ${Math.round(gapMs / 86_400_000)} days younger than the one before: did the clock jump? The next run settles it`
}
