import { formatArchiveName, textFromBytes } from '@central-backup/archive'
import {
  type Channel,
  finishedMsMax,
  hooksMsMax,
  type MessageOf,
  ProtocolError,
} from '@central-backup/protocol'
import { Baseline } from '../catalog/baseline-source.ts'
import type { Run } from '../catalog/catalog.ts'
import { cutText } from '../catalog/catalog.ts'
import type { Lease } from '../catalog/lease.ts'
import { RunRecorder } from '../catalog/record-run.ts'
import type { Host } from '../config/hosts.ts'
import { StorageError } from '../errors.ts'
import { type ReceivedRun, type RunObserver, receiveRun, summaryFault } from '../session/receive-run.ts'
import { listArchives, planStalePartials, removePartials } from '../storage/archive-list.ts'
import { type ArchiveWriter, createArchive } from '../storage/archive-writer.ts'
import { backupRequest } from './backup-request.ts'
import type { Room } from './room.ts'
import type { RunReport } from './run-report.ts'
import type { ServerContext } from './server-context.ts'

/** How long a partial archive that was set aside stays to be looked at. */
const setAsideKeptMs = 14 * 24 * 3_600_000

/** Warnings that an agent may have after the archive is stored: of its hooks. */
const lateWarningsMax = 1000

/** The run that an archive is received for. */
export interface ReceivingRun {
  context: ServerContext
  host: Host
  lease: Lease
  id: number
  /** What an incremental run is compared with. */
  base: Run | null
  /** What the host and the disk have room for. */
  room: Room
  report: RunReport
  observer: RunObserver
}

/**
 * The conversation from the request to the last word, and the archive from its first byte to its place. Throws what broke
 * it; what had come then is left as a partial archive, unless it is worth nothing.
 */
export async function receiveArchive(run: ReceivingRun, channel: Channel): Promise<void> {
  const { context, host, lease, id, base, room, report } = run
  const { kind, startedAtMs } = report.result
  const request = backupRequest(host, { kind, startedAtMs, base: base?.archive?.name ?? null })
  await channel.send(request)
  await expectArchiveName(channel, request)
  const writer = await createArchive(context.repository, host.name, request)
  try {
    const received = await receiveRun(channel, request, {
      sink: room.guard(writer),
      observer: collecting(run),
      baseline: base === null ? null : new Baseline(context.catalog, base),
    })
    const fault = summaryFault(received)
    if (fault !== null) throw new ArchiveDiffersError(fault, writer.asidePath('mismatch'))
    report.takeSummary(received)
    if (received.summary.outcome === 'failed') throw new NothingPackedError()
    // Of two processes that believe themselves at work, only one may leave an archive: the other's would build on the same.
    lease.heartbeat()
    await store(run, id, writer, received)
    await confirm(run, channel, received)
  } catch (error) {
    await giveUp(writer, error)
    throw error
  }
  await removeOldPartials(run)
}

/** First the file, then the row: a crash in between leaves an archive that the catalog does not know, never the reverse. */
async function store(
  { context, report }: ReceivingRun,
  id: number,
  writer: ArchiveWriter,
  { assembled }: ReceivedRun,
): Promise<void> {
  await writer.commit()
  const { digest, archiveBytes } = assembled!
  report.result.archive = { name: writer.name, bytes: archiveBytes, digest: digest.toString('hex') }
  report.result.finishedAtMs = context.now()
  context.catalog.finishRun(id, report.record())
}

/** The run is good by now: an agent that goes away costs its local copy at most, and what its last hooks had to say. */
async function confirm(
  { report }: ReceivingRun,
  channel: Channel,
  { assembled }: ReceivedRun,
): Promise<void> {
  const { digest, archiveBytes } = assembled!
  const late = setTimeout(() => {
    void channel.fail(new ProtocolError('stalled', 'the agent does not come to an end'))
  }, hooksMsMax + finishedMsMax)
  let warnings = 0
  try {
    await channel.send({ type: 'stored', digest, archiveBytes })
    for (;;) {
      const message = await channel.receive(['warning', 'progress', 'finished'], { timeoutMs: finishedMsMax })
      if (message.type === 'finished') {
        report.result.localCopy = message.localCopy
        return
      }
      if (message.type !== 'warning') continue
      if (++warnings > lateWarningsMax)
        throw new ProtocolError('message-out-of-turn', `more than ${lateWarningsMax} warnings after the end`)
      const { code, message: text } = message
      report.tell(code, text)
    }
  } catch (error) {
    report.tell(
      'agent-gone',
      `the archive is stored, but the agent did not finish: ${(error as Error).message}`,
    )
  } finally {
    clearTimeout(late)
  }
}

/** What was set aside stays for a while, for whoever wants to look at it. */
async function removeOldPartials({ context, host, report }: ReceivingRun): Promise<void> {
  const { repository, now } = context
  try {
    const { partials } = await listArchives(repository, host.name)
    const aside = partials.filter(({ reason }) => reason !== null)
    await removePartials(repository, host.name, planStalePartials(aside, setAsideKeptMs, now()))
  } catch (error) {
    report.tell('partials-left', (error as Error).message)
  }
}

function collecting({ context, lease, id, base, report, observer }: ReceivingRun): RunObserver {
  const place = { generation: base?.generation ?? id, base: base?.id ?? null }
  const recorder = new RunRecorder(context.catalog, id, place)
  return {
    ...observer,
    onEntries: async (entries, gone) => {
      await recorder.addInTurns(entries, gone, lease.signal)
      await observer.onEntries?.(entries, gone)
    },
    onWarning: (warning) => {
      observer.onWarning?.(warning)
      const path = warning.path === null ? null : cutText(textFromBytes(warning.path))
      report.warn(warning.code, warning.message, path)
    },
  }
}

/** The agent names its local copy; it is held to the name that follows from the request. */
async function expectArchiveName(channel: Channel, request: MessageOf<'backup'>): Promise<void> {
  const { name } = await channel.receive(['archive-name'])
  const expected = formatArchiveName(request)
  if (name !== expected)
    throw new ProtocolError('message-malformed', `the agent names the archive ${name} instead of ${expected}`)
}

/** After these, what arrived is not to be relied on, whatever of it is well formed. */
const distrustedAfter: ReadonlySet<string> = new Set([
  'message-unknown',
  'message-too-large',
  'message-malformed',
  'message-out-of-turn',
  'wrong-host',
])

/**
 * What arrived stays as a partial archive that the next run goes on from, but for what is not to be relied on, which is set
 * aside to be looked at, and what is worth nothing: without a file in it, or one that fills the disk and so keeps others
 * from being written.
 */
async function giveUp(writer: ArchiveWriter, error: unknown): Promise<void> {
  const worthless =
    writer.bytes === 0 ||
    error instanceof NothingPackedError ||
    (error instanceof StorageError && error.code === 'disk-full')
  if (worthless) await writer.discard()
  else if (error instanceof ArchiveDiffersError) await writer.setAside('mismatch')
  else if (error instanceof ProtocolError && distrustedAfter.has(error.code)) await writer.setAside('refused')
  else await writer.abandon()
}

/** What was packed and what arrived are not the same. */
class ArchiveDiffersError extends ProtocolError {
  constructor(fault: string, asidePath: string) {
    super('message-malformed', `${fault}; what arrived is set aside as ${asidePath}`, {
      hint: 'Bytes were changed on their way or in memory. Run again; if it comes back, test the memory of both machines.',
    })
  }
}

/** The agent is content, but there is nothing to keep. */
class NothingPackedError extends ProtocolError {
  constructor() {
    super('source-failed', 'the paths of the host hold not a single file', {
      hint: 'Look at the warnings, and whether what should be backed up is mounted on the host.',
    })
  }
}
