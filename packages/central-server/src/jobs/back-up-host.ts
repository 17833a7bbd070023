import { setTimeout as delay } from 'node:timers/promises'
import { formatArchiveName, type Outcome, type RunKind, textFromBytes } from '@central-backup/archive'
import { type Channel, finishedMsMax, type MessageOf, ProtocolError } from '@central-backup/protocol'
import { Baseline } from '../catalog/baseline-source.ts'
import type { Run, RunCounts, RunResult, RunWarning } from '../catalog/catalog.ts'
import { cutText, warningsKeptMax } from '../catalog/catalog.ts'
import { type Lease, takeLease } from '../catalog/lease.ts'
import { purgeRun, RunRecorder } from '../catalog/record-run.ts'
import type { Host } from '../config/hosts.ts'
import { StorageError } from '../errors.ts'
import { openSession } from '../session/open-session.ts'
import { type ReceivedRun, type RunObserver, receiveRun, summaryFault } from '../session/receive-run.ts'
import { tellable } from '../session/tellable.ts'
import { isSecondTaken, listArchives, planStalePartials, removePartials } from '../storage/archive-list.ts'
import { type ArchiveWriter, createArchive } from '../storage/archive-writer.ts'
import { adoptArchives } from './adopt-archives.ts'
import { backupRequest } from './backup-request.ts'
import { chooseBase } from './choose-base.ts'
import { applyPrune, planPrune } from './prune.ts'
import type { ServerContext } from './server-context.ts'

/** What is told while a host is backed up. */
export interface HostObserver extends RunObserver {
  onRetry?(error: ProtocolError, attempt: number): void
  onConnected?(software: string): void
}

/** How the run of a host ended. */
export interface HostResult {
  host: string
  /** `null` where it came to no run. */
  run: number | null
  kind: RunKind
  outcome: Outcome
  startedAtMs: number
  finishedAtMs: number
  /** Why it failed. */
  error: Error | null
  archive: { name: string; bytes: number; digest: string } | null
  counts: RunCounts
  contentBytes: number
  warningCount: number
  warnings: RunWarning[]
  /** What became of the copy on the host itself: its name, or why there is none. `null` where none was wanted. */
  localCopy: { kept: boolean; name: string; error?: string | undefined } | null
}

/** How long a partial archive that was set aside stays to be looked at. */
const setAsideKeptMs = 14 * 24 * 3_600_000

/** How often a run waits for the next second, until it gives up finding one that no archive is named by. */
const secondsWaitedMax = 3

/**
 * Backs up one host: the main job. Never throws: whatever goes wrong is the result of this host, and in the catalog, and
 * concerns no other.
 */
export async function backUpHost(
  context: ServerContext,
  host: Host,
  full: boolean,
  observer: HostObserver,
): Promise<HostResult> {
  const work = new HostRun(context, host, full, observer)
  const { log } = context
  log.info({ host: host.name }, `${host.name}: run begins`)
  try {
    using lease = takeLease(context.catalog, host.name)
    await adoptArchives(context, lease)
    await work.run(lease)
    if (context.settings.prune === 'after-run') await work.prune()
  } catch (error) {
    work.fail(error)
  }
  const { result } = work
  const facts = {
    host: host.name,
    run: result.run,
    outcome: result.outcome,
    archive: result.archive?.name,
    counts: result.counts,
    warnings: result.warningCount,
  }
  if (result.error === null) log.info(facts, `${host.name}: ${result.outcome}`)
  else
    log.error(
      { ...facts, code: (result.error as { code?: string }).code },
      `${host.name}: ${result.outcome}: ${result.error.message}`,
    )
  return result
}

class HostRun {
  readonly result: HostResult
  readonly #context: ServerContext
  readonly #host: Host
  readonly #observer: HostObserver
  readonly #full: boolean

  constructor(context: ServerContext, host: Host, full: boolean, observer: HostObserver) {
    this.#context = context
    this.#host = host
    this.#observer = observer
    this.#full = full
    const startedAtMs = context.now()
    this.result = {
      host: host.name,
      run: null,
      kind: 'full',
      outcome: 'failed',
      startedAtMs,
      finishedAtMs: startedAtMs,
      error: null,
      archive: null,
      counts: {},
      contentBytes: 0,
      warningCount: 0,
      warnings: [],
      localCopy: null,
    }
  }

  /** Throws what ended it; the catalog then knows of it already, if there was a run at all. */
  async run(lease: Lease): Promise<void> {
    const { catalog, signal } = this.#context
    await this.#beginInFreeSecond()
    const { startedAtMs } = this.result
    const base = await chooseBase(this.#context, this.#host, this.#full)
    const kind = base === null ? 'full' : 'incremental'
    this.result.kind = kind
    const generation = base?.generation ?? null
    const id = catalog.beginRun({
      host: this.#host.name,
      kind,
      generation,
      leaseToken: lease.token,
      startedAtMs,
    })
    this.result.run = id
    try {
      await this.#withAgent(AbortSignal.any([signal, lease.signal]), async (channel) => {
        await this.#receive(channel, lease, id, base)
      })
    } catch (error) {
      this.fail(error)
      this.#recordFailure(id, generation)
      // Who has asked it to end does not wait for that: the next run does it.
      if (!signal.aborted && !lease.signal.aborted) await this.#keepWhatCame(lease)
    }
  }

  /** What came before the run broke becomes an archive, and the run an incomplete one that the next goes on from. */
  async #keepWhatCame(lease: Lease): Promise<void> {
    const { catalog } = this.#context
    const runs = (await adoptArchives(this.#context, lease)).map((id) => catalog.run(id))
    const kept = runs.find((run) => run?.startedAtMs === this.result.startedAtMs)
    if (kept == null || kept.outcome === 'running') return
    const { id, outcome, archive, counts, contentBytes } = kept
    Object.assign(this.result, { run: id, outcome, counts, contentBytes })
    if (!kept.broken) this.#lackNothing()
    this.result.archive = archive && { ...archive, digest: Buffer.from(archive.digest).toString('hex') }
  }

  /** All had come, and only the last words were missing. */
  #lackNothing(): void {
    const { error } = this.result
    this.result.error = null
    this.#warn({ code: 'agent-gone', path: null, message: `all has come, but then: ${error?.message}` })
  }

  /**
   * What an incremental run wrote is undone together with its end: it has ended versions of others. An archive that is in
   * its place though the row could not be written is not of this run any more: the next one takes it in.
   */
  #recordFailure(id: number, generation: number | null): void {
    const { catalog } = this.#context
    this.result.archive = null
    catalog.finishRun(id, this.#record(), () => {
      if (generation !== null) purgeRun(catalog, id, generation)
    })
    if (generation === null) purgeRun(catalog, id, id)
  }

  /** After a good run only: a host that cannot be backed up keeps what it has. The lease is still held. */
  async prune(): Promise<void> {
    if (this.result.outcome !== 'complete' && this.result.outcome !== 'complete-with-changes') return
    try {
      const plan = planPrune(this.#context, this.#host)
      if (plan.refusal !== null) this.#warn({ code: 'retention-refused', path: null, message: plan.refusal })
      const { refused, putOff } = await applyPrune(this.#context, plan)
      if (putOff !== null) this.#warn({ code: 'retention-put-off', path: null, message: putOff })
      // Once: what was told before is told by prune.
      for (const { archive, reason } of refused.filter(({ sinceMs }) => sinceMs === null))
        this.#warn({
          code: 'repack-refused',
          path: null,
          message: `${archive} is not packed anew: ${reason}`,
        })
    } catch (error) {
      this.#warn({ code: 'retention-failed', path: null, message: (error as Error).message })
    }
  }

  fail(error: unknown): void {
    // The first error is the reason; what follows, like a row that cannot be written either, comes of it.
    this.result.error ??= error instanceof Error ? error : new Error(String(error))
    this.result.outcome = 'failed'
    // An archive that is in its place without a row is taken in by the next run.
    this.result.archive = null
    this.result.finishedAtMs = this.#context.now()
  }

  /** Archives are named by the second: where a run broke at once and is tried again, this one begins in the next. */
  async #beginInFreeSecond(): Promise<void> {
    const { repository, now, signal } = this.#context
    for (let waits = 0; waits < secondsWaitedMax; waits++) {
      if (!(await isSecondTaken(repository, this.#host.name, this.result.startedAtMs))) return
      await delay(1000 - (now() % 1000), undefined, { signal }).catch(() => signal.throwIfAborted())
      this.result.startedAtMs = now()
    }
  }

  /** Opens a session, does `work` with it, and ends it in the way that the work ended. */
  async #withAgent(signal: AbortSignal, work: (channel: Channel) => Promise<void>): Promise<void> {
    const { credentials, serverName, settings } = this.#context
    const { connection } = settings
    const onRetry = (error: ProtocolError, attempt: number) => this.#observer.onRetry?.(error, attempt)
    const { channel, software } = await openSession({
      host: this.#host,
      credentials,
      serverName,
      connection,
      signal,
      onRetry,
    })
    this.#observer.onConnected?.(software)
    try {
      await work(channel)
      await channel.close()
    } catch (error) {
      await channel.fail(tellable(error))
      throw error
    }
  }

  /** The conversation from the request to the last word, and the archive from its first byte to its place. */
  async #receive(channel: Channel, lease: Lease, id: number, base: Run | null): Promise<void> {
    const { kind, startedAtMs } = this.result
    const request = backupRequest(this.#host, { kind, startedAtMs, base: base?.archive?.name ?? null })
    await channel.send(request)
    await expectArchiveName(channel, request)
    const writer = await createArchive(this.#context.repository, this.#host.name, request)
    try {
      const received = await receiveRun(channel, request, {
        sink: writer,
        observer: this.#collecting(id, base),
        baseline: base === null ? null : new Baseline(this.#context.catalog, base),
      })
      const fault = summaryFault(received)
      if (fault !== null) throw new ArchiveDiffersError(fault, writer.asidePath('mismatch'))
      this.#takeSummary(received)
      if (received.summary.outcome === 'failed') throw new NothingPackedError()
      // Of two processes that believe themselves at work, only one may leave an archive: the other's would build on the same.
      lease.heartbeat()
      await this.#store(id, writer, received)
      await this.#confirm(channel, received)
    } catch (error) {
      await giveUp(writer, error)
      throw error
    }
    await this.#removeOldPartials()
  }

  #takeSummary({ summary }: ReceivedRun): void {
    const { contentBytes, ...counts } = summary.counts
    this.result.outcome = summary.outcome
    this.result.counts = counts
    this.result.contentBytes = contentBytes
  }

  /** First the file, then the row: a crash in between leaves an archive that the catalog does not know, never the reverse. */
  async #store(id: number, writer: ArchiveWriter, { assembled }: ReceivedRun): Promise<void> {
    await writer.commit()
    const { digest, archiveBytes } = assembled!
    this.result.archive = { name: writer.name, bytes: archiveBytes, digest: digest.toString('hex') }
    this.result.finishedAtMs = this.#context.now()
    this.#context.catalog.finishRun(id, this.#record())
  }

  /** The run is good by now: an agent that goes away costs its local copy at most. */
  async #confirm(channel: Channel, { assembled }: ReceivedRun): Promise<void> {
    const { digest, archiveBytes } = assembled!
    try {
      await channel.send({ type: 'stored', digest, archiveBytes })
      const { localCopy } = await channel.receive(['finished'], { timeoutMs: finishedMsMax })
      this.result.localCopy = localCopy
    } catch (error) {
      this.#warn({
        code: 'agent-gone',
        path: null,
        message: `the archive is stored, but the agent did not finish: ${(error as Error).message}`,
      })
    }
  }

  /** What was set aside stays for a while, for whoever wants to look at it. */
  async #removeOldPartials(): Promise<void> {
    const { repository, now } = this.#context
    try {
      const { partials } = await listArchives(repository, this.#host.name)
      const aside = partials.filter(({ reason }) => reason !== null)
      await removePartials(repository, this.#host.name, planStalePartials(aside, setAsideKeptMs, now()))
    } catch (error) {
      this.#warn({ code: 'partials-left', path: null, message: (error as Error).message })
    }
  }

  #collecting(id: number, base: Run | null): RunObserver {
    const place = { generation: base?.generation ?? id, base: base?.id ?? null }
    const recorder = new RunRecorder(this.#context.catalog, id, place)
    return {
      ...this.#observer,
      onEntries: (entries, gone) => {
        recorder.add(entries, gone)
        this.#observer.onEntries?.(entries, gone)
      },
      onWarning: (warning) => {
        this.#observer.onWarning?.(warning)
        const path = warning.path === null ? null : cutText(textFromBytes(warning.path))
        this.#warn({ code: warning.code, path, message: warning.message })
      },
    }
  }

  #warn(warning: RunWarning): void {
    this.result.warningCount++
    if (this.result.warnings.length < warningsKeptMax) this.result.warnings.push(warning)
    this.#context.log.warn({ host: this.#host.name, ...warning }, `${this.#host.name}: ${warning.message}`)
  }

  #record(): RunResult {
    const { outcome, kind, archive, contentBytes, counts, warningCount, warnings, error } = this.result
    return {
      outcome,
      kind,
      contentBytes,
      counts,
      warningCount,
      warnings,
      error:
        error === null
          ? null
          : { code: (error as { code?: string }).code ?? 'internal', message: error.message },
      archive: archive && { ...archive, digest: Buffer.from(archive.digest, 'hex') },
    }
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
