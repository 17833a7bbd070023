import { lstatSync } from 'node:fs'
import { join, resolve } from 'node:path'
import * as z from 'zod'
import type { Problem } from '../errors.ts'
import type { RetentionPolicy } from '../retention/plan.ts'
import type { FreeSpace } from '../storage/space.ts'
import { durationSchema, parseDuration } from './duration.ts'
import { compressionLevelSchema, excludeSchema, integer, pathSchema, portSchema } from './fields.ts'
import { homePaths } from './home.ts'
import type { ModuleLoader } from './module.ts'
import { type RetentionConfig, retentionSchema } from './retention.ts'
import {
  type RunLimits,
  type RunLimitsConfig,
  runLimitFields,
  runLimitsDefault,
  runLimitsOf,
} from './run-limits.ts'
import { optionsOf, type SelectionConfig, type SelectionOptions, selectionFields } from './selection.ts'
import { checkShape } from './shape.ts'
import { freeSpaceSchema } from './size.ts'

/** What `settings.ts` may say: settings of the server as a whole. */
export interface Settings {
  /** Where archives and catalog are kept. Relative paths begin at the folder of settings.ts. */
  repository: string
  /** Folder of the certificates and the server's key; `'certs'` beside settings.ts if not given. */
  certs?: string
  /** How many hosts are backed up at the same time; 4 if not given. */
  concurrency?: number
  /** How hard to try to reach a host. */
  connection?: {
    /** For one attempt, until TLS is established; `'20 seconds'` if not given. */
    timeout?: string
    /** 3 if not given. */
    attempts?: number
    /** Between two attempts; `'5 seconds'` if not given. */
    pause?: string
  }
  log?: {
    /** Lines of JSON are added to it; `backup-server.log` in the repository if not given, none where `null`. */
    file?: string | null
    level?: 'error' | 'warn' | 'info' | 'debug'
  }
  /** For hosts whose modules do not say otherwise. */
  defaults?: SelectionConfig &
    RunLimitsConfig & {
      /** 7911 if not given. */
      port?: number
      /** Of zstd, 1 (fast) to 19 (small); 3 if not given. */
      compressionLevel?: number
      /** How old the last good run may get, like `'26 hours'`, which is used if not given. */
      expectEvery?: string
      /** Patterns that are left out on every host, besides its own. */
      exclude?: string[]
      /** How often everything is packed anew, like `'30 days'`; never if not given. */
      fullEvery?: string
      /** What stays of a host's runs; everything if not given. */
      retention?: RetentionConfig
    }
  /** What is to stay free on the disk of the repository: `'50 GiB'`, or a part like `'1 %'`, which is used if not given. */
  minFree?: string | number
  /** When runs that no rule keeps are removed: after each run of their host if not given, or only by `prune`. */
  prune?: 'after-run' | 'by-hand'
  /**
   * How long archives that were removed can still be got back from the folder `trash` of the repository; `'7 days'` if
   * not given.
   */
  trash?: string
}

/** Settings after they were read and checked: paths are absolute, everything has a value. */
export interface ServerSettings {
  /** The folder of settings.ts. */
  home: string
  repository: string
  certs: string
  concurrency: number
  connection: { timeoutMs: number; attempts: number; pauseMs: number }
  log: { file: string | null; level: 'error' | 'warn' | 'info' | 'debug' }
  defaults: HostDefaults
  minFree: FreeSpace
  prune: 'after-run' | 'by-hand'
  trashMs: number
}

export interface HostDefaults {
  port: number
  compressionLevel: number
  expectEveryMs: number
  exclude: string[]
  selection: SelectionOptions
  fullEveryMs: number | null
  retention: RetentionPolicy
  limits: RunLimits
}

export const hostDefaults: Readonly<HostDefaults> = {
  port: 7911,
  compressionLevel: 3,
  expectEveryMs: parseDuration('26 hours')!,
  exclude: [],
  selection: {},
  fullEveryMs: null,
  retention: {},
  limits: runLimitsDefault,
}

const logLevels = ['error', 'warn', 'info', 'debug'] as const

/** The shape of settings.ts. */
export const settingsSchema = z.strictObject(
  {
    repository: pathSchema,
    certs: pathSchema.default('certs'),
    concurrency: integer(1, 64).default(4),
    connection: z
      .strictObject(
        {
          timeout: durationSchema.default(20_000),
          attempts: integer(1, 100).default(3),
          pause: durationSchema.default(5_000),
        },
        'an object',
      )
      .prefault({}),
    log: z
      .strictObject(
        {
          file: pathSchema.nullable().optional(),
          level: z.enum(logLevels, `one of ${logLevels.join(', ')}`).default('info'),
        },
        'an object',
      )
      .prefault({}),
    defaults: z
      .strictObject(
        {
          port: portSchema.default(hostDefaults.port),
          compressionLevel: compressionLevelSchema.default(hostDefaults.compressionLevel),
          expectEvery: durationSchema.default(hostDefaults.expectEveryMs),
          exclude: excludeSchema.default([]),
          ...selectionFields,
          ...runLimitFields,
          fullEvery: durationSchema.nullable().default(null),
          retention: retentionSchema.default({}),
        },
        'an object',
      )
      .prefault({}),
    minFree: freeSpaceSchema.prefault('1 %'),
    prune: z.enum(['after-run', 'by-hand'], "'after-run' or 'by-hand'").default('after-run'),
    trash: durationSchema.default(parseDuration('7 days')!),
  },
  'an object of settings',
)

/** Reads and checks `HOME/settings.ts`. Returns the settings, or every problem that they have. */
export async function readSettings(
  home: string,
  loader: ModuleLoader,
): Promise<{ settings: ServerSettings; problems: [] } | { settings: null; problems: Problem[] }> {
  const { settings: file } = homePaths(home)
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) {
    const expected = 'the settings of the server, as `init` writes them'
    return { settings: null, problems: [{ file, line: null, key: null, found: 'nothing there', expected }] }
  }
  const loaded = await loader.load(file, home)
  if (!('value' in loaded)) return { settings: null, problems: loaded.problems }
  const checked = checkShape(settingsSchema, loaded.value, file)
  if (checked.data === null) return { settings: null, problems: checked.problems }
  return { settings: normalize(home, checked.data), problems: [] }
}

function normalize(home: string, data: z.output<typeof settingsSchema>): ServerSettings {
  const { connection, log, defaults } = data
  const repository = resolve(home, data.repository)
  return {
    home,
    repository,
    certs: resolve(home, data.certs),
    concurrency: data.concurrency,
    connection: { timeoutMs: connection.timeout, attempts: connection.attempts, pauseMs: connection.pause },
    log: { file: logFile(home, repository, log.file), level: log.level },
    defaults: {
      port: defaults.port,
      compressionLevel: defaults.compressionLevel,
      expectEveryMs: defaults.expectEvery,
      exclude: defaults.exclude,
      selection: optionsOf(defaults),
      fullEveryMs: defaults.fullEvery,
      retention: defaults.retention,
      limits: runLimitsOf(defaults, runLimitsDefault),
    },
    minFree: data.minFree,
    prune: data.prune,
    trashMs: data.trash,
  }
}

function logFile(home: string, repository: string, file: string | null | undefined): string | null {
  if (file === undefined) return join(repository, 'backup-server.log')
  return file === null ? null : resolve(home, file)
}
