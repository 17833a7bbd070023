import { existsSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parse, TomlError } from 'smol-toml'
import type * as z from 'zod'
import { type Problem, SettingsError } from './errors.ts'
import { findCommandProblems } from './hooks/command-trust.ts'
import type { Hook } from './hooks/hook.ts'
import type { LocalCopyFolder } from './local-copy.ts'
import { findPermissionProblems } from './permissions.ts'
import { knownKeys, type ListenAddress, type logLevels, settingsSchema } from './settings-schema.ts'

/** The agent's settings after they were read and checked: paths are absolute, everything has a value. */
export interface AgentSettings {
  /** Where they were read. */
  file: string
  /** The name of this host, as in its certificate. */
  name: string
  listen: ListenAddress[]
  /** Of the password that the server has to know: argon2id, as a PHC string. */
  passwordHash: string
  /** Files, PEM. `revoked` need not be there: it comes with the first revocation list. */
  tls: { ca: string; certificate: string; key: string; revoked: string }
  allow: {
    /** Absolute paths: what is at or below one of them may be read by the server. */
    read: string[]
    /** Absolute paths of folders: at and below them the server may restore. None, if not given. */
    restore: string[]
  }
  /** Commands that are run before and after backups, in the order of the file. */
  hooks: Hook[]
  /** Where the agent notes what it has to make up for when it is killed. An absolute path. */
  stateDirectory: string
  /** Where archives are kept on this host too, and which of them; `null` for none. */
  localCopy: LocalCopyFolder | null
  limits: {
    /** How many servers are served at a time. */
    sessions: number
    compressThreads: number
    /** 0 (as others) to 19 (only what others leave). Linux derives the I/O priority from it. */
    cpuNice: number
    /** A file system that does not answer for longer ends the run. */
    readStallMs: number
    /** How fast all runs and listings together may send, whatever the server asks for; `null` for as fast as it goes. */
    bytesPerSecond: number | null
    /** Backups that are begun within an hour; `null` for any number. */
    runsPerHour: number | null
  }
  log: { file: string | null; level: (typeof logLevels)[number] }
}

/**
 * Reads and checks the settings in `file`. Throws `SettingsError` with every problem: of the file, its permissions and
 * those of the key and the certificates, with which others could let themselves in. `uid` is the user that runs this
 * program.
 */
export function readSettings(file: string, uid: number = process.geteuid!()): AgentSettings {
  const { settings, problems } = inspectSettings(file, uid)
  if (settings !== null && problems.length === 0) return settings
  throw new SettingsError('The settings cannot be used', problems, {
    hint: 'Mend what is listed; `backup-host check` looks at all of it again.',
  })
}

/** As `readSettings`, but returns what can be read and all problems. */
export function inspectSettings(
  file: string,
  uid: number,
): { settings: AgentSettings | null; problems: Problem[] } {
  const path = resolve(file)
  const problems = checkPermissions(
    { file: path, what: 'the settings of backup-host', secret: true },
    uid,
    path,
    null,
  )
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return { settings: null, problems }
  }
  const parsed = parseSettings(path, text)
  problems.push(...parsed.problems)
  if (parsed.settings !== null) {
    problems.push(...checkTlsPermissions(parsed.settings, uid))
    for (const { name, command } of parsed.settings.hooks)
      problems.push(...findCommandProblems(command[0]!, uid, path, `hooks.${name}.command`))
  }
  return { settings: parsed.settings, problems: removeDoubles(problems) }
}

/** Reads settings from `text`, which stands in `file`. Nothing else is looked at. */
export function parseSettings(
  file: string,
  text: string,
): { settings: AgentSettings | null; problems: Problem[] } {
  let value: unknown
  try {
    value = parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const [found] = error.message.split('\n')
    return {
      settings: null,
      problems: [{ file, line: error.line, key: null, found: found!, expected: 'TOML' }],
    }
  }
  const result = settingsSchema.safeParse(value)
  if (result.success) return { settings: normalize(file, result.data), problems: [] }
  return {
    settings: null,
    problems: result.error.issues.flatMap((issue) => describeIssue(file, issue, value)),
  }
}

function normalize(file: string, data: z.output<typeof settingsSchema>): AgentSettings {
  const folder = dirname(file)
  const { tls, limits, log, local_copy: localCopy, hooks } = data
  return {
    file,
    name: data.name,
    listen: data.listen,
    passwordHash: data.password_hash,
    tls: {
      ca: resolve(folder, tls.ca),
      certificate: resolve(folder, tls.certificate),
      key: resolve(folder, tls.key),
      revoked: resolve(folder, tls.revoked),
    },
    allow: data.allow,
    hooks: Object.entries(hooks).map(([name, hook]) => ({
      name,
      command: hook.command,
      when: hook.when,
      always: hook.run === 'always',
      timeLimitMs: hook.time_limit_seconds * 1000,
      failsRun: hook.when === 'before' && hook.on_failure !== 'warn',
      runsPerHour: hook.runs_per_hour,
      tellsOutput: hook.tell_output,
    })),
    stateDirectory: data.state_directory,
    localCopy:
      localCopy === undefined || localCopy.keep === 0
        ? null
        : {
            directory: localCopy.directory,
            keep: localCopy.keep,
            keepDays: localCopy.keep_days,
            minFreePercent: localCopy.min_free_percent,
          },
    limits: {
      sessions: limits.sessions,
      compressThreads: limits.compress_threads,
      cpuNice: limits.cpu_nice,
      readStallMs: limits.read_stall_seconds * 1000,
      bytesPerSecond: limits.bytes_per_second ?? null,
      runsPerHour: limits.runs_per_hour ?? null,
    },
    log: { file: log.file === undefined ? null : resolve(folder, log.file), level: log.level },
  }
}

interface GuardedFile {
  file: string
  what: string
  secret: boolean
}

function checkTlsPermissions({ file, tls }: AgentSettings, uid: number): Problem[] {
  return [
    ...checkPermissions(
      { file: tls.key, what: 'the private key of this host', secret: true },
      uid,
      file,
      'tls.key',
    ),
    ...checkPermissions(
      { file: tls.certificate, what: 'the certificate of this host', secret: false },
      uid,
      file,
      'tls.certificate',
    ),
    ...checkPermissions(
      { file: tls.ca, what: 'the certificate of the authority', secret: false },
      uid,
      file,
      'tls.ca',
    ),
    ...(existsSync(tls.revoked)
      ? checkPermissions(
          { file: tls.revoked, what: 'the revocation lists', secret: false },
          uid,
          file,
          'tls.revoked',
        )
      : []),
  ]
}

/** A file that is not there is a problem of where it is named. */
function checkPermissions(guarded: GuardedFile, uid: number, namedIn: string, key: string | null): Problem[] {
  try {
    return findPermissionProblems(guarded.file, uid, guarded.secret)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const found =
      code === 'ENOENT' ? `no file ${guarded.file}` : `${guarded.file}, which cannot be read (${code})`
    return [{ file: namedIn, line: null, key, found, expected: guarded.what }]
  }
}

function describeIssue(file: string, issue: z.core.$ZodIssue, value: unknown): Problem[] {
  if (issue.code === 'unrecognized_keys') {
    const expected = `one of ${knownKeys(issue.path[0] ?? null).join(', ')}`
    return issue.keys.map((key) => {
      return { file, line: null, key: formatKey([...issue.path, key]), found: 'an unknown key', expected }
    })
  }
  const key = formatKey(issue.path)
  const found = key === 'password_hash' ? 'something else' : describeValue(valueAt(value, issue.path))
  return [{ file, line: null, key, found, expected: issue.message }]
}

function formatKey(path: readonly PropertyKey[]): string | null {
  if (path.length === 0) return null
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .slice(1)
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (current, key) => (current as Record<PropertyKey, unknown> | undefined)?.[key],
    value,
  )
}

function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  return typeof value === 'object' ? 'a section' : String(value)
}

/** The key lies beside the settings as a rule, so that problems of the folders come twice. */
function removeDoubles(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify(problem), problem])).values()]
}
