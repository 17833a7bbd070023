import {
  type BytePath,
  bytePathFromBuffer,
  freeBuffer,
  type PlannedStep,
  type RestoreObserver,
  type RestoreReport,
  type Unset,
} from '@central-backup/archive'
import {
  type Channel,
  type MessageOf,
  ProtocolError,
  type RestoreCounts,
  type RestorePhase,
  restorePhases,
  restoreRequestsMax,
  restoreSyncMsMax,
  restoreWarningsBytesMax,
  stallMsMax,
  warningsMax,
} from '@central-backup/protocol'
import { type FeedRequest, RestoreFeed, type SelectedSource } from './restore-feed.ts'
import { StallWatch } from './stall-watch.ts'
import { tellable } from './tellable.ts'

/** What is told while an agent restores. */
export interface RemoteRestoreObserver extends RestoreObserver {
  /** In a dry run only. */
  onStep?(step: PlannedStep): void
  /** More problems than an agent tells one by one. */
  onMoreProblems?(message: string): void
}

const kinds = [
  'restore-entries',
  'restore-next',
  'restore-firsts',
  'restore-content',
  'restore-plan',
  'warning',
  'progress',
  'restore-end',
] as const

const problemKinds = ['damaged', 'failed', 'kept'] as const

/**
 * Gives an agent that was asked to restore what it wants of `source`, up to its last word. Returns its report, in which
 * problems are only counted, as they were told before; `null` after a dry run. What the agent says of its own host is
 * believed: it harms nobody else.
 *
 * Throws a `ProtocolError` for what the agent does wrong, and what `source` throws; the channel has failed then.
 */
export async function serveRestore(
  channel: Channel,
  { dryRun }: MessageOf<'restore'>,
  source: SelectedSource,
  observer: RemoteRestoreObserver,
): Promise<RestoreReport | null> {
  using feed = new RestoreFeed(source)
  const answers = new Answers(channel, feed)
  const listener = new RestoreListener(feed, observer, dryRun)
  try {
    for (;;) {
      const message = await channel.receive(kinds)
      switch (message.type) {
        case 'restore-end':
          answers.finish()
          return listener.end(message)
        case 'restore-plan':
        case 'warning':
        case 'progress':
          listener.take(message)
          break
        default:
          answers.add(message)
      }
    }
  } catch (error) {
    // Of a failure of our own the channel was ended, and then says no more than that.
    const reason = answers.failure ?? error
    await channel.fail(tellable(reason))
    throw reason
  } finally {
    await answers.settled
  }
}

/** Answers one request after the other, while the agent goes on telling how far it is. */
class Answers {
  failure: unknown = null
  /** Resolves when nothing is being answered. Never rejects. */
  settled: Promise<void> = Promise.resolve()
  readonly #channel: Channel
  readonly #feed: RestoreFeed
  #waiting = 0

  constructor(channel: Channel, feed: RestoreFeed) {
    this.#channel = channel
    this.#feed = feed
  }

  add(request: FeedRequest): void {
    if (++this.#waiting > restoreRequestsMax)
      throw new ProtocolError('message-out-of-turn', `more than ${restoreRequestsMax} requests at a time`)
    this.settled = this.settled.then(() => this.#answer(request))
  }

  /** Throws where something was asked for that the agent has not waited for. */
  finish(): void {
    if (this.#waiting > 0)
      throw new ProtocolError('message-out-of-turn', 'the agent ends before it has what it asked for')
  }

  async #answer(request: FeedRequest): Promise<void> {
    if (this.failure !== null || this.#channel.ended.aborted) return
    try {
      for await (const message of this.#feed.answer(request)) {
        await this.#channel.send(message)
        if ('payload' in message) freeBuffer(message.payload)
      }
      this.#waiting--
    } catch (error) {
      if (this.#channel.ended.aborted) return
      this.failure = error
      await this.#channel.fail(tellable(error))
    }
  }
}

class RestoreListener {
  readonly #feed: RestoreFeed
  readonly #observer: RemoteRestoreObserver
  readonly #dryRun: boolean
  readonly #watch = new StallWatch()
  #warnings = 0
  #warningBytes = 0
  #untold = 0
  #steps = 0
  #stepPathBytes = 0

  constructor(feed: RestoreFeed, observer: RemoteRestoreObserver, dryRun: boolean) {
    this.#feed = feed
    this.#observer = observer
    this.#dryRun = dryRun
  }

  take(message: MessageOf<'restore-plan' | 'warning' | 'progress'>): void {
    switch (message.type) {
      case 'restore-plan':
        this.#takePlan(message)
        break
      case 'warning':
        this.#takeWarning(message)
        break
      case 'progress':
        this.#takeProgress(message)
    }
  }

  end({ report }: MessageOf<'restore-end'>): RestoreReport | null {
    if ((report === null) !== this.#dryRun)
      throw new ProtocolError('message-malformed', 'the agent ends another request than the one it was given')
    if (this.#untold > 0)
      this.#observer.onMoreProblems?.(
        `${this.#untold} more problems are not listed; the counts have them all`,
      )
    return report && toReport(report)
  }

  /** Each step is of an entry that was sent, so that all of them are no more, and no longer. */
  #takePlan({ steps }: MessageOf<'restore-plan'>): void {
    this.#steps += steps.length
    for (const { path } of steps) this.#stepPathBytes += path.length - 1
    const { entriesGiven, pathBytesGiven } = this.#feed
    if (!this.#dryRun || this.#steps > entriesGiven || this.#stepPathBytes > pathBytesGiven)
      throw new ProtocolError('message-out-of-turn', 'the agent plans what it was not asked for')
    for (const { path, ...step } of steps) this.#observer.onStep?.({ path: pathOf(path), ...step })
  }

  #takeWarning({ code, path, message }: MessageOf<'warning'>): void {
    // One more than the limit: the last says how many there were beyond it.
    if (++this.#warnings > warningsMax + 1)
      throw new ProtocolError('message-out-of-turn', `more than ${warningsMax} warnings arrived`)
    this.#warningBytes += (path?.length ?? 0) + message.length
    if (this.#warningBytes > restoreWarningsBytesMax) {
      this.#untold++
      return
    }
    const kind = problemKinds.find((one) => one === code)
    if (kind === undefined || path === null) this.#observer.onMoreProblems?.(message)
    else this.#observer.onProblem?.({ kind, path: pathOf(path), message })
  }

  #takeProgress({ phase, entries, contentBytes, path }: MessageOf<'progress'>): void {
    const known = restorePhases.find((one) => one === phase)
    if (known === undefined) throw new ProtocolError('message-malformed', `a restore has no phase ${phase}`)
    const counter = entries + contentBytes + this.#feed.entriesGiven + this.#feed.bytesGiven
    this.#watch.check(counter, known === 'sync' ? restoreSyncMsMax : stallMsMax)
    if (known !== 'plan')
      this.#observer.onProgress?.({
        phase: known satisfies Exclude<RestorePhase, 'plan'>,
        entries,
        contentBytes,
        path: path === null ? ('' as BytePath) : pathOf(path),
      })
  }
}

function toReport({ damaged, failed, kept, notSet, mapped, ...rest }: RestoreCounts): RestoreReport {
  const counted = (count: number) => ({ count, listed: [] })
  const unset = notSet.map(({ kind, examples, ...noted }) => [
    kind as Unset,
    { ...noted, examples: examples.map(pathOf) },
  ])
  return {
    ...rest,
    damaged: counted(damaged),
    failed: counted(failed),
    kept: counted(kept),
    notSet: Object.fromEntries(unset),
    mapped: mapped.map(({ name, ...numbers }) => ({ ...numbers, name: bytePathFromBuffer(name) })),
  }
}

function pathOf(absolute: Buffer): BytePath {
  return bytePathFromBuffer(absolute).replace(/^\//, '') as BytePath
}
