import {
  ArchiveAssembly,
  type ArchiveEnd,
  ArchiveError,
  type ArchiveHeader,
  type AssembledArchive,
  type BytePath,
  bytePathFromBuffer,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  type Gone,
  type IndexKind,
  IndexSequence,
  indexBatchBytesMax,
  indexFrameMagic,
  quotePath,
  type RunKind,
  unwrapSkippable,
} from '@central-backup/archive'
import {
  type Channel,
  type Counts,
  hooksMsMax,
  leftOutMax,
  type MessageOf,
  PayloadMemory,
  ProtocolError,
  runWarningsBytesMax,
  warningPathBytesMax,
  warningsMax,
} from '@central-backup/protocol'
import { StallWatch } from './stall-watch.ts'

/** What the agent was asked for, and its index has to say of itself. A listing is of no kind and no time. */
export interface RequestedRun {
  host: string
  kind?: RunKind
  base?: string | null
  startedAtMs?: number
}

/** What is told while a run comes in. Paths are absolute. */
export interface RunObserver {
  /** Awaited before the next message is read, where there is something in the way: TCP holds the agent back then. */
  ready?(): Promise<void> | undefined
  /** Awaited before the next message is read. */
  onEntries?(entries: readonly Entry[], gone: readonly Gone[]): Promise<void> | void
  onWarning?(warning: { code: string; path: BytePath | null; message: string }): void
  /** Of a listing: what it leaves out, and why. */
  onLeftOut?(objects: readonly LeftOutObject[]): void
  onProgress?(progress: {
    phase: string
    entries: number
    contentBytes: number
    path: BytePath | null
    receivedBytes: number
  }): void
}

/** What a rule keeps out of a run; or, where it is an entry too, what lies in it. */
export interface LeftOutObject {
  path: BytePath
  reason: string
  message: string
}

/** Takes the bytes of an archive in their order. */
export interface ArchiveSink {
  /** `takenBytes`: what they take of the server, where that is more: of an index, which the catalog has unpacked. */
  write(bytes: Uint8Array, takenBytes?: number): Promise<void>
}

export interface ReceivedRun {
  summary: MessageOf<'summary'>
  /** What the bytes really were; `null` for a listing. */
  assembled: AssembledArchive | null
}

/** Where what comes in goes, and what the agent may ask for meanwhile. */
export interface Reception {
  /** `null` for a listing. */
  sink: ArchiveSink | null
  observer: RunObserver
  /** What stood in the run before; `null` for a full run. */
  baseline: BaselineSource | null
}

/** Index frames of what stood in the run before, one after the other; `null` after the last. */
export interface BaselineSource {
  next(): Buffer | null
}

/** Progress is passed on this often at most, however often an agent reports some. */
const progressToldMs = 250

const kinds = ['entries', 'frame', 'baseline-next', 'left-out', 'warning', 'progress', 'summary'] as const

/**
 * Takes in what an agent sends after its request was accepted, up to its summary, and writes the archive to `sink`, the
 * seek table included. Without a sink it is a listing: entries only. Everything is checked before it is written, but
 * for the comparison of the summary with what came: that is the caller's (`summaryFault`).
 *
 * Throws a `ProtocolError` for what the agent does wrong, and what `sink` throws; the caller ends the channel.
 */
export async function receiveRun(
  channel: Channel,
  requested: RequestedRun,
  { sink, observer, baseline }: Reception,
): Promise<ReceivedRun> {
  using memory = new PayloadMemory()
  channel.receiveInto(memory)
  const receiver = new RunReceiver(requested, { sink, observer, memory })
  let source = baseline
  try {
    for (;;) {
      const ready = observer.ready?.()
      if (ready !== undefined) await settledOrEnded(ready, channel.ended)
      const message = await channel.receive(kinds)
      if (message.type === 'summary') return await receiver.finish(message)
      if (message.type !== 'baseline-next') await receiver.take(message)
      else if (!(await sendBaseline(channel, source))) source = null
    }
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error
    throw new ProtocolError('message-malformed', `the agent sent what is no archive: ${error.message}`, {
      cause: error,
    })
  }
}

/** Who stops the session does not wait for a reader that does not read. */
async function settledOrEnded(ready: Promise<void>, ended: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const leave = () => resolve()
  ended.addEventListener('abort', leave, { once: true })
  if (ended.aborted) resolve()
  try {
    await Promise.race([ready, promise])
  } finally {
    ended.removeEventListener('abort', leave)
  }
}

/** Returns whether there may be more. */
async function sendBaseline(channel: Channel, baseline: BaselineSource | null): Promise<boolean> {
  if (baseline === null)
    throw new ProtocolError(
      'message-out-of-turn',
      'the agent asks for a baseline that it was not offered, or has had',
    )
  const payload = baseline.next()
  await channel.send(payload === null ? { type: 'baseline-end' } : { type: 'baseline', payload })
  return payload !== null
}

class RunReceiver {
  readonly #requested: RequestedRun
  readonly #sink: ArchiveSink | null
  readonly #observer: RunObserver
  /** Where frames and index are read into. */
  readonly #memory: PayloadMemory
  readonly #assembly = new ArchiveAssembly()
  readonly #index = new IndexSequence()
  readonly #kind: IndexKind
  readonly #watch = new StallWatch()
  readonly #watchOfHooks = new StallWatch()
  #end: ArchiveEnd | null = null
  #warnings = 0
  #warningBytes = 0
  #progressToldMs = Number.NEGATIVE_INFINITY
  #leftOut = 0
  /** Where the last content ends that an entry has in this archive. */
  #contentEnd = 0
  /** One message is written while the next is received. */
  #writing: Promise<void> = Promise.resolve()

  constructor(
    requested: RequestedRun,
    { sink, observer, memory }: Pick<Reception, 'sink' | 'observer'> & { memory: PayloadMemory },
  ) {
    this.#requested = requested
    this.#sink = sink
    this.#observer = observer
    this.#memory = memory
    this.#kind = sink === null ? 'listing' : 'archive'
  }

  async take(message: MessageOf<'entries' | 'frame' | 'left-out' | 'warning' | 'progress'>): Promise<void> {
    switch (message.type) {
      case 'frame':
        if (this.#sink === null)
          throw new ProtocolError('message-out-of-turn', 'content arrived where a listing was asked for')
        this.#assembly.addFrame(message.payload)
        return this.#write(message.payload)
      case 'entries':
        this.#assembly.addIndex(message.payload)
        return this.#write(message.payload, await this.#takeEntries(message.payload))
      case 'left-out':
        if (this.#sink !== null)
          throw new ProtocolError('message-out-of-turn', 'an agent told what it leaves out, unasked')
        this.#leftOut += message.objects.length
        if (this.#leftOut > leftOutMax)
          throw new ProtocolError('message-out-of-turn', `more than ${leftOutMax} objects are left out`)
        return this.#observer.onLeftOut?.(
          message.objects.map((one) => ({ ...one, path: bytePathFromBuffer(one.path) })),
        )
      case 'warning':
        // One more than the limit: the last says how many there were beyond it.
        if (++this.#warnings > warningsMax + 1)
          throw new ProtocolError('message-out-of-turn', `more than ${warningsMax} warnings arrived`)
        return this.#takeWarning(message)
      case 'progress':
        return this.#takeProgress(message)
    }
  }

  /** A log and a reader of standard output take what they are given, so that is bounded in bytes, too. */
  #takeWarning({ code, message, path }: MessageOf<'warning'>): void {
    if (this.#warningBytes > runWarningsBytesMax) return
    const shown = path === null ? null : cutPath(path)
    this.#warningBytes += message.length + (shown?.length ?? 0)
    if (this.#warningBytes <= runWarningsBytesMax) {
      this.#observer.onWarning?.({ code, message, path: pathOf(shown) })
      return
    }
    const text = `what more there is to be warned of is not listed: it is longer than ${runWarningsBytesMax} bytes`
    this.#observer.onWarning?.({ code: 'more-warnings', message: text, path: null })
  }

  #takeProgress({ phase, entries, contentBytes, path }: MessageOf<'progress'>): void {
    const receivedBytes = this.#assembly.archiveBytes
    // Hooks before the run are commands of the host, which get on without a number that says so.
    if (phase === 'prepare' && receivedBytes === 0) this.#watchOfHooks.check(entries, hooksMsMax)
    else this.#watch.check(entries + contentBytes + receivedBytes)
    const now = performance.now()
    if (now - this.#progressToldMs < progressToldMs) return
    this.#progressToldMs = now
    this.#observer.onProgress?.({ phase, entries, contentBytes, path: pathOf(path), receivedBytes })
  }

  async finish(summary: MessageOf<'summary'>): Promise<ReceivedRun> {
    this.#index.finish()
    if (this.#end?.outcome !== summary.outcome) {
      throw new ProtocolError(
        'message-malformed',
        `the summary says ${summary.outcome}, and the index ${this.#end?.outcome}`,
      )
    }
    if (!areEqual(summary.counts, this.#end.counts))
      throw new ProtocolError('message-malformed', 'the summary counts something else than the index')
    const assembled = this.#assembly.finish()
    if (this.#sink === null) return { summary, assembled: null }
    await this.#write(assembled.seekTable)
    await this.#writing
    return { summary, assembled }
  }

  /** Returns the size of what was in the frame. */
  async #takeEntries(frame: Buffer): Promise<number> {
    const bytes = decompressFrame(unwrapSkippable(indexFrameMagic, frame), indexBatchBytesMax)
    const batch = decodeIndexBatch(bytes, this.#kind)
    this.#index.accept(batch)
    if (batch.header !== null) this.#checkHeader(batch.header)
    for (const entry of batch.entries) this.#checkContent(entry)
    this.#checkReach(batch.membersEnd ?? 0)
    if (batch.end?.broken === true)
      throw new ProtocolError('message-malformed', 'the index is of a run that was broken off')
    this.#end = batch.end
    await this.#observer.onEntries?.(batch.entries, batch.gone)
    return bytes.length
  }

  #checkHeader(header: ArchiveHeader): void {
    if (header.repack !== null)
      throw new ProtocolError('message-malformed', 'the index is of an archive that was packed anew')
    const { host, kind = header.kind, base = header.base, startedAtMs = header.startedAtMs } = this.#requested
    if (header.host !== host)
      throw new ProtocolError('wrong-host', `the index is of host ${header.host}, not of ${host}`)
    if (header.kind !== kind || header.base !== base || header.startedAtMs !== startedAtMs)
      throw new ProtocolError(
        'message-malformed',
        'the index is of another run than the one that was asked for',
      )
  }

  /** Each byte of the tar stream is content of one file at most: else a few of them could be files without end. */
  #checkContent({ path, extents }: Entry): void {
    for (const { archive, offset, length } of extents) {
      if (archive === null && offset < this.#contentEnd) {
        const message = `the index says that ${quotePath(path)} has content that another file has, or that stands before it`
        throw new ProtocolError('message-malformed', message)
      }
      if (archive === null) this.#contentEnd = offset + length
      else if (this.#requested.kind === 'full') {
        const message = `the index of a full run says that ${quotePath(path)} lies in the archive ${archive}`
        throw new ProtocolError('message-malformed', message)
      }
    }
  }

  /** If the run breaks off behind this batch, the archive is cut here. */
  #checkReach(membersEnd: number): void {
    if (this.#sink === null || (membersEnd >= this.#contentEnd && membersEnd <= this.#assembly.tarBytes))
      return
    throw new ProtocolError(
      'message-malformed',
      `the index says that its members end at byte ${membersEnd} of ${this.#assembly.tarBytes}, and its content at ${this.#contentEnd}`,
    )
  }

  async #write(bytes: Buffer, takenBytes = bytes.length): Promise<void> {
    await this.#writing
    this.#writing = this.#store(bytes, takenBytes)
    // Awaited with the next message, or in `finish`; until then a failure is not to go unhandled.
    this.#writing.catch(() => {})
  }

  async #store(bytes: Buffer, takenBytes: number): Promise<void> {
    await this.#sink?.write(bytes, takenBytes)
    this.#memory.giveBack(bytes)
  }
}

/** What is wrong with an agent's summary, given what came; `null` where nothing is. */
export function summaryFault({ summary, assembled }: ReceivedRun): string | null {
  if (assembled === null) return null
  const { digest, archiveBytes, tarBytes } = summary
  if (archiveBytes !== assembled.archiveBytes || tarBytes !== assembled.tarBytes) {
    return `the agent packed ${archiveBytes} bytes, and ${assembled.archiveBytes} arrived`
  }
  if (digest === null || !digest.equals(assembled.digest))
    return 'the SHA-256 of what arrived is not the one of what was packed'
  return null
}

function areEqual(a: Counts, b: Counts): boolean {
  return (Object.keys(a) as (keyof Counts)[]).every((name) => a[name] === b[name])
}

function cutPath(path: Buffer): Buffer {
  if (path.length <= warningPathBytesMax) return path
  return Buffer.concat([path.subarray(0, warningPathBytesMax), Buffer.from('…')])
}

function pathOf(path: Buffer | null): BytePath | null {
  return path === null ? null : bytePathFromBuffer(path)
}
