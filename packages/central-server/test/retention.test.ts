import assert from 'node:assert/strict'
import { test } from 'node:test'
import { periodOf, planRetention, type RetainableRun, type RetentionPolicy } from '../src/retention/plan.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const expectEveryMs = 26 * hourMs

/** Runs at the given local times, the first with id 1. */
function runsAt(...times: string[]): RetainableRun[] {
  return times.map((time, index) => ({
    id: index + 1,
    outcome: 'complete',
    startedAtMs: new Date(time).getTime(),
    pinned: false,
  }))
}

/** One run a day at 3 o'clock, ending with the given day. */
function dailyRuns(count: number, lastDay: string): RetainableRun[] {
  return Array.from({ length: count }, (_, index) => {
    const time = new Date(`${lastDay}T03:00:00`)
    time.setDate(time.getDate() - (count - 1 - index))
    return { id: index + 1, outcome: 'complete' as const, startedAtMs: time.getTime(), pinned: false }
  })
}

function kept(
  runs: readonly RetainableRun[],
  policy: RetentionPolicy,
  nowMs = runs.at(-1)!.startedAtMs + hourMs,
): number[] {
  const { decisions } = planRetention(runs, policy, nowMs, expectEveryMs)
  return decisions
    .filter(({ action }) => action === 'keep')
    .map(({ run }) => run)
    .sort((a, b) => a - b)
}

test('without rules, all runs stay', () => {
  assert.deepEqual(kept(dailyRuns(5, '2026-11-21'), {}), [1, 2, 3, 4, 5])
})

test('a count keeps the newest run of each of the newest periods that have one', () => {
  const runs = runsAt(
    '2026-11-19T03:00',
    '2026-11-19T15:00',
    '2026-11-20T03:00',
    '2026-11-20T15:00',
    '2026-11-21T03:00',
  )
  assert.deepEqual(kept(runs, { daily: 2 }), [4, 5])
  assert.deepEqual(kept(runs, { daily: 3 }), [2, 4, 5])
  assert.deepEqual(kept(runs, { hourly: 4 }), [2, 3, 4, 5])
})

test('periods without a run do not use up the count', () => {
  const runs = runsAt('2026-11-01T03:00', '2026-11-03T03:00', '2026-11-05T03:00')
  assert.deepEqual(kept(runs, { daily: 3 }), [1, 2, 3])
})

test('days, weeks, months and years thin out together', () => {
  const runs = dailyRuns(800, '2026-11-21')
  const decisions = planRetention(
    runs,
    { daily: 7, weekly: 4, monthly: 12, yearly: 'always' },
    runs.at(-1)!.startedAtMs,
    expectEveryMs,
  ).decisions
  const stays = decisions.filter(({ action }) => action === 'keep')
  const reasonsOf = (word: string) =>
    stays.flatMap(({ reasons }) => reasons).filter((reason) => reason.startsWith(word))
  assert.equal(reasonsOf('daily').length, 7)
  assert.equal(reasonsOf('weekly').length, 4)
  assert.equal(reasonsOf('monthly').length, 12)
  assert.deepEqual(reasonsOf('yearly'), ['yearly 2026', 'yearly 2025', 'yearly 2024'])
  assert.equal(new Set(stays.map(({ run }) => run)).size, stays.length)
})

test('incomplete and failed runs do not count, and stay only while there is no newer good run', () => {
  const runs = runsAt('2026-11-18T03:00', '2026-11-19T03:00', '2026-11-20T03:00', '2026-11-21T03:00')
  runs[1]!.outcome = 'incomplete'
  runs[3]!.outcome = 'incomplete'
  assert.deepEqual(kept(runs, { last: 1 }), [3, 4])
  assert.deepEqual(kept(runs, { daily: 2 }), [1, 3, 4])
})

test('the last good run and pinned runs stay whatever the rules say', () => {
  const runs = dailyRuns(10, '2026-11-21')
  runs[2]!.pinned = true
  assert.deepEqual(kept(runs, { withinMs: 0 }), [3, 10])
})

test('"within" counts from the newest run, not from now', () => {
  const runs = dailyRuns(10, '2026-11-21')
  assert.deepEqual(kept(runs, { withinMs: 3 * dayMs }, runs.at(-1)!.startedAtMs + 300 * dayMs), [7, 8, 9, 10])
})

test('nothing is removed when a run lies in the future', () => {
  const runs = dailyRuns(10, '2026-11-21')
  const nowMs = runs[4]!.startedAtMs
  assert.equal(kept(runs, { last: 1 }, nowMs).length, 10)
  assert.match(planRetention(runs, { last: 1 }, nowMs, expectEveryMs).refusal!, /future/)
})

test('nothing is removed by the first run after a long gap, and things go on with the second', () => {
  const runs = [
    ...dailyRuns(10, '2026-11-21'),
    {
      id: 11,
      outcome: 'complete' as const,
      startedAtMs: new Date('2036-11-22T03:00').getTime(),
      pinned: false,
    },
  ]
  assert.equal(kept(runs, { last: 1 }).length, 11)
  runs.push({
    id: 12,
    outcome: 'complete',
    startedAtMs: new Date('2036-11-23T03:00').getTime(),
    pinned: false,
  })
  assert.deepEqual(kept(runs, { last: 1 }), [12])
})

test('weeks are those of ISO 8601', () => {
  assert.equal(periodOf(new Date(2027, 0, 3, 12).getTime(), 'weekly'), '2026-W53')
  assert.equal(periodOf(new Date(2027, 0, 4, 12).getTime(), 'weekly'), '2027-W01')
  assert.equal(periodOf(new Date(2024, 11, 30, 12).getTime(), 'weekly'), '2025-W01')
})
