import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import type { Problem } from '../errors.ts'
import type { RetentionPolicy } from '../retention/plan.ts'
import { durationSchema } from './duration.ts'
import { addressSchema, compressionLevelSchema, excludeSchema, portSchema } from './fields.ts'
import { homePaths } from './home.ts'
import { hostNameExpectation, isHostName } from './host-name.ts'
import { findModuleFolderProblems, type ModuleLoader } from './module.ts'
import { type PasswordEnvironment, type PasswordSource, passwordSchema, readPassword } from './password.ts'
import { type RetentionConfig, retentionSchema } from './retention.ts'
import {
  type HooksConfig,
  hooksSchema,
  type RunLimits,
  type RunLimitsConfig,
  runLimitFields,
  runLimitsOf,
} from './run-limits.ts'
import type { Secret } from './secret.ts'
import {
  optionsOf,
  type PathConfig,
  type SelectedPath,
  type SelectionConfig,
  type SelectionOptions,
  selectedPathsSchema,
  selectionFault,
  selectionFields,
} from './selection.ts'
import type { HostDefaults } from './settings.ts'
import { checkShape } from './shape.ts'

/** What a host module, `hosts/NAME.ts`, may say of the host NAME. */
export interface HostConfig extends SelectionConfig, RunLimitsConfig {
  /** IP address or DNS name. Which host answers there is proven by its certificate, not by this. */
  address: string
  /** 7911 if not given. */
  port?: number
  /** The password itself, the file that holds it (relative to the module), or the environment variable. */
  password: PasswordSource
  /** What to back up: absolute paths, or patterns like `'/home/*'`; or objects that say more of one. */
  paths: (string | PathConfig)[]
  /** What to leave out: patterns like `'*.tmp'`, or absolute paths. One that begins with `!` takes back. */
  exclude?: string[]
  /** How old the last good run may get before `status` complains, like `'26 hours'`. */
  expectEvery?: string
  /** Of zstd, 1 (fast) to 19 (small). */
  compressionLevel?: number
  /** How often everything is packed anew, like `'30 days'`, in place of what the settings say. */
  fullEvery?: string
  /** What stays of the host's runs, in place of what the settings say. */
  retention?: RetentionConfig
  /** What the host is to run before and after a backup: names of hooks in its own settings. */
  hooks?: HooksConfig
  /** `true` leaves the host out, unless it is named on the command line. */
  disabled?: boolean
}

/** A host after its module was read and checked: everything has a value. */
export interface Host extends RunLimits {
  name: string
  /** The module, as an absolute path. */
  file: string
  address: string
  port: number
  password: Secret
  /** Each with what the module says of it alone. */
  paths: SelectedPath[]
  /** The host's own patterns after those of the settings. */
  exclude: string[]
  /** For the paths that do not say otherwise. */
  selection: SelectionOptions
  expectEveryMs: number
  compressionLevel: number
  fullEveryMs: number | null
  retention: RetentionPolicy
  hooks: { before: string[]; after: string[] }
  disabled: boolean
}

/** A problem of one host, or of all of them (`host: null`) where it is the folder's. */
export interface HostProblem extends Problem {
  host: string | null
}

/** The shape of a host module. */
export const hostSchema = z.strictObject(
  {
    address: addressSchema,
    port: portSchema.optional(),
    password: passwordSchema,
    paths: selectedPathsSchema,
    exclude: excludeSchema.default([]),
    ...selectionFields,
    ...runLimitFields,
    hooks: hooksSchema,
    expectEvery: durationSchema.optional(),
    compressionLevel: compressionLevelSchema.optional(),
    fullEvery: durationSchema.optional(),
    retention: retentionSchema.optional(),
    disabled: z.boolean('true or false').default(false),
  },
  'an object that describes a host',
)

/** What reading host modules needs of the world around. */
export interface HostReader {
  loader: ModuleLoader
  environment: PasswordEnvironment
  /** The user that runs this program. */
  uid: number
}

/**
 * Reads `HOME/hosts/*.ts`. A module with problems is left out of `hosts` and does not keep the others from being
 * read. Both lists are in the order of the names.
 */
export async function readHosts(
  home: string,
  defaults: Readonly<HostDefaults>,
  reader: HostReader,
): Promise<{ hosts: Host[]; problems: HostProblem[] }> {
  const { hosts: folder } = homePaths(home)
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    const expected = 'a folder of host modules, as `init` makes it'
    return {
      hosts: [],
      problems: [{ host: null, file: folder, line: null, key: null, found: 'no folder', expected }],
    }
  }
  const folderProblems = findModuleFolderProblems(folder, reader.uid)
  if (folderProblems.length > 0)
    return { hosts: [], problems: folderProblems.map((one) => ({ ...one, host: null })) }
  const hosts: Host[] = []
  const problems: HostProblem[] = []
  for (const name of listHostNames(folder)) {
    const result = await readHost(name, folder, defaults, reader)
    if ('host' in result) hosts.push(result.host)
    else problems.push(...result.problems.map((problem) => ({ ...problem, host: name })))
  }
  return { hosts, problems }
}

/** Names of what the folder holds as `NAME.ts`, sorted, whether or not they are good names. */
function listHostNames(folder: string): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.example.ts') && !file.endsWith('.d.ts'))
    .filter((file) => !file.startsWith('_') && !file.startsWith('.'))
    .map((file) => file.slice(0, -'.ts'.length))
    .sort()
}

async function readHost(
  name: string,
  folder: string,
  defaults: Readonly<HostDefaults>,
  reader: HostReader,
): Promise<{ host: Host } | { problems: Problem[] }> {
  const file = join(folder, `${name}.ts`)
  if (!isHostName(name)) {
    const found = `a host named ${JSON.stringify(name)}`
    return {
      problems: [{ file, line: null, key: null, found, expected: `a name of ${hostNameExpectation}` }],
    }
  }
  const loaded = await reader.loader.load(file, folder)
  if (!('value' in loaded)) return { problems: loaded.problems }
  const checked = checkShape(hostSchema, loaded.value, file, ['password'])
  if (checked.data === null) return { problems: checked.problems }
  const { data } = checked
  const exclude = [...defaults.exclude, ...data.exclude]
  const fault = selectionFault(exclude, data.paths)
  if (fault !== null) {
    const [found, expected] = fault
    return { problems: [{ file, line: null, key: 'paths', found, expected }] }
  }
  const password = readPassword(data.password, file, reader.environment, reader.uid)
  if ('problems' in password) return { problems: password.problems }
  return {
    host: {
      name,
      file,
      address: data.address,
      port: data.port ?? defaults.port,
      password: password.secret,
      paths: data.paths,
      exclude,
      selection: { ...defaults.selection, ...optionsOf(data) },
      expectEveryMs: data.expectEvery ?? defaults.expectEveryMs,
      compressionLevel: data.compressionLevel ?? defaults.compressionLevel,
      fullEveryMs: data.fullEvery ?? defaults.fullEveryMs,
      retention: data.retention ?? defaults.retention,
      hooks: data.hooks,
      ...runLimitsOf(data, defaults.limits),
      disabled: data.disabled,
    },
  }
}
