import { bytesPerSecondMin, hookNamePattern, hooksMax } from '@central-backup/protocol'
import * as z from 'zod'
import { durationSchema, parseDuration } from './duration.ts'
import { sizeFrom, sizeSchema } from './size.ts'

/** What a host may take of the server, and the server of a host. Host modules and `defaults` of the settings have these. */
export interface RunLimitsConfig {
  /** The size of one archive, like `'200 GB'`; no limit if not given. A run that comes to it is kept as far as it came. */
  maxArchiveBytes?: string | number
  /** The size of all archives of a host, those in the trash included; no limit if not given. */
  maxHostBytes?: string | number
  /** How long a run may take, like `'12 hours'`; `'24 hours'` if not given. What came is kept then. */
  maxRunTime?: string
  /** How much an agent may send in a second, like `'10 MB'`; as fast as it can if not given. */
  maxRate?: string | number
}

/** Commands that the host is asked to run; its own settings have them, and say which a server may ask for. */
export interface HooksConfig {
  /** Names, in their order. */
  before?: string[]
  after?: string[]
}

export interface RunLimits {
  maxArchiveBytes: number | null
  maxHostBytes: number | null
  maxRunTimeMs: number
  bytesPerSecond: number | null
}

export const runLimitsDefault: Readonly<RunLimits> = {
  maxArchiveBytes: null,
  maxHostBytes: null,
  maxRunTimeMs: parseDuration('24 hours')!,
  bytesPerSecond: null,
}

/** The fields of `RunLimitsConfig`, for the objects that have them. */
export const runLimitFields = {
  maxArchiveBytes: sizeSchema.optional(),
  maxHostBytes: sizeSchema.optional(),
  maxRunTime: durationSchema.optional(),
  maxRate: sizeFrom(bytesPerSecondMin).optional(),
}

/** What was read of these fields; `defaults` for what was not given. */
export function runLimitsOf(
  data: z.output<z.ZodObject<typeof runLimitFields>>,
  defaults: Readonly<RunLimits>,
): RunLimits {
  return {
    maxArchiveBytes: data.maxArchiveBytes ?? defaults.maxArchiveBytes,
    maxHostBytes: data.maxHostBytes ?? defaults.maxHostBytes,
    maxRunTimeMs: data.maxRunTime ?? defaults.maxRunTimeMs,
    bytesPerSecond: data.maxRate ?? defaults.bytesPerSecond,
  }
}

const hookExpectation = "the name of a hook, as it stands in the settings of the host, like 'dump-db'"
const hooksExpectation = `a list of at most ${hooksMax} names of hooks`
const hookNames = z
  .array(z.string(hookExpectation).regex(hookNamePattern, hookExpectation), hooksExpectation)
  .max(hooksMax, hooksExpectation)
  .default([])

export const hooksSchema = z
  .strictObject({ before: hookNames, after: hookNames }, "an object like { before: ['dump-db'] }")
  .prefault({})
