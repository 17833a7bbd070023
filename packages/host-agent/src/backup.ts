import {
  ArchiveAssembly,
  type ArchiveEnd,
  ArchiveError,
  type AssembledArchive,
  type BytePath,
  formatArchiveName,
  leftOutReasons,
  Packing,
  type PackWarning,
  type Part,
  type RestoreReport,
  textFromBytes,
} from '@central-backup/archive'
import {
  baselineMsMax,
  type Channel,
  type MessageOf,
  ProtocolError,
  storedMsMax,
} from '@central-backup/protocol'
import { hiddenAttributes } from './hidden-attributes.ts'
import { sendLastWord } from './last-word.ts'
import { LeftOutReports } from './left-out-reports.ts'
import { LocalCopy } from './local-copy.ts'
import { ProgressReports } from './progress-reports.ts'
import { requestedPaths, requestedPatterns } from './select/requested-selection.ts'
import type { Selected } from './select/select.ts'
import { SelectError, selectInThread } from './select/select-in-thread.ts'
import type { Session } from './session.ts'
import { software } from './version.ts'
import { type Warning, Warnings } from './warnings.ts'

type Request = MessageOf<'backup' | 'check'>

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
 * Fulfils a request: selects, packs, sends, and keeps the local copy once the server has its own. Of a `check`, only
 * the index is sent. Throws what ended it.
 */
export async function backUp(
  session: Session,
  request: Request,
  allowed: readonly BytePath[],
): Promise<SessionReport> {
  const { channel } = session
  const warnings = new Warnings(channel)
  const leftOut = request.type === 'check' ? new LeftOutReports(channel) : null
  const progress = new ProgressReports(channel)
  let copy: LocalCopy | null = null
  try {
    const archive = request.type === 'backup' ? nameArchive(request) : null
    if (archive !== null) await channel.send({ type: 'archive-name', name: archive })
    const hidden = archive === null ? null : hiddenAttributes()
    if (hidden !== null) warnings.add(hidden)
    const selected = await select(session, request, allowed, warnings)
    for (const { path, message } of selected.unselected) leftOut?.add(path, 'pseudo-file-system', message)
    if (archive !== null) copy = await beginLocalCopy(session, archive, warnings)

    const packing = startPacking(session, request, selected, (warning) => tell(warning, warnings, leftOut))
    progress.enter('pack', () => packing.progress())
    const assembled = await sendParts(session, packing, copy, archive === null ? null : new ArchiveAssembly())
    progress.enter('finish')
    if (copy?.failure) warnings.add(noLocalCopy(copy.failure))
    await leftOut?.flush()
    if (leftOut !== null && leftOut.unlisted > 0) warnings.add(leftOut.warning())
    await warnings.flush()
    progress.stop()

    const { end } = packing
    await sendSummary(session, end, assembled)
    const report = { request: request.type, outcome: end.outcome, counts: end.counts }
    if (assembled === null || end.outcome === 'failed') return report
    const localCopy = await confirm(session, assembled, copy)
    return { ...report, archive: archive!, archiveBytes: assembled.archiveBytes, localCopy }
  } catch (error) {
    throw toProtocolError(error)
  } finally {
    progress.stop()
    await copy?.discard()
  }
}

/** A server may name a time that no archive can have. */
function nameArchive(request: MessageOf<'backup'>): string {
  try {
    return formatArchiveName(request)
  } catch (cause) {
    throw new ProtocolError('request-invalid', (cause as Error).message, { cause })
  }
}

async function select(
  session: Session,
  request: Request,
  allowed: readonly BytePath[],
  warnings: Warnings,
): Promise<Selected> {
  const wanted = {
    paths: requestedPaths(request),
    exclude: requestedPatterns(request.exclude),
    excludeLast: localCopies(session),
    allowed,
  }
  const selected = await selectInThread(wanted, session.settings.limits.readStallMs, session.channel.ended)
  for (const problem of selected.problems) warnings.add(problem)
  return selected
}

/**
 * Patterns for the archives that this host keeps itself, which are no part of it: each would hold those before. They come
 * after those of the server, so that these take nothing of it back.
 */
function localCopies({ settings }: Session): string[] {
  const copies = settings.localCopy?.directory.replace(/\/+$/, '').replaceAll(/[^\w/.-]/g, '\\$&')
  return copies === undefined ? [] : [`${copies}/*.tar.zst`, `${copies}/*.tar.zst.partial`]
}

/** What a rule leaves out is no warning, and told only where that was asked for. */
function tell(warning: PackWarning, warnings: Warnings, leftOut: LeftOutReports | null): void {
  const reason = leftOutReasons.find((one) => one === warning.code)
  if (reason === undefined) warnings.add(warning)
  else leftOut?.add(warning.path, reason, warning.message)
}

function noLocalCopy({ message }: Error): Warning {
  return { code: 'local-copy-failed', path: null, message: `the host keeps no local copy: ${message}` }
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

function startPacking(
  session: Session,
  request: Request,
  selected: Selected,
  onWarning: (warning: PackWarning) => void,
): Packing {
  const { agent, settings, channel } = session
  const exclude = requestedPatterns(request.exclude)
  const excludeLast = localCopies(session)
  return new Packing(
    {
      selection: { roots: selected.roots, exclude, excludeLast },
      header: {
        host: settings.name,
        kind: request.type === 'backup' ? request.kind : 'full',
        base: request.type === 'backup' ? request.base : null,
        startedAtMs: request.type === 'backup' ? request.startedAtMs : Date.now(),
        software,
        paths: requestedPaths(request).map(({ path }) => textFromBytes(path)),
        exclude: [...exclude, ...excludeLast],
        repack: null,
      },
      missing: selected.missing,
      listOnly: request.type === 'check',
      compressionLevel: request.type === 'backup' ? request.compressionLevel : undefined,
      stallMs: settings.limits.readStallMs,
      onWarning,
      nextBaseline: request.type === 'backup' && request.base !== null ? askForBaseline(channel) : undefined,
    },
    agent.pool,
  )
}

/** Asks the server for one batch after the other, when the packer wants it: neither side piles them up. */
function askForBaseline(channel: Channel): () => Promise<Uint8Array | null> {
  let ended = false
  return async () => {
    if (ended) return null
    await channel.send({ type: 'baseline-next' })
    const answer = await channel.receive(['baseline', 'baseline-end'], { timeoutMs: baselineMsMax })
    ended = answer.type === 'baseline-end'
    return answer.type === 'baseline' ? answer.payload : null
  }
}

/**
 * Sends every part as it comes, and writes it to the local copy. One part is on its way while the next is made. Without
 * an `assembly`, the parts make no archive, and nothing is known of one in the end.
 */
async function sendParts(
  session: Session,
  packing: Packing,
  copy: LocalCopy | null,
  assembly: ArchiveAssembly | null,
): Promise<AssembledArchive | null> {
  const cancel = () => packing.cancel(session.channel.ended.reason)
  session.channel.ended.addEventListener('abort', cancel, { once: true })
  try {
    let sending: Promise<unknown> = Promise.resolve()
    for await (const part of packing) {
      if (part.kind === 'frame') assembly?.addFrame(part.bytes)
      else assembly?.addIndex(part.bytes)
      await sending
      sending = sendPart(session, part, copy)
      // Awaited before the next part, or below; until then a failure is not to go unhandled.
      sending.catch(() => {})
    }
    await sending
  } finally {
    session.channel.ended.removeEventListener('abort', cancel)
  }
  const assembled = assembly?.finish() ?? null
  if (assembled !== null) await copy?.write(assembled.seekTable)
  return assembled
}

async function sendPart({ channel }: Session, part: Part, copy: LocalCopy | null): Promise<void> {
  const type = part.kind === 'frame' ? 'frame' : 'entries'
  const written = copy?.write(part.bytes)
  try {
    await channel.send({ type, payload: part.bytes })
  } finally {
    // The memory is used for something else once it is released.
    await written
    part.release()
  }
}

async function sendSummary(
  { channel }: Session,
  end: ArchiveEnd,
  assembled: AssembledArchive | null,
): Promise<void> {
  await channel.send({
    type: 'summary',
    outcome: end.outcome,
    counts: end.counts,
    finishedAtMs: end.finishedAtMs,
    digest: assembled?.digest ?? null,
    archiveBytes: assembled?.archiveBytes ?? 0,
    tarBytes: assembled?.tarBytes ?? 0,
  })
}

/** Waits until the server has stored the archive, then keeps the local copy, and tells what became of it. */
async function confirm(
  { channel, log }: Session,
  assembled: AssembledArchive,
  copy: LocalCopy | null,
): Promise<string> {
  const stored = await channel.receive(['stored'], { timeoutMs: storedMsMax })
  if (!stored.digest.equals(assembled.digest) || stored.archiveBytes !== assembled.archiveBytes) {
    throw new ProtocolError('storage-failed', 'the server stored something else than what was sent')
  }
  if (copy === null) {
    await sendLastWord(channel, { type: 'finished', localCopy: null })
    return 'none'
  }
  await copy.keep()
  const { failure, name } = copy
  if (failure !== null) log.error(`the local copy ${name} was not kept: ${failure.message}`)
  await sendLastWord(channel, {
    type: 'finished',
    localCopy: { kept: failure === null, name, ...(failure && { error: failure.message }) },
  })
  return failure === null ? 'kept' : 'failed'
}

/** The server is told what of the host's own troubles concerns it. */
function toProtocolError(error: unknown): unknown {
  if (error instanceof ProtocolError) return error
  if (error instanceof ArchiveError)
    return new ProtocolError('source-failed', error.message, { cause: error, hint: error.hint })
  if (error instanceof SelectError) {
    const code = error.code === 'select-stalled' ? 'source-failed' : 'request-invalid'
    return new ProtocolError(code, error.message, { cause: error })
  }
  return error
}
