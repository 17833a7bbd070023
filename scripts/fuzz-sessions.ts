/**
 * Tells a server sessions of lying agents, each with one thing changed: `npm run fuzz-sessions [-- --sessions N] [--seconds
 * N] [--seed N]`. Prints what came of them, and exits with 1, and the sessions in question, where one of them harmed anybody.
 */
import { parseArgs } from 'node:util'
import { fuzzSessions } from '../test/harness/lying-hosts.ts'

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '4500' },
    seconds: { type: 'string', default: '1800' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 2 ** 31)) },
  },
})

function positive(name: keyof typeof values): number {
  const value = Number(values[name])
  if (value > 0) return value
  throw new Error(`--${name} ${values[name]}: expected a number above 0`)
}

const toldEvery = 200

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

try {
  const seed = positive('seed')
  let told = 0
  process.stderr.write(`Seed ${seed}.\n`)
  const { sessions, ends, peakBytes } = await fuzzSessions({
    seed,
    sessions: positive('sessions'),
    seconds: positive('seconds'),
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
