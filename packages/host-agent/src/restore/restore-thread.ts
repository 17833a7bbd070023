import { MessageChannel, type MessagePort, type Transferable, Worker } from 'node:worker_threads'
import { type RestoreProblem, type RestoreReport, SharedState, textFromBytes } from '@central-backup/archive'
import {
  type Channel,
  type MessageType,
  ProtocolError,
  restoreAnswerMsMax,
  restoreSyncMsMax,
} from '@central-backup/protocol'
import type { RestoreMessage } from './conversation.ts'
import type { FromRestoreThread, RestoreThreadRequest, ThreadProgress } from './restore-worker.ts'

const stallCheckIntervalMs = 500

/** A thread that was told to end gets this long to remove the file that it has begun. */
const threadEndMsMax = 4_000

/** More than the largest batch and the longest lists of a report take: what comes from the server is not to end the agent. */
const heapMebibytesMax = 256

/** What is new and soon forgotten, which is nearly all, is not to fill more before it is collected. */
const youngMebibytesMax = 8

export interface RestoreThreadOptions {
  request: Pick<RestoreThreadRequest, 'place' | 'overwrite' | 'numericIds' | 'dryRun'>
  /** A file system that does not answer for longer ends the restore. */
  stallMs: number
  onProgress(progress: ThreadProgress): void
  onProblem(problem: RestoreProblem): void
}

/**
 * Restores in a thread of its own, which works with synchronous calls, and carries the messages between it and the
 * server. So one that waits for a disk holds up no other session. `run` once.
 */
export class RestoreThread {
  readonly #channel: Channel
  readonly #options: RestoreThreadOptions
  readonly #state = new SharedState()
  readonly #incoming: MessagePort
  readonly #worker: Worker
  readonly #exited: Promise<void>
  readonly #result = Promise.withResolvers<RestoreReport | null>()
  #progress: ThreadProgress | null = null

  constructor(channel: Channel, options: RestoreThreadOptions) {
    this.#channel = channel
    this.#options = options
    const { port1, port2 } = new MessageChannel()
    this.#incoming = port1
    const workerData: RestoreThreadRequest = {
      ...options.request,
      state: this.#state.buffer,
      incoming: port2,
    }
    const script = new URL(`./restore-worker${import.meta.url.slice(-3)}`, import.meta.url)
    this.#worker = new Worker(script, {
      workerData,
      transferList: [port2],
      resourceLimits: {
        maxOldGenerationSizeMb: heapMebibytesMax,
        maxYoungGenerationSizeMb: youngMebibytesMax,
      },
    })
    this.#worker.on('message', (message: FromRestoreThread) => this.#take(message))
    this.#worker.on('error', (error) => {
      const message = `the restoring thread failed: ${error instanceof Error ? error.message : String(error)}`
      this.#fail(new ProtocolError('target-failed', message, { cause: error }))
    })
    this.#exited = new Promise((resolve) => this.#worker.once('exit', () => resolve()))
    void this.#exited.then(() =>
      this.#fail(new ProtocolError('target-failed', 'the restoring thread ended before its work')),
    )
  }

  /**
   * The report, `null` after a dry run. Throws a `ProtocolError`: what ended the session, or keeps the host from
   * restoring. When it returns or throws, the thread has ended, or hangs in the file system and ends with that call.
   */
  async run(): Promise<RestoreReport | null> {
    const { ended } = this.#channel
    const onEnd = () => this.#fail(ended.reason)
    ended.addEventListener('abort', onEnd, { once: true })
    if (ended.aborted) onEnd()
    const stallCheck = this.#watchStalls()
    try {
      return await this.#result.promise
    } finally {
      clearInterval(stallCheck)
      ended.removeEventListener('abort', onEnd)
      await this.#end()
    }
  }

  #take(message: FromRestoreThread): void {
    switch (message.type) {
      case 'send':
        // Where it fails the session has ended, and `run` is told so.
        this.#channel.send(asBuffers(message.message)).catch(() => {})
        break
      case 'receive':
        void this.#receive(message.types)
        break
      case 'progress':
        this.#progress = message.progress
        this.#options.onProgress(message.progress)
        break
      case 'problem':
        this.#options.onProblem(message.problem)
        break
      case 'done':
        this.#result.resolve(message.report)
        break
      case 'failed': {
        const { code, message: text, hint, stack } = message
        const cause = stack === undefined ? undefined : Object.assign(new Error(text), { stack })
        this.#fail(stack === undefined ? new ProtocolError(code, text, { hint }) : cause!)
      }
    }
  }

  async #receive(types: readonly MessageType[]): Promise<void> {
    try {
      const message = await this.#channel.receive(types, { timeoutMs: restoreAnswerMsMax })
      const transfer: Transferable[] = 'payload' in message ? [message.payload.buffer as ArrayBuffer] : []
      this.#incoming.postMessage(message, transfer)
      this.#state.wake()
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  /** Tells a file system that does not answer from a server that does not: only the former is the thread's. */
  #watchStalls(): NodeJS.Timeout {
    let seen = -1
    let sinceMs = performance.now()
    return setInterval(() => {
      const now = performance.now()
      const { activity } = this.#state
      if (activity !== seen || this.#state.isWaiting) {
        seen = activity
        sinceMs = now
        return
      }
      const isSyncing = this.#progress?.phase === 'sync'
      const stallMs = isSyncing ? restoreSyncMsMax : this.#options.stallMs
      if (now - sinceMs < stallMs) return
      const place = isSyncing ? 'while all was written to disk' : `at /${textFromBytes(this.#state.path)}`
      this.#fail(
        new ProtocolError(
          'target-failed',
          `the file system of the target did not answer for ${Math.round(stallMs / 1000)} s ${place}`,
        ),
      )
    }, stallCheckIntervalMs)
  }

  #fail(error: Error): void {
    this.#result.reject(error)
  }

  /** The thread removes what it has begun, and ends. One that hangs in a system call does so when that returns. */
  async #end(): Promise<void> {
    this.#state.cancel()
    this.#incoming.close()
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, threadEndMsMax)
    await Promise.race([this.#exited, late.promise])
    clearTimeout(timer)
    void this.#worker.terminate()
    this.#worker.unref()
  }
}

/** Buffers come from the thread as what they are made of. */
function asBuffers(message: RestoreMessage): RestoreMessage {
  switch (message.type) {
    case 'restore-firsts':
    case 'restore-content':
      return { ...message, paths: message.paths.map(asBuffer) }
    case 'restore-plan':
      return { ...message, steps: message.steps.map((step) => ({ ...step, path: asBuffer(step.path) })) }
    default:
      return message
  }
}

function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength)
}
