import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import {
  bytesPerSecondMin,
  hookMoments,
  hookNameCharsMax,
  hookNamePattern,
  hooksMax,
  hooksMsMax,
  namePattern,
  pathsMax,
} from '@central-backup/protocol'
import * as z from 'zod'

/** The settings as they stand in the file. The messages say what is expected. */

export const settingsFileDefault = '/etc/backup-host/backup-host.toml'
export const stateDirectoryDefault = '/var/lib/backup-host'
export const portDefault = 7911

export interface ListenAddress {
  /** An IP address; `::` is every address of the machine. */
  address: string
  port: number
}

export const logLevels = ['error', 'warn', 'info', 'debug'] as const

const nameExpectation = '1 to 63 letters, digits, dots, hyphens or underscores, as in the certificate'
const listenExpectation = `IP:PORT, like "0.0.0.0:${portDefault}" or "[::]:${portDefault}", or a list of them`
const hashExpectation = 'an argon2id hash, as `backup-host hash-password` prints it'

const path = z
  .string('a path')
  .min(1, 'a path')
  .refine((text) => !text.includes('\0'), 'a path without a NUL')

const absolutePath = path
  .refine((text) => text.startsWith('/'), 'an absolute path')
  .refine((text) => !text.split('/').includes('..'), "a path without '..'")

const listen = z
  .union([z.string(), z.array(z.string()).min(1).max(16)], listenExpectation)
  .transform((value, context) => {
    const addresses = [value].flat().map(parseListenAddress)
    if (addresses.every((address) => address !== null)) return addresses
    context.addIssue({ code: 'custom', message: listenExpectation })
    return z.NEVER
  })

const section = 'a section'

const commandExpectation = 'a list: the absolute path of a program, and its arguments'
const commandArgumentsMax = 64
const argument = z
  .string(commandExpectation)
  .max(4096, 'an argument of at most 4096 characters')
  .refine((text) => !text.includes('\0'), 'an argument without a NUL')

export const hookRuns = ['always', 'asked'] as const

const hookSchema = z
  .strictObject(
    {
      command: z
        .array(argument, commandExpectation)
        .min(1, commandExpectation)
        .max(commandArgumentsMax, `at most ${commandArgumentsMax} words`)
        .refine(([program]) => absolutePath.safeParse(program).success, commandExpectation),
      when: z.enum(hookMoments, `one of ${hookMoments.join(', ')}`),
      run: z.enum(hookRuns, `one of ${hookRuns.join(', ')}`).default('asked'),
      time_limit_seconds: integer(1, hooksMsMax / 1000).default(300),
      on_failure: z.enum(['fail', 'warn'], 'fail or warn').optional(),
      runs_per_hour: integer(1, 3600).default(12),
      tell_output: z.boolean('true or false').default(true),
    },
    'a section',
  )
  .refine(({ when, on_failure }) => when === 'before' || on_failure !== 'fail', {
    error: "'warn': only what runs before a backup can make it fail",
    path: ['on_failure'],
  })

const hooksExpectation = `sections like [hooks.dump-db], with names of 1 to ${hookNameCharsMax} letters, digits, hyphens or underscores`

const hooksSchema = z
  .record(z.string().regex(hookNamePattern), hookSchema, hooksExpectation)
  .superRefine((hooks, context) => {
    if (Object.keys(hooks).length > hooksMax)
      context.addIssue({ code: 'custom', message: `at most ${hooksMax} hooks` })
    for (const [moment, test] of [
      ['before', (when: string) => when === 'before'],
      ['after', (when: string) => when !== 'before'],
    ] as const) {
      const seconds = Object.values(hooks)
        .filter(({ when }) => test(when))
        .reduce((sum, hook) => sum + hook.time_limit_seconds, 0)
      if (seconds * 1000 > hooksMsMax) {
        const message = `time limits of ${hooksMsMax / 1000} s at most for all hooks ${moment} a run together, and not of ${seconds} s`
        context.addIssue({ code: 'custom', message })
      }
    }
  })

/** The sections of the file, all of which may be left out. */
export const sectionSchemas = {
  tls: z.strictObject(
    {
      ca: path.default('ca.crt'),
      certificate: path.default('host.crt'),
      key: path.default('host.key'),
      revoked: path.default('revoked.crl'),
    },
    section,
  ),
  allow: z.strictObject(
    {
      read: z
        .array(absolutePath, 'a list of absolute paths')
        .max(pathsMax, `at most ${pathsMax} paths`)
        .default(['/']),
      restore: z
        .array(absolutePath, 'a list of absolute paths')
        .max(pathsMax, `at most ${pathsMax} paths`)
        .default([]),
    },
    section,
  ),
  local_copy: z.strictObject(
    {
      directory: absolutePath,
      keep: integer(0, 1000),
      keep_days: integer(0, 3650).default(3),
      min_free_percent: integer(0, 99).default(5),
    },
    section,
  ),
  limits: z.strictObject(
    {
      sessions: integer(1, 64).default(4),
      compress_threads: integer(1, 64).default(Math.min(4, availableParallelism())),
      cpu_nice: integer(0, 19).default(10),
      read_stall_seconds: integer(1, 240).default(240),
      bytes_per_second: integer(bytesPerSecondMin, Number.MAX_SAFE_INTEGER).optional(),
      runs_per_hour: integer(1, 3600).optional(),
    },
    section,
  ),
  log: z.strictObject(
    { file: path.optional(), level: z.enum(logLevels, `one of ${logLevels.join(', ')}`).default('info') },
    section,
  ),
}

export const settingsSchema = z.strictObject(
  {
    name: z.string(nameExpectation).regex(namePattern, nameExpectation),
    listen: listen.prefault(`0.0.0.0:${portDefault}`),
    password_hash: z.string(hashExpectation).refine(isPasswordHash, hashExpectation),
    tls: sectionSchemas.tls.prefault({}),
    allow: sectionSchemas.allow.prefault({}),
    local_copy: sectionSchemas.local_copy.optional(),
    limits: sectionSchemas.limits.prefault({}),
    log: sectionSchemas.log.prefault({}),
    hooks: hooksSchema.prefault({}),
    state_directory: absolutePath.default(stateDirectoryDefault),
  },
  'settings',
)

/** The keys that may stand in a section; at the top of the file for `null`. */
export function knownKeys(name: PropertyKey | null): string[] {
  if (name === null) return Object.keys(settingsSchema.shape)
  if (name === 'hooks') return Object.keys(hookSchema.shape)
  const schema = Object.hasOwn(sectionSchemas, name)
    ? sectionSchemas[name as keyof typeof sectionSchemas]
    : null
  return Object.keys(schema?.shape ?? {})
}

/** Reads `IP:PORT`, with brackets around an IPv6 address. */
export function parseListenAddress(text: string): ListenAddress | null {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  if (match === null) return null
  const [, inBrackets, plain, digits] = match
  const address = inBrackets ?? plain!
  const port = Number(digits)
  const good = isIP(address) === (inBrackets === undefined ? 4 : 6) && port <= 65_535
  return good ? { address, port } : null
}

/**
 * Whether `text` is an argon2id hash that can be verified in bounded time and memory: the strings that argon2 makes (PHC
 * string format), with at most 1 GiB, 16 passes and 16 lanes.
 */
export function isPasswordHash(text: string): boolean {
  const match =
    /^\$argon2id\$v=19\$([mtp]=\d+,[mtp]=\d+,[mtp]=\d+)\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$/.exec(
      text,
    )
  if (match === null) return false
  const within = (name: string, minimum: number, maximum: number) => {
    const value = Number(new RegExp(`(?:^|,)${name}=(\\d+)(?:,|$)`).exec(match[1]!)?.[1])
    return value >= minimum && value <= maximum
  }
  return within('m', 7168, 1_048_576) && within('t', 1, 16) && within('p', 1, 16)
}

function integer(minimum: number, maximum: number) {
  const expectation = `an integer from ${minimum} to ${maximum}`
  return z.int(expectation).min(minimum, expectation).max(maximum, expectation)
}
