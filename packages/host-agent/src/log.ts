import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import type { AgentSettings } from './settings.ts'

type FileDestination = DestinationStream & { reopen?: () => void; flushSync?: () => void }

export interface AgentLog {
  readonly log: Logger
  /** Opens the file anew, after logrotate has moved it away. */
  reopen(): void
  flush(): void
}

/** JSON lines to the file of the settings (made with mode 0600), or to standard error, where journald takes them. */
export function openLog({ log: { file, level } }: AgentSettings): AgentLog {
  const stream: FileDestination =
    file === null
      ? destination({ fd: 2, sync: true })
      : destination({ dest: file, sync: true, append: true, mode: 0o600 })
  const log = pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ['password', '*.password'], censor: '[secret]' },
    },
    stream,
  )
  return {
    log,
    reopen: () => {
      if (file !== null) stream.reopen?.()
    },
    flush: () => stream.flushSync?.(),
  }
}
