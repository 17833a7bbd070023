import { setTimeout as delay } from 'node:timers/promises'
import type { Channel, ProtocolError } from '@central-backup/protocol'
import { type Lease, takeLease } from '../catalog/lease.ts'
import { purgeRun } from '../catalog/record-run.ts'
import { forgetFailures } from '../catalog/remove-run.ts'
import type { Host } from '../config/hosts.ts'
import { type AgentSession, openSession } from '../session/open-session.ts'
import type { RunObserver } from '../session/receive-run.ts'
import { tellable } from '../session/tellable.ts'
import { isSecondTaken } from '../storage/archive-list.ts'
import { adoptArchives } from './adopt-archives.ts'
import { chooseBase } from './choose-base.ts'
import { keepHostTrust } from './keep-host-trust.ts'
import { applyPrune, planPrune } from './prune.ts'
import { receiveArchive } from './receive-archive.ts'
import { Room } from './room.ts'
import { type HostResult, RunReport } from './run-report.ts'
import type { ServerContext } from './server-context.ts'
import { limitTime } from './time-limit.ts'

/** What is told while a host is backed up. */
export interface HostObserver extends RunObserver {
  onRetry?(error: ProtocolError, attempt: number): void
  onConnected?(software: string): void
}

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
  const report = new RunReport(host.name, context.now(), context.log, observer)
  const work = new HostRun(context, host, full, observer, report)
  context.log.info({ host: host.name }, `${host.name}: run begins`)
  try {
    using lease = takeLease(context.catalog, host.name)
    await adoptArchives(context, lease)
    await work.run(lease)
    if (context.settings.prune === 'after-run') await work.prune()
  } catch (error) {
    report.fail(error, context.now())
  }
  report.recordLateWarnings(context.catalog)
  report.log()
  return report.result
}

class HostRun {
  readonly #context: ServerContext
  readonly #host: Host
  readonly #full: boolean
  readonly #observer: HostObserver
  readonly #report: RunReport

  constructor(context: ServerContext, host: Host, full: boolean, observer: HostObserver, report: RunReport) {
    this.#context = context
    this.#host = host
    this.#full = full
    this.#observer = observer
    this.#report = report
  }

  /** Throws what ended it; the catalog then knows of it already, if there was a run at all. */
  async run(lease: Lease): Promise<void> {
    const { catalog, signal } = this.#context
    await this.#beginInFreeSecond()
    const { startedAtMs } = this.#report.result
    const base = await chooseBase(this.#context, this.#host, this.#full)
    const kind = base === null ? 'full' : 'incremental'
    this.#report.result.kind = kind
    const generation = base?.generation ?? null
    const id = catalog.beginRun({
      host: this.#host.name,
      kind,
      generation,
      leaseToken: lease.token,
      startedAtMs,
    })
    this.#report.result.run = id
    using time = limitTime(this.#host, 'the run', 'The next run goes on from what came.')
    try {
      const room = await Room.measure(this.#context, this.#host)
      await this.#withAgent(AbortSignal.any([signal, lease.signal, time.signal]), async (channel) => {
        const [context, host, report, observer] = [this.#context, this.#host, this.#report, this.#observer]
        await receiveArchive({ context, host, lease, id, base, room, report, observer }, channel)
      })
    } catch (error) {
      const isLate = time.signal.aborted && !signal.aborted && !lease.signal.aborted
      this.#report.fail(isLate ? time.signal.reason : error, this.#context.now())
      this.#recordFailure(id, generation)
      // Who has asked it to end does not wait for that: the next run does it.
      if (!signal.aborted && !lease.signal.aborted) await this.#keepWhatCame(lease)
    }
  }

  /** What came before the run broke becomes an archive, and the run an incomplete one that the next goes on from. */
  async #keepWhatCame(lease: Lease): Promise<void> {
    const { catalog } = this.#context
    const runs = (await adoptArchives(this.#context, lease)).map((id) => catalog.run(id))
    const kept = runs.find((run) => run?.startedAtMs === this.#report.result.startedAtMs)
    if (kept == null || kept.outcome === 'running') return
    const { id, outcome, archive, counts, contentBytes } = kept
    Object.assign(this.#report.result, { run: id, outcome, counts, contentBytes })
    if (!kept.broken) this.#lackNothing()
    this.#report.result.archive = archive && {
      ...archive,
      digest: Buffer.from(archive.digest).toString('hex'),
    }
  }

  /** All had come, and only the last words were missing. */
  #lackNothing(): void {
    const { error } = this.#report.result
    this.#report.result.error = null
    this.#report.tell('agent-gone', `all has come, but then: ${error?.message}`)
  }

  /**
   * What an incremental run wrote is undone together with its end: it has ended versions of others. An archive that is in
   * its place though the row could not be written is not of this run any more: the next one takes it in.
   */
  #recordFailure(id: number, generation: number | null): void {
    const { catalog } = this.#context
    this.#report.result.archive = null
    catalog.finishRun(id, this.#report.record(), () => {
      if (generation !== null) purgeRun(catalog, id, generation)
    })
    if (generation === null) purgeRun(catalog, id, id)
  }

  /**
   * After a good run only: a host that cannot be backed up keeps what it has, but for failures of long ago. The lease
   * is still held.
   */
  async prune(): Promise<void> {
    const { outcome } = this.#report.result
    try {
      const plan = planPrune(this.#context, this.#host)
      if (outcome !== 'complete' && outcome !== 'complete-with-changes')
        return forgetFailures(this.#context.catalog, plan.oldFailures)
      if (plan.refusal !== null) this.#report.tell('retention-refused', plan.refusal)
      const { refused, unread, putOff } = await applyPrune(this.#context, plan)
      if (putOff !== null) this.#report.tell('retention-put-off', putOff)
      // Once: what was told before is told by prune.
      for (const { archive, reason } of refused.filter(({ sinceMs }) => sinceMs === null))
        this.#report.tell('repack-refused', `${archive} is not packed anew: ${reason}`)
      for (const { archive, reason } of unread)
        this.#report.tell('retention-failed', `${archive} is not packed anew: ${reason}`)
    } catch (error) {
      const { message, hint = '' } = error as Error & { hint?: string }
      this.#report.tell('retention-failed', hint === '' ? message : `${message}. ${hint}`)
    }
  }

  /** Archives are named by the second: where a run broke at once and is tried again, this one begins in the next. */
  async #beginInFreeSecond(): Promise<void> {
    const { repository, now, signal } = this.#context
    for (let waits = 0; waits < secondsWaitedMax; waits++) {
      if (!(await isSecondTaken(repository, this.#host.name, this.#report.result.startedAtMs))) return
      await delay(1000 - (now() % 1000), undefined, { signal }).catch(() => signal.throwIfAborted())
      this.#report.result.startedAtMs = now()
    }
  }

  /** Opens a session, does `work` with it, and ends it in the way that the work ended. */
  async #withAgent(signal: AbortSignal, work: (channel: Channel) => Promise<void>): Promise<void> {
    const { credentials, serverName, settings } = this.#context
    const { connection } = settings
    const onRetry = (error: ProtocolError, attempt: number) => this.#observer.onRetry?.(error, attempt)
    const session = await openSession({
      host: this.#host,
      credentials,
      serverName,
      connection,
      signal,
      onRetry,
    })
    const { channel, software } = session
    this.#observer.onConnected?.(software)
    try {
      await this.#keepTrust(session)
      await work(channel)
      await channel.close()
    } catch (error) {
      await channel.fail(tellable(error))
      throw error
    }
  }

  async #keepTrust(session: AgentSession): Promise<void> {
    const { settings, now, log } = this.#context
    const { name } = this.#host
    const { renewed, warnings } = await keepHostTrust(settings.certs, session, name, now)
    for (const message of warnings) this.#report.warn('certificate', message)
    if (renewed !== null) log.info({ host: name }, `${name}: has a new certificate, until ${renewed.validTo}`)
  }
}
