import type { Host } from '../config/hosts.ts'
import { LimitError } from '../errors.ts'

/** The longest that a timer of Node's runs: 24 days. */
const timerMsMax = 2 ** 31 - 1

export interface TimeLimit extends Disposable {
  /** Aborted with a `LimitError` when the time is over. */
  signal: AbortSignal
}

/**
 * Ends work on a host when it has taken as long as it may: it holds a place that others wait for. `what` it is and what to do
 * then are for people, like `the run`.
 */
export function limitTime(
  { maxRunTimeMs }: Pick<Host, 'maxRunTimeMs'>,
  what: string,
  hint: string,
): TimeLimit {
  const limit = new AbortController()
  const timer = setTimeout(
    () =>
      limit.abort(
        new LimitError('time-limit', `${what} was not over after ${formatSeconds(maxRunTimeMs)}`, {
          hint: `${hint} \`maxRunTime\`, in the host module or \`defaults\`, is the limit.`.trimStart(),
        }),
      ),
    Math.min(maxRunTimeMs, timerMsMax),
  )
  return { signal: limit.signal, [Symbol.dispose]: () => clearTimeout(timer) }
}

function formatSeconds(ms: number): string {
  return ms < 3_600_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 360_000) / 10} h`
}
