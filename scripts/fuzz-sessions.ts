/** Tells a server sessions of lying agents, each with one thing changed: `npm run fuzz-sessions`. */
import { fuzzSessions } from '../test/harness/lying-hosts.ts'
import { fuzzReceivers } from '../test/harness/lying-receivers.ts'
import { countOption, readOptions } from './options.ts'

const usage = `
Tells a server sessions of lying agents, each with one thing changed: npm run fuzz-sessions [-- OPTION...]

  --restores     restores to the agents, in the place of backups of them
  --sessions N   at most (4500)
  --seconds N    at most (1800)
  --seed N       the same sessions again

Prints what came of them, and exits with 1, and the sessions in question, where one of them harmed anybody.
`

const { values } = readOptions(usage, {
  options: {
    restores: { type: 'boolean' },
    sessions: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
  },
})

const toldEvery = 200

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

try {
  const seed = countOption('seed', values.seed, 1 + Math.floor(Math.random() * 2 ** 31))
  let told = 0
  process.stderr.write(`Seed ${seed}.\n`)
  const { sessions, ends, peakBytes } = await (values.restores ? fuzzReceivers : fuzzSessions)({
    seed,
    sessions: countOption('sessions', values.sessions, 4500),
    seconds: countOption('seconds', values.seconds, 1800),
    signal: stop.signal,
    onGroup: (report) => {
      if (report.sessions - told < toldEvery) return
      told = report.sessions
      process.stderr.write(`${told} sessions\n`)
    },
  })
  const counts = [...ends].sort(([, a], [, b]) => b - a).map(([how, count]) => `  ${count} ${how}\n`)
  process.stdout.write(
    `${sessions} sessions, seed ${seed}, none of which harmed anybody:\n${counts.join('')}`,
  )
  process.stdout.write(`The server used up to ${Math.round(peakBytes / 1024 / 1024)} MiB.\n`)
} catch (error) {
  const { message, cause } = error as Error
  process.stderr.write(
    `central-backup: ${message}\n${cause === undefined ? '' : `${(cause as Error).stack}\n`}`,
  )
  process.exitCode = 1
}
