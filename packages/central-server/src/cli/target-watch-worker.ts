/** Thread that watches a restore; its owner is `TargetWatch`. It loads next to nothing, as most restores do not need it. */
import { writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import { workerData } from 'node:worker_threads'
import { printable } from './printable.ts'
import { TargetWatchState } from './target-watch-state.ts'

export interface TargetWatchRequest {
  state: SharedArrayBuffer
  target: string
  stallMs: number
  /** Of the process, for who wants to end it. */
  pid: number
}

const checkIntervalMsMax = 500

function watch({ state: shared, target, stallMs, pid }: TargetWatchRequest): void {
  const state = new TargetWatchState(shared)
  let { activity, beats } = state
  let sinceMs = performance.now()
  let beatMs = sinceMs
  /** Told next when nothing has come for so long. */
  let tellAtMs = stallMs
  const check = () => {
    const now = performance.now()
    if (state.beats !== beats) [beats, beatMs] = [state.beats, now]
    if (state.activity !== activity) {
      if (tellAtMs > stallMs) tell(target, `the restore gets on again, after ${secondsOf(now - sinceMs)}`)
      ;[activity, sinceMs, tellAtMs] = [state.activity, now, stallMs]
    } else if (now - sinceMs >= tellAtMs) {
      tellAtMs *= 2
      tell(target, describe(state, secondsOf(now - sinceMs), now - beatMs >= stallMs / 2, pid))
    }
  }
  setInterval(check, Math.min(checkIntervalMsMax, stallMs / 4))
}

/**
 * `isStuck`: the restore is in a system call that does not return. Archives are read without that; and so is the target looked at
 * before anything is read.
 */
function describe(state: TargetWatchState, seconds: string, isStuck: boolean, pid: number): string {
  if (state.isSyncing) return `what was restored is being written to disk, for ${seconds} by now`
  const place = state.activity === 0 ? '' : `, at ${printable(`/${state.path}`)}`
  if (!isStuck && state.activity > 0)
    return `the archives have not answered for ${seconds}${place}: look at the repository`
  return (
    `its file system has not answered for ${seconds}${place}: look at that mount. The restore waits for it; ` +
    `\`kill -9 ${pid}\` ends it, and the next one goes on with what is missing`
  )
}

/** Not by `process.stderr`: that of a thread goes through the one that is stuck. */
function tell(target: string, text: string): void {
  try {
    // A bar may stand on the line.
    const begin = isatty(2) ? '\r\x1b[K' : ''
    writeSync(2, `${begin}Warning: ${printable(target)}: ${text}\n`)
  } catch {
    // Nobody is there to be told.
  }
}

function secondsOf(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

watch(workerData as TargetWatchRequest)
