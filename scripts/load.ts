/**
 * Many agents, a day of hourly runs in minutes: `npm run load [-- --agents N] [--hours N] [--seed N] [--json]`. Prints a table
 * and a verdict on standard output, how it goes on standard error. Exits with 1 where something was not as it has to be.
 */
import { parseArgs } from 'node:util'
import { runLoad } from '../test/load/load.ts'
import { formatLoad } from '../test/load/report.ts'

const { values } = parseArgs({
  options: {
    agents: { type: 'string', default: '200' },
    hours: { type: 'string', default: '24' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
})

function count(name: 'agents' | 'hours' | 'seed'): number {
  const value = Number(values[name])
  if (Number.isInteger(value) && value >= 1 && value <= 10_000) return value
  throw new Error(`--${name} ${values[name]}: expected a number from 1 to 10000`)
}

try {
  const report = await runLoad({
    agents: count('agents'),
    hours: count('hours'),
    seed: count('seed'),
    onLine: (line) => process.stderr.write(`${line}\n`),
  })
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : formatLoad(report))
  process.exitCode = report.faults.length === 0 ? 0 : 1
} catch (error) {
  process.stderr.write(`central-backup: ${(error as Error).message}\n`)
  process.exitCode = 1
}
