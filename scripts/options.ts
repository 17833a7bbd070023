import { type ParseArgsConfig, parseArgs } from 'node:util'

type Parsed<T extends ParseArgsConfig> = ReturnType<typeof parseArgs<T>>

/**
 * The options of a command for developers. `--help` prints `usage` and ends it; what it does not know ends it with 2, and
 * says so in a line.
 */
export function readOptions<const T extends ParseArgsConfig>(usage: string, config: T): Parsed<T> {
  const withHelp = { ...config, options: { ...config.options, help: { type: 'boolean' } } } as T
  try {
    const parsed = parseArgs(withHelp)
    if ('help' in parsed.values) {
      process.stdout.write(`${usage.trim()}\n`)
      process.exit(0)
    }
    return parsed
  } catch (error) {
    process.stderr.write(`central-backup: ${(error as Error).message}\n\n${usage.trim()}\n`)
    process.exit(2)
  }
}

/** A whole number of at least 1, or `otherwise` where the option is not given. Ends the command with 2 for anything else. */
export function countOption(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text)
  if (Number.isSafeInteger(value) && value >= 1) return value
  process.stderr.write(`central-backup: --${name} ${text}: expected a whole number of at least 1\n`)
  process.exit(2)
}
