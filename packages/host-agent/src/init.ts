import { lstat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { makeFolders, syncFolder } from '@central-backup/archive'
import type { Bundle } from './bundle.ts'
import { AgentError, AlreadyExistsError } from './errors.ts'
import { hashPassword } from './password-hash.ts'
import { portDefault } from './settings-schema.ts'
import { writeWhole } from './whole-file.ts'

export interface InitOptions {
  /** Where the settings go; key and certificates go beside them. An absolute path. */
  settingsFile: string
  /** Replace what is there. */
  force: boolean
  /** Where the agent is to listen: `IP:PORT`. */
  listen: string
}

/** A file or folder cannot be written. */
export class WriteError extends AgentError {
  readonly code = 'write-failed'
}

/** A file for the user of this program only. */
interface PlannedFile {
  /** Absolute. */
  path: string
  content: string
}

/** What makes a machine a host: all of a bundle but the port, which is part of `listen`. */
export type HostSetup = Omit<Bundle, 'port'>

/**
 * Sets this host up: settings, key and certificates, only for this user. Writes either all files or, where
 * one of them is there and `force` is not given, none. Returns their paths.
 */
export async function initialize(setup: HostSetup, options: InitOptions): Promise<string[]> {
  const { settingsFile, force, listen } = options
  const settings = formatSettings(setup.name, listen, await hashPassword(setup.password))
  const { key, certificate, authority } = setupPaths(settingsFile)
  if (!force) await refuseExistingSetup(settingsFile)
  // The settings come last: without them the rest is not used.
  const files = [
    { path: key, content: setup.key },
    { path: certificate, content: setup.certificate },
    { path: authority, content: setup.authority },
    { path: settingsFile, content: settings },
  ]
  await writePrivateFiles(dirname(settingsFile), files)
  return files.map(({ path }) => path)
}

/** Writes files of one folder, which is made if need be, one after the other, so that they survive a power loss. */
export async function writePrivateFiles(folder: string, files: readonly PlannedFile[]): Promise<void> {
  try {
    await makeFolders(folder)
    for (const { path, content } of files) await writeWhole(path, content)
    await syncFolder(folder)
  } catch (cause) {
    const { code, path, message } = cause as NodeJS.ErrnoException
    const hint = 'backup-host has to be run as root for this, as a rule.'
    throw new WriteError(`Cannot write ${path ?? folder} (${code ?? message})`, { cause, hint })
  }
}

/** Where the files go beside the settings. */
function setupPaths(settingsFile: string): { key: string; certificate: string; authority: string } {
  const folder = dirname(settingsFile)
  return {
    key: join(folder, 'host.key'),
    certificate: join(folder, 'host.crt'),
    authority: join(folder, 'ca.crt'),
  }
}

/** Throws `AlreadyExistsError` where one of the files of a host that is set up is there. */
export async function refuseExistingSetup(settingsFile: string): Promise<void> {
  const there: string[] = []
  for (const path of [...Object.values(setupPaths(settingsFile)), settingsFile]) {
    if (await isThere(path)) there.push(path)
  }
  if (there.length === 0) return
  throw new AlreadyExistsError(`${there.join(', ')} ${there.length === 1 ? 'is' : 'are'} there already`, {
    hint: 'Nothing was written. To replace all of them, run it again with --force.',
  })
}

/** Whether something has this path, a dangling link included. Throws the error of the system where that cannot be told. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

function formatSettings(name: string, listen: string, passwordHash: string): string {
  return `# Settings of backup-host, the agent of central-backup on this machine. Look at them with: backup-host check

# Who this host is: as in its certificate.
name = ${JSON.stringify(name)}

# Where the server reaches it; a list for more than one address. For IPv6: "[::]:${portDefault}".
listen = "${listen}"

# Of the password that the server shows. For another one: backup-host hash-password
password_hash = "${passwordHash}"

[tls]
ca = "ca.crt"
certificate = "host.crt"
key = "host.key"

[allow]
# What the server may read, whatever it asks for: these paths and all that is below them.
read = ["/"]
# Folders that the server may restore to. As root: whoever may restore to "/" or "/etc" is root here.
# restore = ["/srv/restore"]

# [local_copy]
# Keep the newest archives on this host too.
# directory = "/var/backups/central-backup"
# keep = 2                # the newest
# keep_days = 3           # and all that are younger: a server cannot push them out
# min_free_percent = 5    # of that disk

# A command that is run before or after backups. A server can ask for it by its name, and for nothing else.
# [hooks.dump-db]
# command = ["/usr/local/sbin/dump-db", "--all"]    # root's own program; no shell is between
# when = "before"         # or "after" (one that was stored), or "after-always" (also one that failed)
# run = "asked"           # by the server; or "always"
# time_limit_seconds = 300
# on_failure = "fail"     # the backup, too; or "warn"
# runs_per_hour = 12

# [limits]
# sessions = 4            # requests at a time
# runs_per_hour = 12      # backups; any number if not given
# bytes_per_second = 10000000               # all runs together; as fast as they can if not given
# compress_threads = 2
# cpu_nice = 10           # 0 (as others) to 19 (what others leave); I/O follows it

# [log]
# level = "info"          # error, warn, info or debug
# file = "/var/log/backup-host/backup-host.log"    # instead of standard error, which systemd keeps in the journal
`
}
