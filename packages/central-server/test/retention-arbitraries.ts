/** Random runs and rules, for property tests of retention. */
import fc from 'fast-check'
import type { RetainableRun, RetentionPolicy } from '../src/retention/plan.ts'

const dayMs = 24 * 3_600_000

const anyCount = fc.option(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant('always' as const)), {
  nil: undefined,
})

export const anyPolicy = fc.record(
  {
    last: fc.integer({ min: 1, max: 10 }),
    withinMs: fc.integer({ min: 0, max: 60 * dayMs }),
    hourly: anyCount,
    daily: anyCount,
    weekly: anyCount,
    monthly: anyCount,
    yearly: anyCount,
  },
  { requiredKeys: [] },
) as fc.Arbitrary<RetentionPolicy>

export const anyRuns = fc
  .array(
    fc.record({
      outcome: fc.constantFrom('complete', 'complete-with-changes', 'incomplete', 'failed'),
      startedAtMs: fc.integer({ min: 1_700_000_000_000, max: 1_760_000_000_000 }),
      pinned: fc.boolean(),
    }),
    { maxLength: 60 },
  )
  .map((runs) => runs.map((run, index) => ({ id: index + 1, ...run }) as RetainableRun))
