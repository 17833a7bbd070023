import {
  type ArchiveEnd,
  type AssembledArchive,
  type BytePath,
  formatArchiveName,
  type RestoreReport,
} from '@central-backup/archive'
import { type MessageOf, type Outcome, ProtocolError, storedMsMax } from '@central-backup/protocol'
import { hiddenAttributes } from './hidden-attributes.ts'
import { RunHooks } from './hooks/run-hooks.ts'
import { sendLastWord } from './last-word.ts'
import { LeftOutReports } from './left-out-reports.ts'
import { LocalCopy } from './local-copy.ts'
import { noLocalCopy, packAndSend } from './pack-and-send.ts'
import { ProgressReports } from './progress-reports.ts'
import type { Session } from './session.ts'
import { Warnings } from './warnings.ts'

/** What a session came to, for the log. */
export interface SessionReport {
  request: 'backup' | 'check' | 'restore' | 'none'
  outcome: string
  /** Where a restore went, and the host whose backup it is. */
  target?: string
  source?: string
  restored?: RestoreReport['restored']
  archive?: string
  archiveBytes?: number
  localCopy?: string
  counts?: ArchiveEnd['counts']
}

/**
 * Fulfils a request: runs the hooks before it, selects, packs and sends, keeps the local copy once the server has its own,
 * and runs the hooks after it, however it ended. Throws what ended it.
 */
export async function backUp(
  session: Session,
  request: MessageOf<'backup'>,
  allowed: readonly BytePath[],
): Promise<SessionReport> {
  const { agent, channel, settings, log, server } = session
  const archive = nameArchive(request)
  const hooks = RunHooks.begin({ agent, settings, log, server: server.name, archive }, request)
  const warnings = new Warnings(channel)
  let copy: LocalCopy | null = null
  let outcome: Outcome = 'failed'
  try {
    limitRate(session, request.bytesPerSecond)
    await channel.send({ type: 'archive-name', name: archive })
    const progress = new ProgressReports(channel)
    await prepare(session, hooks, warnings, progress)
    const hidden = hiddenAttributes()
    if (hidden !== null) warnings.add(hidden)
    copy = await beginLocalCopy(session, archive, warnings)
    const sent = await packAndSend(session, request, { allowed, copy, warnings, progress, leftOut: null })
    const { end, assembled } = sent
    const report: SessionReport = { request: 'backup', outcome: end.outcome, counts: end.counts }
    if (assembled === null || end.outcome === 'failed') return report
    await expectStored(session, assembled)
    outcome = end.outcome
    const localCopy = await finish(session, { copy, hooks, warnings, outcome })
    return { ...report, archive, archiveBytes: assembled.archiveBytes, localCopy }
  } catch (error) {
    // The server is not kept waiting for what comes after a run that broke.
    void channel.fail(error)
    throw error
  } finally {
    await copy?.discard()
    await hooks.after(outcome, (warning) => warnings.add(warning))
  }
}

/** Fulfils a request to list what a backup would pack: only the index is sent, and no hook runs. Throws what ended it. */
export async function list(
  session: Session,
  request: MessageOf<'check'>,
  allowed: readonly BytePath[],
): Promise<SessionReport> {
  const { channel } = session
  limitRate(session)
  const { end } = await packAndSend(session, request, {
    allowed,
    copy: null,
    warnings: new Warnings(channel),
    progress: new ProgressReports(channel),
    leftOut: new LeftOutReports(channel),
  })
  return { request: 'check', outcome: end.outcome, counts: end.counts }
}

/** A server may name a time that no archive can have. */
function nameArchive(request: MessageOf<'backup'>): string {
  try {
    return formatArchiveName(request)
  } catch (cause) {
    throw new ProtocolError('request-invalid', (cause as Error).message, { cause })
  }
}

/** What the host wants holds for all sessions together; what the server wants, for its own. */
function limitRate({ agent, channel, settings }: Session, bytesPerSecond?: number): void {
  const pace = agent.pace.of(settings.limits.bytesPerSecond)
  if (pace !== null) channel.shareRate(pace)
  if (bytesPerSecond !== undefined) channel.limitRate(bytesPerSecond)
}

/** Runs the hooks before the run. An agent at work says so, and so the server waits for as long as they may take. */
async function prepare(
  { channel }: Session,
  hooks: RunHooks,
  warnings: Warnings,
  progress: ProgressReports,
): Promise<void> {
  progress.enter('prepare', () => ({ entries: hooks.done, contentBytes: 0, path: '' as BytePath }))
  try {
    await hooks.before(channel.ended, (warning) => warnings.add(warning))
  } catch (error) {
    progress.stop()
    await warnings.flush()
    throw error
  }
}

/** `null` where the settings want no copy, or where it cannot be begun: that costs the copy, not the run. */
async function beginLocalCopy(
  { settings }: Session,
  archive: string,
  warnings: Warnings,
): Promise<LocalCopy | null> {
  if (settings.localCopy === null) return null
  try {
    return await LocalCopy.create(settings.localCopy, archive)
  } catch (error) {
    warnings.add(noLocalCopy(error as Error))
    return null
  }
}

/** Waits until the server has stored the archive. */
async function expectStored({ channel }: Session, assembled: AssembledArchive): Promise<void> {
  const stored = await channel.receive(['stored'], { timeoutMs: storedMsMax })
  if (!stored.digest.equals(assembled.digest) || stored.archiveBytes !== assembled.archiveBytes) {
    throw new ProtocolError('storage-failed', 'the server stored something else than what was sent')
  }
}

interface Finishing {
  copy: LocalCopy | null
  hooks: RunHooks
  warnings: Warnings
  outcome: Outcome
}

/** Keeps the local copy, runs the hooks after the run, and says so to the server. Tells what became of the copy. */
async function finish(
  { channel, log }: Session,
  { copy, hooks, warnings, outcome }: Finishing,
): Promise<string> {
  const progress = new ProgressReports(channel)
  progress.enter('finish', () => ({ entries: hooks.done, contentBytes: 0, path: '' as BytePath }))
  try {
    await copy?.keep()
    await hooks.after(outcome, (warning) => warnings.add(warning))
    await warnings.flush()
  } finally {
    progress.stop()
  }
  if (copy === null) {
    await sendLastWord(channel, { type: 'finished', localCopy: null })
    return 'none'
  }
  const { failure, name } = copy
  if (failure !== null) log.error(`the local copy ${name} was not kept: ${failure.message}`)
  await sendLastWord(channel, {
    type: 'finished',
    localCopy: { kept: failure === null, name, ...(failure && { error: failure.message }) },
  })
  return failure === null ? 'kept' : 'failed'
}
