import { posix } from 'node:path'
import {
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  isWithin,
  type Overwrite,
  type RestoreReport,
  textFromBytes,
} from '@central-backup/archive'
import { ProtocolError } from '@central-backup/protocol'
import type { Run } from '../catalog/catalog.ts'
import type { Host } from '../config/hosts.ts'
import { UsageError } from '../errors.ts'
import { openSession } from '../session/open-session.ts'
import { type RemoteRestoreObserver, serveRestore } from '../session/serve-restore.ts'
import type { ServerContext } from './server-context.ts'
import type { StandingSource } from './standing-source.ts'
import { limitTime } from './time-limit.ts'

/** What is told of a restore to a host. */
export interface HostRestoreObserver extends RemoteRestoreObserver {
  onRetry?(error: ProtocolError, attempt: number): void
  /** The host allows it: the work begins. `target` is an absolute path there. */
  onBegin?(target: string): void
}

export interface HostRestore {
  /** What is restored, as it stood in `run`. */
  source: StandingSource
  run: Run
  /** An absolute path on the host; `null` for the folder that it allows. */
  target: string | null
  overwrite: Overwrite
  /** Owners have the numbers that were backed up, and not those that their names have there. */
  numericIds: boolean
  /** Only tells what would be done, step by step. */
  dryRun: boolean
}

/**
 * Restores through the agent of a host, which need not be the one that was backed up. What could not be restored is in
 * the report, which is `null` after a dry run. Throws a `ProtocolError` where the session fails or the host refuses,
 * `LimitError` where it takes longer than a run of that host may, and `UsageError` where there is no telling which
 * folder is meant.
 */
export async function restoreToHost(
  context: ServerContext,
  host: Host,
  { source, run, target, overwrite, numericIds, dryRun }: HostRestore,
  observer: HostRestoreObserver,
): Promise<RestoreReport | null> {
  const { credentials, serverName, settings, log } = context
  using time = limitTime(
    host,
    'the restore',
    'What was restored stays there, and the same restore goes on with what is missing.',
  )
  const signal = AbortSignal.any([context.signal, time.signal])
  const onRetry = (error: ProtocolError, attempt: number) => observer.onRetry?.(error, attempt)
  const connection = settings.connection
  const { channel, welcome } = await openSession({
    host,
    credentials,
    serverName,
    connection,
    signal,
    onRetry,
  })
  const facts = { host: run.host, run: run.id, to: host.name, dryRun }
  try {
    const allowed = welcome.policy.restore.map((path) => textFromBytes(bytePathFromBuffer(path)))
    const chosen = chooseTarget(host.name, allowed, target)
    observer.onBegin?.(chosen)
    log.info({ ...facts, target: chosen }, `${run.host}: restore of run ${run.id} to ${host.name} begins`)
    const request = {
      type: 'restore' as const,
      host: host.name,
      source: run.host,
      startedAtMs: run.startedAtMs,
      target: bufferFromBytePath(bytesFromText(chosen)),
      overwrite,
      numericIds,
      dryRun,
    }
    await channel.send(request)
    const report = await serveRestore(channel, request, source, observer)
    await channel.close()
    const counts = report && {
      restored: report.restored,
      damaged: report.damaged.count,
      failed: report.failed.count,
    }
    log.info({ ...facts, ...counts }, `${run.host}: restore of run ${run.id} to ${host.name} ended`)
    return report
  } catch (failure) {
    await channel.fail(failure)
    const isLate = time.signal.aborted && !context.signal.aborted
    const error = isLate ? time.signal.reason : failure
    const { code, message } = error as { code?: string; message: string }
    log.error({ ...facts, code }, `${run.host}: restore of run ${run.id} to ${host.name} failed: ${message}`)
    throw error
  }
}

/**
 * Where to restore to, of what a host allows: without a wish, the one folder that it allows, unless that is `/`. To write
 * over a machine that is at work has to be asked for in so many words.
 */
export function chooseTarget(host: string, allowed: readonly string[], wish: string | null): string {
  if (wish !== null) {
    const target = posix.resolve('/', wish)
    if (allowed.some((folder) => isBelow(target, folder))) return target
    throw denied(host, allowed)
  }
  const [only] = allowed
  if (only === undefined) throw denied(host, allowed)
  if (allowed.length > 1) {
    throw new UsageError(`${host} allows to restore to several folders: ${allowed.join(', ')}`, {
      hint: 'Name one of them, or a folder below one, by --target.',
    })
  }
  if (posix.resolve('/', only) === '/') {
    throw new UsageError(`${host} allows to restore anywhere, and nothing says where to`, {
      hint: '--target /some/folder restores below that folder, --target / in place.',
    })
  }
  return posix.resolve('/', only)
}

function isBelow(target: string, folder: string): boolean {
  const pathOf = (text: string) => bytesFromText(posix.resolve('/', text).slice(1))
  return isWithin(pathOf(target), pathOf(folder))
}

/** The agent says the same, in the same words: whether something exists there plays no part. */
function denied(host: string, allowed: readonly string[]): ProtocolError {
  const folders = allowed.length === 0 ? 'none' : allowed.join(', ')
  return new ProtocolError('policy-denied', `the settings of ${host} do not allow to restore there`, {
    hint: `\`allow.restore\` in the settings of that host lists the folders that a server may restore to: ${folders}.`,
  })
}
