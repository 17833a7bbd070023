import * as z from 'zod'
import type { RetentionPolicy } from '../retention/plan.ts'
import { durationSchema } from './duration.ts'
import { integer } from './fields.ts'

/** What stays of a host's runs, as settings and host modules say it; see `RetentionPolicy`. */
export interface RetentionConfig {
  /** The newest runs. */
  last?: number
  /** All that are at most so much older than the newest, like `'3 days'`. */
  within?: string
  /** The newest run of each of that many hours, days, … that have one, or of `'always'` all. */
  hourly?: number | 'always'
  daily?: number | 'always'
  weekly?: number | 'always'
  monthly?: number | 'always'
  yearly?: number | 'always'
}

const countMax = 100_000
const count = z
  .union([integer(1, countMax), z.literal('always')], `a count from 1 to ${countMax}, or 'always'`)
  .optional()

export const retentionSchema = z
  .strictObject(
    {
      last: integer(1, countMax).optional(),
      within: durationSchema.optional(),
      hourly: count,
      daily: count,
      weekly: count,
      monthly: count,
      yearly: count,
    },
    "rules like { daily: 7, weekly: 4, monthly: 12, yearly: 'always' }",
  )
  .transform(({ within, ...counts }): RetentionPolicy => {
    const rules = Object.entries({ ...counts, withinMs: within }).filter(([, value]) => value !== undefined)
    return Object.fromEntries(rules)
  })
