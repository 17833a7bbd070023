import {
  ArchiveAssembly,
  type ArchiveEnd,
  ArchiveError,
  type AssembledArchive,
  type BytePath,
  leftOutReasons,
  PackerThread,
  Packing,
  type PackingOptions,
  type PackWarning,
  type Part,
  textFromBytes,
} from '@central-backup/archive'
import { baselineMsMax, type Channel, type MessageOf, ProtocolError } from '@central-backup/protocol'
import { sendLastWord } from './last-word.ts'
import type { LeftOutReports } from './left-out-reports.ts'
import type { LocalCopy } from './local-copy.ts'
import type { ProgressReports } from './progress-reports.ts'
import { requestedPaths, requestedPatterns } from './select/requested-selection.ts'
import type { Selected } from './select/select.ts'
import { SelectError, selectInThread } from './select/select-in-thread.ts'
import type { Session } from './session.ts'
import { software } from './version.ts'
import type { Warning, Warnings } from './warnings.ts'

type Request = MessageOf<'backup' | 'check'>

/** Where what is packed goes, beside the server, and what is told meanwhile. */
export interface Sending {
  /** What the policy lets the server read, without leading `/`. */
  allowed: readonly BytePath[]
  copy: LocalCopy | null
  warnings: Warnings
  progress: ProgressReports
  /** Of a listing only: there is no archive then. */
  leftOut: LeftOutReports | null
}

/** What was sent; `assembled` is `null` for a listing. */
export interface Sent {
  end: ArchiveEnd
  assembled: AssembledArchive | null
}

/** Selects what a request wants, packs it and sends it, the summary last. Throws a `ProtocolError`. */
export async function packAndSend(session: Session, request: Request, sending: Sending): Promise<Sent> {
  const { copy, warnings, progress, leftOut } = sending
  try {
    progress.enter('select')
    using thread = new PackerThread()
    const selected = await select(session, request, sending)
    for (const { path, message } of selected.unselected)
      void leftOut?.add(path, 'pseudo-file-system', message)
    const onWarning = (warning: PackWarning) => tell(warning, warnings, leftOut)
    const packing = new Packing(
      packingOptions(session, request, selected, onWarning),
      session.agent.pool,
      thread,
    )
    progress.enter('pack', () => packing.progress())
    const assembly = request.type === 'check' ? null : new ArchiveAssembly()
    const assembled = await sendParts(session, packing, copy, assembly)
    progress.enter('finish')
    if (copy?.failure) warnings.add(noLocalCopy(copy.failure))
    await leftOut?.flush()
    if (leftOut !== null && leftOut.unlisted > 0) warnings.add(leftOut.warning())
    await warnings.flush()
    progress.stop()
    await sendSummary(session, packing.end, assembled)
    return { end: packing.end, assembled }
  } catch (error) {
    throw toProtocolError(error)
  } finally {
    progress.stop()
  }
}

async function select(session: Session, request: Request, { allowed, warnings }: Sending): Promise<Selected> {
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
async function tell(warning: PackWarning, warnings: Warnings, leftOut: LeftOutReports | null): Promise<void> {
  const reason = leftOutReasons.find((one) => one === warning.code)
  if (reason === undefined) warnings.add(warning)
  else await leftOut?.add(warning.path, reason, warning.message)
}

/** What becomes of a copy that cannot be kept. */
export function noLocalCopy({ message }: Error): Warning {
  return { code: 'local-copy-failed', path: null, message: `the host keeps no local copy: ${message}` }
}

function packingOptions(
  session: Session,
  request: Request,
  selected: Selected,
  onWarning: (warning: PackWarning) => Promise<void>,
): PackingOptions {
  const { settings, channel } = session
  const exclude = requestedPatterns(request.exclude)
  const excludeLast = localCopies(session)
  return {
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
  }
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
      try {
        if (part.kind === 'frame') assembly?.addFrame(part.bytes)
        else assembly?.addIndex(part.bytes)
        await sending
      } catch (error) {
        // The one before it could not be sent, and this one never will be.
        part.release()
        throw error
      }
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
  const summary: MessageOf<'summary'> = {
    type: 'summary',
    outcome: end.outcome,
    counts: end.counts,
    finishedAtMs: end.finishedAtMs,
    digest: assembled?.digest ?? null,
    archiveBytes: assembled?.archiveBytes ?? 0,
    tarBytes: assembled?.tarBytes ?? 0,
  }
  // Of a listing, it is the last that is said.
  if (assembled === null) await sendLastWord(channel, summary)
  else await channel.send(summary)
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
