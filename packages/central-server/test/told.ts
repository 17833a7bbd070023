import type { Logger } from 'pino'

/** A log that remembers what it is told, as `level: message`. */
export function remembering(): { log: Logger; told: string[] } {
  const told: string[] = []
  const at = (level: string) => (_: object, message: string) => told.push(`${level}: ${message}`)
  return { log: { info: at('info'), warn: at('warn'), error: at('error') } as unknown as Logger, told }
}
