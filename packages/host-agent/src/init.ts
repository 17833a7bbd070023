import { constants } from 'node:fs'
import { lstat, mkdir, open, rename, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder } from '@central-backup/archive'
import type { Bundle } from './bundle.ts'
import { AgentError, AlreadyExistsError } from './errors.ts'
import { hashPassword } from './password-hash.ts'
import { portDefault } from './settings-schema.ts'

export interface InitOptions {
  /** Where the settings go; key and certificates go beside them. An absolute path. */
  settingsFile: string
  /** Replace what is there. */
  force: boolean
}

/** A file or folder cannot be written. */
class WriteError extends AgentError {
  readonly code = 'write-failed'
}

interface PlannedFile {
  path: string
  content: string
}

/**
 * Sets this host up from a bundle: settings, key and certificates, only for this user. Writes either all files or, where
 * one of them is there and `force` is not given, none. Returns their paths.
 */
export async function initialize(bundle: Bundle, options: InitOptions): Promise<string[]> {
  const files = planFiles(bundle, await hashPassword(bundle.password), options.settingsFile)
  if (!options.force) await refuseExisting(files)
  const folder = dirname(options.settingsFile)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    for (const file of files) await writeWhole(file)
    await syncFolder(folder)
  } catch (cause) {
    const { code, path } = cause as NodeJS.ErrnoException
    const hint = 'backup-host init has to be run as root, as a rule.'
    throw new WriteError(`Cannot write ${path ?? folder} (${code})`, { cause, hint })
  }
  return files.map(({ path }) => path)
}

/** The settings come last: without them the rest is not used. */
function planFiles(bundle: Bundle, passwordHash: string, settingsFile: string): PlannedFile[] {
  const folder = dirname(settingsFile)
  return [
    { path: join(folder, 'host.key'), content: bundle.key },
    { path: join(folder, 'host.crt'), content: bundle.certificate },
    { path: join(folder, 'ca.crt'), content: bundle.authority },
    { path: settingsFile, content: formatSettings(bundle, passwordHash) },
  ]
}

async function refuseExisting(files: readonly PlannedFile[]): Promise<void> {
  const there: string[] = []
  for (const { path } of files) {
    if (await lstat(path).catch(() => null)) there.push(path)
  }
  if (there.length === 0) return
  throw new AlreadyExistsError(`${there.join(', ')} ${there.length === 1 ? 'is' : 'are'} there already`, {
    hint: 'Nothing was written. To replace all of them, run it again with --force.',
  })
}

/** Writes beside it and renames, so that there is never half a file, and a link that lies there is replaced, not followed. */
async function writeWhole({ path, content }: PlannedFile): Promise<void> {
  const beside = `${path}.new`
  await unlink(beside).catch(() => {})
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  await using file = await open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  await file.chmod(0o600)
  await file.writeFile(content)
  await file.sync()
  await rename(beside, path)
}

function formatSettings({ name, port }: Bundle, passwordHash: string): string {
  return `# Settings of backup-host, the agent of central-backup on this machine. Look at them with: backup-host check

# Who this host is: as in its certificate.
name = ${JSON.stringify(name)}

# Where the server reaches it; a list for more than one address. For IPv6: "[::]:${portDefault}".
listen = "0.0.0.0:${port}"

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
# keep = 1

# [limits]
# sessions = 4            # servers at a time
# compress_threads = 2
# cpu_nice = 10           # 0 (as others) to 19 (what others leave); I/O follows it

# [log]
# level = "info"          # error, warn, info or debug
# file = "/var/log/backup-host.log"    # instead of standard error, which systemd keeps in the journal
`
}
