import { Worker } from 'node:worker_threads'
import { SharedState, textFromBytes } from '@central-backup/archive'
import type { Selected, SelectRequest } from './select.ts'
import type { SelectThreadAnswer, SelectThreadRequest } from './select-worker.ts'

/** The paths of a request could not be selected at all. */
export class SelectError extends Error {
  readonly code: 'select-failed' | 'select-stalled'

  constructor(code: SelectError['code'], message: string) {
    super(message)
    this.code = code
  }
}

const stallCheckIntervalMs = 500

/** More than the largest selection takes: patterns can ask for any amount, and that is not to end the agent. */
const heapMebibytesMax = 256

/**
 * `selectPaths` in a thread of its own, given up when the file system does not answer for `stallMs`.
 * Throws a `SelectError`, or the reason of `signal`.
 */
export function selectInThread(
  request: SelectRequest,
  stallMs: number,
  signal: AbortSignal,
): Promise<Selected> {
  const state = new SharedState()
  const workerData: SelectThreadRequest = { request, state: state.buffer }
  const worker = new Worker(new URL(`./select-worker${import.meta.url.slice(-3)}`, import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: heapMebibytesMax },
  })
  let stallCheck: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const answered = new Promise<Selected>((resolve, reject) => {
    worker.once('message', (answer: SelectThreadAnswer) => {
      if ('selected' in answer) resolve(answer.selected)
      else reject(new SelectError('select-failed', answer.message))
    })
    worker.once('error', (error: Error) => reject(new SelectError('select-failed', error.message)))
    worker.once('exit', () =>
      reject(new SelectError('select-failed', 'the selecting thread ended before its work')),
    )
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    stallCheck = watchStalls(state, stallMs, reject)
  })
  return answered.finally(() => {
    clearInterval(stallCheck)
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
    // Not awaited: a thread that hangs in a system call ends when that returns. `terminate` makes it count again.
    void worker.terminate()
    worker.unref()
  })
}

function watchStalls(state: SharedState, stallMs: number, reject: (error: Error) => void): NodeJS.Timeout {
  let seen = -1
  let sinceMs = performance.now()
  return setInterval(() => {
    const now = performance.now()
    if (state.activity !== seen) {
      seen = state.activity
      sinceMs = now
    } else if (now - sinceMs >= stallMs) {
      const shown = `/${textFromBytes(state.path)}`
      const message = `the file system did not answer for ${Math.round(stallMs / 1000)} s at ${shown}; see whether its mount is alive`
      reject(new SelectError('select-stalled', message))
    }
  }, stallCheckIntervalMs)
}
