/** Gives the parsers inputs that nobody would write: `npm run fuzz`. */
import { relative } from 'node:path'
import { formatTable } from '../bench/table.ts'
import { addToCorpus } from '../test/fuzz/corpus.ts'
import { fuzzTargets } from '../test/fuzz/fuzz.ts'
import type { FuzzResult } from '../test/fuzz/fuzz-one.ts'
import { allTargets } from '../test/fuzz/targets.ts'
import { countOption, readOptions } from './options.ts'

const secondsDefault = 20

const usage = `
Gives each parser inputs that nobody would write: npm run fuzz [-- OPTION...]

  --only PARSER   one of them; may be given several times
  --seconds N     for each parser (${secondsDefault}, or any with --runs)
  --runs N        inputs for each
  --seed N        the same inputs again
  --json

Prints a table on standard output and findings on standard error, keeps the inputs of those in test/corpus, and exits
with 1 where there are some.

Parsers: ${allTargets.map(({ name }) => name).join(', ')}
`

const { values } = readOptions(usage, {
  options: {
    only: { type: 'string', multiple: true },
    seconds: { type: 'string' },
    runs: { type: 'string' },
    seed: { type: 'string' },
    json: { type: 'boolean' },
  },
})

function chosenTargets(): string[] {
  const known = allTargets.map(({ name }) => name)
  const unknown = values.only?.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Error(`--only ${unknown}: expected one of ${known.join(', ')}`)
  return values.only ?? known
}

function row({ target, tried, accepted, seconds, finding }: FuzzResult): string[] {
  const counts = [tried, accepted].map((count) => count.toLocaleString('en-US'))
  return [target, ...counts, seconds.toFixed(1), finding === null ? '' : finding.kind]
}

try {
  const anySeconds = values.runs === undefined ? secondsDefault : Number.MAX_SAFE_INTEGER
  const limits = {
    runs: countOption('runs', values.runs, Number.MAX_SAFE_INTEGER),
    seconds: countOption('seconds', values.seconds, anySeconds),
    seed: countOption('seed', values.seed, 1 + Math.floor(Math.random() * 2 ** 31)),
  }
  const results = await fuzzTargets(chosenTargets(), limits, ({ target, tried, finding }) => {
    if (finding === null) process.stderr.write(`${target}: ${tried} inputs, nothing found\n`)
    else {
      const file = addToCorpus(target, finding.kind, finding.input)
      process.stderr.write(`${target}: ${finding.message}\n  ${relative(process.cwd(), file)}\n`)
    }
  })
  const found = results.filter(({ finding }) => finding !== null)
  if (values.json) {
    const shown = results.map(({ finding, ...rest }) => ({
      ...rest,
      finding: finding && { ...finding, input: finding.input.toString('base64') },
    }))
    process.stdout.write(`${JSON.stringify({ seed: limits.seed, results: shown })}\n`)
  } else {
    const sum = (of: (result: FuzzResult) => number) => results.reduce((total, one) => total + of(one), 0)
    const total: FuzzResult = {
      target: 'together',
      tried: sum(({ tried }) => tried),
      accepted: sum(({ accepted }) => accepted),
      seconds: sum(({ seconds }) => seconds),
      finding: null,
    }
    const head = ['parser', 'inputs', 'accepted', 'seconds', 'found']
    process.stdout.write(`${formatTable(head, [...results, total].map(row), new Set([0, 4]))}\n`)
    process.stdout.write(`\nSeed ${limits.seed}; ${found.length} findings.\n`)
  }
  process.exitCode = found.length === 0 ? 0 : 1
} catch (error) {
  process.stderr.write(`central-backup: ${(error as Error).message}\n`)
  process.exitCode = 2
}
