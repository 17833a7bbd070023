/** `npm run bench`: see options.ts for what it takes. Ends with 0 whether goals are reached or not. */
import { writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, relative, resolve } from 'node:path'
import { programFile } from '../scripts/built-programs.ts'
import { runBench } from './bench.ts'
import { replaceFigures } from './document.ts'
import { drawGrowth, measureGrowth } from './growth.ts'
import { formatGrowth } from './growth-table.ts'
import { help, OptionError, type Options, parseOptions } from './options.ts'
import type { Programs } from './peers/ours.ts'
import { formatReport } from './table.ts'

const checkout = resolve(import.meta.dirname, '..')

class Interrupted extends Error {
  readonly exitCode: number

  constructor(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') {
    super(`interrupted by ${signal}`)
    this.exitCode = 128 + constants.signals[signal]
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

function untilInterrupted(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) return
      say(
        `${signal}: ending what runs and removing what was made; with many restored files, that takes a while`,
      )
      controller.abort(new Interrupted(signal))
    })
  }
  return controller.signal
}

/** Our programs as they are installed: JavaScript, with the packages of ours inside. The others are those of the checkout. */
function findPrograms(fromSources: boolean): Programs {
  return {
    server: programFile('central-server', fromSources),
    agent: programFile('host-agent', fromSources),
  }
}

/** Everything that was asked for goes out here; what goes on in between goes to standard error. */
function publish(options: Options, mark: string, figures: object, text: string): void {
  process.stdout.write(text)
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(figures, null, 2)}\n`)
  if (options.into !== null) replaceFigures(options.into, mark, text)
}

async function main(options: Options, signal: AbortSignal): Promise<void> {
  const programs = findPrograms(options.fromSources)
  const given = { ...options, checkout, programs }
  if (options.command === 'growth') {
    const growth = await measureGrowth(given, signal, say)
    const { svg, into } = options
    if (svg !== null) writeFileSync(svg, drawGrowth(growth))
    const plot = svg === null || into === null ? null : relative(dirname(into), svg)
    publish(options, 'growth', growth, formatGrowth(growth, plot))
  } else {
    const report = await runBench(given, signal, say)
    publish(options, options.cold ? 'cold' : 'figures', report, formatReport(report))
  }
}

try {
  const options = parseOptions(process.argv.slice(2))
  if (options.command === 'help') process.stdout.write(help)
  else await main(options, untilInterrupted())
} catch (error) {
  say(`central-backup: ${(error as Error).message}`)
  process.exitCode = error instanceof Interrupted ? error.exitCode : error instanceof OptionError ? 2 : 1
}
