/** Many agents, a day of hourly runs in minutes: `npm run load`. */
import { runLoad } from '../test/load/load.ts'
import { formatLoad } from '../test/load/report.ts'
import { countOption, readOptions } from './options.ts'

const usage = `
Lives through a day of hourly runs of many hosts, with a clock that is moved: npm run load [-- OPTION...]

  --agents N   hosts (200)
  --hours N    (24)
  --seed N     another day (1)
  --json

Prints a table and a verdict on standard output, how it goes on standard error. 200 hosts and 24 hours take half an hour or
more, and 7 GB of memory. Exits with 1 where something was not as it has to be.
`

const { values } = readOptions(usage, {
  options: {
    agents: { type: 'string' },
    hours: { type: 'string' },
    seed: { type: 'string' },
    json: { type: 'boolean' },
  },
})

try {
  const report = await runLoad({
    agents: countOption('agents', values.agents, 200),
    hours: countOption('hours', values.hours, 24),
    seed: countOption('seed', values.seed, 1),
    onLine: (line) => process.stderr.write(`${line}\n`),
  })
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : formatLoad(report))
  process.exitCode = report.faults.length === 0 ? 0 : 1
} catch (error) {
  process.stderr.write(`central-backup: ${(error as Error).message}\n`)
  process.exitCode = 1
}
