import { MessageChannel, type MessagePort } from 'node:worker_threads'
import type { ArchiveEnd, ArchiveHeader } from '../entry.ts'
import { ArchiveError } from '../errors.ts'
import { type BytePath, textFromBytes } from '../path.ts'
import { type BlockRoom, FreeBlocks } from './block-memory.ts'
import type { CompressorPool } from './compressor-pool.ts'
import { PackerThread } from './packer-thread.ts'
import type { PackerMessage, PackerRequest } from './packer-worker.ts'
import type { Selection } from './rules.ts'
import { SharedState } from './shared-state.ts'
import { bytesOfWarning, type PackWarning } from './sinks.ts'

export interface PackingOptions {
  selection: Selection
  header: ArchiveHeader
  /** Named paths that could not be selected: they make the outcome `incomplete` at best. */
  missing?: number
  /** Read no content: the parts are index frames only. */
  listOnly?: boolean
  /** zstd's. */
  compressionLevel?: number | undefined
  /** A file system that lets the packer wait for longer ends the run. */
  stallMs?: number
  /** Where it returns a promise, the packer gets ahead by some MiB of warnings at most, until that is settled. */
  onWarning?: (warning: PackWarning) => unknown
  /**
   * The next index frame of what stood in the run before, `null` after the last: then only what differs is packed. One
   * call at a time. A rejection ends the packing with that error.
   */
  nextBaseline?: (() => Promise<Uint8Array | null>) | undefined
}

/** A piece of the archive file: a data frame or an index frame. */
export interface Part {
  kind: 'frame' | 'index'
  /** Valid until `release`. */
  bytes: Buffer
  /**
   * To be called once, when the bytes were written, or will not be: the packer goes on only as far as parts are released.
   */
  release(): void
}

export interface PackingProgress {
  entries: number
  contentBytes: number
  path: BytePath
}

/** Blocks in work beyond two for each compressor thread: one that is filled, and some on their way to the reader. */
const blocksBeyondThreads = 3

const stallCheckIntervalMs = 1000

/** A thread that was cancelled and is still at work after this long is in a loop, and is ended by force. */
const threadEndMsMax = 10_000

/**
 * A run of the packer: a thread that reads the tree, a pool that compresses, and here the frames in their order.
 *
 * To be iterated once. The iteration ends after the last index frame, and then `end` tells the outcome; it throws an
 * `ArchiveError` where packing failed as a whole (`pack-failed`), or where the file system did not answer for
 * `stallMs` (`pack-stalled`, names the path). Leaving the loop early, or `cancel`, ends the thread.
 */
export class Packing implements AsyncIterable<Part> {
  readonly #options: PackingOptions
  readonly #pool: CompressorPool
  readonly #state = new SharedState()
  readonly #thread: PackerThread
  /** The packer's, or on their way to the reader and back, by their numbers; `undefined` once given back to the pool. */
  readonly #rooms: (BlockRoom | undefined)[]
  /** Numbers of those that are being compressed, or wait for the reader. */
  readonly #taken = new Set<number>()
  readonly #free: FreeBlocks
  readonly #baseline: MessagePort | null
  #baselineTurn: Promise<void> = Promise.resolve()
  /** Parts that were compressed before their turn came. */
  readonly #ready = new Map<number, Part>()
  #next = 0
  #partsTotal = Number.POSITIVE_INFINITY
  #end: ArchiveEnd | null = null
  #failure: Error | null = null
  #wake: (() => void) | null = null
  #stallCheck: NodeJS.Timeout
  #stopped = false
  #giveUp: NodeJS.Timeout | undefined

  /** `thread` was started beforehand, and is this packing's from now on. */
  constructor(options: PackingOptions, pool: CompressorPool, thread = new PackerThread()) {
    this.#options = options
    this.#pool = pool
    this.#thread = thread
    this.#rooms = pool.memory.take(2 * pool.threads + blocksBeyondThreads)
    this.#free = new FreeBlocks(this.#rooms.length)
    const baseline = options.nextBaseline === undefined ? null : new MessageChannel()
    this.#baseline = baseline?.port1 ?? null
    const request: PackerRequest = {
      selection: options.selection,
      header: options.header,
      missing: options.missing ?? 0,
      listOnly: options.listOnly ?? false,
      state: this.#state.buffer,
      blocks: this.#rooms.map((room) => room!.block),
      freeBlocks: this.#free.buffer,
      baseline: baseline?.port2 ?? null,
    }
    thread.run(request, {
      receive: (message) => this.#receive(message),
      ended: (error) => {
        this.#giveBackFree()
        if (error !== null) this.#fail(packFailed(error.message))
        else if (this.#end === null) this.#fail(packFailed('the packer thread ended before its work'))
        clearTimeout(this.#giveUp)
      },
    })
    this.#stallCheck = this.#watchStalls(options.stallMs ?? 300_000)
  }

  progress(): PackingProgress {
    return { entries: this.#state.entries, contentBytes: this.#state.contentBytes, path: this.#state.path }
  }

  /** How the packing ended; only after the iteration did. */
  get end(): ArchiveEnd {
    if (this.#end === null) throw new Error('the packing has not ended')
    return this.#end
  }

  /** Ends the packing; the iteration throws `error`. */
  cancel(error: Error): void {
    this.#fail(error)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Part, void, void> {
    try {
      while (this.#next < this.#partsTotal) {
        if (this.#failure !== null) throw this.#failure
        const part = this.#ready.get(this.#next)
        if (part === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
          continue
        }
        this.#ready.delete(this.#next++)
        yield part
      }
    } finally {
      this.#stop()
    }
  }

  #receive(message: PackerMessage): void {
    if (this.#stopped) return
    switch (message.type) {
      case 'block':
        this.#compressBlock(message.sequence, message.block, message.length)
        break
      case 'index':
        this.#compressIndex(message.sequence, message.batch)
        break
      case 'baseline-wanted':
        this.#baselineTurn = this.#baselineTurn.then(() => this.#sendBaseline())
        break
      case 'warning':
        void this.#tell(message.warning)
        break
      case 'done':
        this.#end = message.end
        this.#partsTotal = message.parts
        this.#wake?.()
        break
      case 'failed':
        this.#fail(packFailed(message.message))
    }
  }

  async #tell(warning: PackWarning): Promise<void> {
    try {
      await this.#options.onWarning?.(warning)
    } finally {
      this.#state.addWarningBytesDone(bytesOfWarning(warning))
    }
  }

  #compressBlock(sequence: number, number: number, length: number): void {
    const room = this.#rooms[number]!
    this.#taken.add(number)
    this.#pool.compressBlock(room, length, this.#level).then(
      (frameBytes) => {
        const release = () => this.#releaseBlock(number)
        if (this.#stopped) release()
        else this.#add(sequence, { kind: 'frame', bytes: Buffer.from(room.frame, 0, frameBytes), release })
      },
      (error: Error) => {
        this.#releaseBlock(number)
        this.#fail(packFailed(error.message))
      },
    )
  }

  #compressIndex(sequence: number, batch: ArrayBuffer): void {
    const release = () => this.#state.addBatchDone()
    this.#pool.compressIndex(batch, this.#level).then(
      (bytes) => this.#add(sequence, { kind: 'index', bytes, release }),
      (error: Error) => this.#fail(packFailed(error.message)),
    )
  }

  get #level(): number {
    return this.#options.compressionLevel ?? 3
  }

  #add(sequence: number, part: Part): void {
    this.#ready.set(sequence, part)
    if (sequence === this.#next) this.#wake?.()
  }

  /** A block goes back to the packer only when its frame was written, so their number bounds all memory. */
  #releaseBlock(number: number): void {
    this.#taken.delete(number)
    if (this.#thread.hasEnded) {
      this.#giveBack(number)
      return
    }
    this.#free.give(number)
    this.#state.wake()
  }

  /** The packer's thread is gone, and with it whoever else could still write to the blocks that it had. */
  #giveBackFree(): void {
    for (const number of this.#rooms.keys()) if (!this.#taken.has(number)) this.#giveBack(number)
  }

  #giveBack(number: number): void {
    const room = this.#rooms[number]
    if (room !== undefined) this.#pool.memory.giveBack(room)
    this.#rooms[number] = undefined
  }

  async #sendBaseline(): Promise<void> {
    if (this.#failure !== null) return
    try {
      const frame = await this.#options.nextBaseline!()
      this.#baseline!.postMessage(frame)
      this.#state.wake()
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  /** Tells a file system that does not answer from a reader that takes nothing: only the former is the packer's. */
  #watchStalls(stallMs: number): NodeJS.Timeout {
    let seen = -1
    let sinceMs = performance.now()
    return setInterval(() => {
      const now = performance.now()
      const { activity } = this.#state
      if (activity !== seen || this.#state.isWaiting || this.#end !== null) {
        seen = activity
        sinceMs = now
      } else if (now - sinceMs >= stallMs) this.#fail(packStalled(this.#state.path, stallMs))
    }, stallCheckIntervalMs)
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#wake?.()
  }

  /** The thread closes what it has open, and ends. One that hangs in a system call does so when that returns. */
  #stop(): void {
    clearInterval(this.#stallCheck)
    this.#stopped = true
    this.#state.cancel()
    for (const part of this.#ready.values()) part.release()
    this.#ready.clear()
    this.#baseline?.close()
    if (this.#thread.hasEnded) return
    this.#thread.unref()
    this.#giveUp = setTimeout(() => this.#thread.terminate(), threadEndMsMax).unref()
  }
}

function packFailed(message: string): ArchiveError {
  return new ArchiveError('pack-failed', `packing failed: ${message}`)
}

function packStalled(path: BytePath, stallMs: number): ArchiveError {
  const shown = `/${textFromBytes(path)}`
  return new ArchiveError(
    'pack-stalled',
    `the file system did not answer for ${Math.round(stallMs / 1000)} s at ${shown}`,
    {
      hint: `see whether the mount that holds ${shown} is alive, or exclude it`,
    },
  )
}
