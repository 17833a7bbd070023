import { type Logger, pino, stdTimeFunctions } from 'pino'
import { LogFile } from './log-file.ts'
import type { AgentSettings } from './settings.ts'

export interface AgentLog {
  readonly log: Logger
  /** Opens the file anew, after logrotate has moved it away. Throws `LogError`. */
  reopen(): void
}

/** JSON lines to the file of the settings (made with mode 0600), or to standard error, where journald takes them. */
export function openLog({ log: { file, level } }: AgentSettings): AgentLog {
  const stream = new LogFile(file)
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
  return { log, reopen: () => stream.reopen() }
}
