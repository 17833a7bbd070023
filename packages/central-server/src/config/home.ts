import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ConfigurationError, UsageError } from '../errors.ts'

export const homeDefault = '/etc/central-backup'
export const repositoryDefault = '/var/lib/central-backup'

/** Where the parts of a home are; all absolute. */
export interface HomePaths {
  home: string
  settings: string
  hosts: string
  secrets: string
  bundles: string
  /** What tells Node that the modules are ES modules. */
  packageJson: string
}

export function homePaths(home: string): HomePaths {
  return {
    home,
    settings: join(home, 'settings.ts'),
    hosts: join(home, 'hosts'),
    secrets: join(home, 'secrets'),
    bundles: join(home, 'bundles'),
    packageJson: join(home, 'package.json'),
  }
}

export interface HomeSources {
  /** What `--home` says. */
  option: string | undefined
  /** What `$BACKUP_SERVER_HOME` says; empty counts as unset. */
  environment: string | undefined
  workingDirectory: string
}

/** Which home was chosen and by what, for messages: `home` is absolute and need not exist. */
export function chooseHome(sources: HomeSources): { home: string; chosenBy: string } {
  if (sources.option === '') throw new UsageError('--home is empty', { hint: 'Give a folder: --home DIR' })
  const { workingDirectory } = sources
  if (sources.option !== undefined)
    return { home: resolve(workingDirectory, sources.option), chosenBy: '--home' }
  if (sources.environment) {
    return { home: resolve(workingDirectory, sources.environment), chosenBy: '$BACKUP_SERVER_HOME' }
  }
  if (isFolder(join(workingDirectory, 'hosts'))) {
    return { home: workingDirectory, chosenBy: 'the current folder, which has hosts/' }
  }
  return { home: homeDefault, chosenBy: 'the default' }
}

/** As `chooseHome`, for everything but `init`: a home without hosts/ is no home. */
export function findHome(sources: HomeSources): string {
  const { home, chosenBy } = chooseHome(sources)
  const { hosts } = homePaths(home)
  if (isFolder(hosts)) return home
  const found = isFolder(home) ? `a folder without hosts/` : 'nothing there'
  throw new ConfigurationError(
    `${home} (${chosenBy}) is no home of backup-server`,
    [{ file: home, line: null, key: null, found, expected: 'a folder with settings.ts and hosts/' }],
    { hint: `Make one with: backup-server --home ${home} init; or name another with --home DIR.` },
  )
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
