import {
  bufferFromBytePath,
  bytePathFromBuffer,
  type RestoreReport,
  textFromBytes,
} from '@central-backup/archive'
import { type MessageOf, ProtocolError, plainText, type RestoreCounts } from '@central-backup/protocol'
import type { SessionReport } from '../backup.ts'
import { sendLastWord } from '../last-word.ts'
import { findRestorePlace } from '../policy.ts'
import { ProgressReports } from '../progress-reports.ts'
import type { Session } from '../session.ts'
import { absolutePath, Warnings } from '../warnings.ts'
import { RestoreThread } from './restore-thread.ts'

/**
 * Fulfils a request to restore: what the server names is written below a folder that the settings allow. The refusal is
 * the same for all that they do not allow, whether it exists or not. Throws what ended it.
 */
export async function restore(session: Session, request: MessageOf<'restore'>): Promise<SessionReport> {
  const { channel, settings, log } = session
  const { source, startedAtMs, overwrite, numericIds, dryRun } = request
  const place = findRestorePlace(settings, request.target)
  if (place === null) {
    throw new ProtocolError('policy-denied', 'the settings of this host do not allow to restore there', {
      hint: '`allow.restore` in the settings of that host lists the folders that a server may restore to.',
    })
  }
  const target = plainText(textFromBytes(bytePathFromBuffer(request.target)))
  const state = new Date(startedAtMs).toISOString()
  if (!dryRun) log.info({ target, source, state, overwrite }, `a restore of ${source} as of ${state} begins`)
  const warnings = new Warnings(channel)
  const progress = new ProgressReports(channel)
  progress.enter(dryRun ? 'plan' : 'folders')
  try {
    const thread = new RestoreThread(channel, {
      request: { place, overwrite, numericIds, dryRun },
      stallMs: settings.limits.readStallMs,
      onProgress: (made) => progress.enter(made.phase, () => made),
      onProblem: ({ kind, path, message }) => warnings.add({ code: kind, path, message }),
    })
    const report = await thread.run()
    await warnings.flush()
    progress.stop()
    await sendLastWord(channel, { type: 'restore-end', report: report && countsOf(report) })
    if (report === null) return { request: 'restore', outcome: 'planned', target }
    const { restored } = report
    return { request: 'restore', outcome: outcomeOf(report), target, source, restored }
  } finally {
    progress.stop()
  }
}

function countsOf({ restored, contentBytes, equal, ...rest }: RestoreReport): RestoreCounts {
  const { damaged, failed, kept, notSet, mapped } = rest
  return {
    restored,
    contentBytes,
    equal,
    damaged: damaged.count,
    failed: failed.count,
    kept: kept.count,
    notSet: Object.entries(notSet).map(([kind, { examples, ...noted }]) => {
      return { kind, ...noted, examples: examples.map(absolutePath) }
    }),
    mapped: mapped.map(({ name, ...numbers }) => ({ ...numbers, name: bufferFromBytePath(name) })),
  }
}

/** For the log: what is missing of what was to be restored. */
function outcomeOf({ damaged, failed }: RestoreReport): string {
  return damaged.count + failed.count === 0 ? 'complete' : 'incomplete'
}
