import { StoppedBySignalError } from '../errors.ts'

/**
 * A signal that is aborted by SIGINT or SIGTERM, so that work ends in good order. A second one ends the process at
 * once, as it would have without this. Disposing of it gives the signals back.
 */
export function untilSignal(): { signal: AbortSignal } & Disposable {
  const controller = new AbortController()
  const onSignal = (name: NodeJS.Signals) => {
    stopListening()
    controller.abort(new StoppedBySignalError(name as 'SIGINT' | 'SIGTERM'))
  }
  const stopListening = () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      stopListening()
    },
  }
}
