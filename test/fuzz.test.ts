/**
 * Each parser is given all that was ever found, and a few inputs that nobody would write; `npm run fuzz` goes on for as
 * long as one likes. What it finds is kept in test/corpus.
 */
import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { corpusNames, readCorpus } from './fuzz/corpus.ts'
import { fuzzTargets } from './fuzz/fuzz.ts'
import type { FuzzResult } from './fuzz/fuzz-one.ts'
import { selfTestTargets } from './fuzz/self-test-targets.ts'
import { allTargets } from './fuzz/targets.ts'

const runs = 120
const names = allTargets.map(({ name }) => name)

describe('whatever a parser is given, it takes it or refuses it, in bounded time and memory', () => {
  let results: FuzzResult[]
  before(async () => {
    results = await fuzzTargets(names, { runs, seconds: 3600, seed: 1 })
  })
  for (const [number, name] of names.entries()) {
    test(name, () => {
      const { target, tried, accepted, finding } = results[number]!
      assert.equal(target, name)
      if (finding !== null)
        assert.fail(`${finding.kind}: ${finding.message}\ninput, base64: ${finding.input.toString('base64')}`)
      assert.equal(tried, runs + readCorpus(name).length)
      assert.ok(accepted > 0, 'inputs are so far off that none is taken')
    })
  }
})

test('each folder of the corpus is that of a parser', () => {
  assert.deepEqual(
    corpusNames().filter((name) => !names.includes(name)),
    [],
  )
})

test('a parser that throws, hangs, dawdles, ends the process or swells is found, and the next one has its turn', async () => {
  const broken = selfTestTargets.map(({ name }) => name)
  const results = await fuzzTargets(broken, { runs: 500, seconds: 3600, seed: 1 }, () => {}, 1500)
  assert.deepEqual(
    results.map(({ target, finding }) => [target, finding?.kind ?? null]),
    [
      ['self-test-throws', 'error'],
      ['self-test-hangs', 'hang'],
      ['self-test-ends-the-process', 'crash'],
      ['self-test-swells', 'memory'],
      ['self-test-dawdles', 'slow'],
      ['self-test-well', null],
    ],
  )
  // What throws is made as short as it can be; of the others, the input is as it was.
  assert.deepEqual(results[0]!.finding!.input, Buffer.from([0xff]))
  for (const { finding } of results.slice(1, 5)) assert.ok(finding!.input.includes(0xff))
  assert.equal(results[5]!.tried, 500)
})
