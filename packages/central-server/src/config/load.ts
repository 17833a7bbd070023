import { ConfigurationError } from '../errors.ts'
import { type Host, type HostProblem, readHosts } from './hosts.ts'
import { ModuleLoader } from './module.ts'
import type { PasswordEnvironment } from './password.ts'
import { hostDefaults, readSettings, type ServerSettings } from './settings.ts'

/** All that the files of a home say. */
export interface Configuration {
  settings: ServerSettings
  /** Hosts whose modules are good, in the order of their names; disabled ones too. */
  hosts: Host[]
  /** What is wrong with the other modules. */
  problems: HostProblem[]
}

/** What loading needs of the process that it runs in; a test gives its own. */
export interface LoadSurroundings {
  environment: PasswordEnvironment
  uid: number
}

/**
 * Reads settings and host modules of `home`, an absolute path. Problems of host modules are returned, since the other
 * hosts can still be backed up. Throws `ConfigurationError` where settings.ts cannot be used, with the problems of
 * the host modules too, so that all can be mended at once.
 */
export async function loadConfiguration(
  home: string,
  surroundings: LoadSurroundings = { environment: process.env, uid: process.geteuid!() },
): Promise<Configuration> {
  using loader = new ModuleLoader(surroundings.uid)
  const { settings, problems: settingsProblems } = await readSettings(home, loader)
  const { hosts, problems } = await readHosts(home, settings?.defaults ?? hostDefaults, {
    loader,
    ...surroundings,
  })
  if (settings === null) {
    throw new ConfigurationError('The settings cannot be used', [...settingsProblems, ...problems], {
      hint: 'Mend what is listed; `backup-server check --offline` looks at all of it again.',
    })
  }
  return { settings, hosts, problems }
}
