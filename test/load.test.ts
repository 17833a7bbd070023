/** A small load, as `npm run load` has a large one: hourly runs of a few agents, of which some are in trouble. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { growthFaults, type Hour, type LoadReport, runLoad } from './load/load.ts'
import { formatLoad } from './load/report.ts'

test('hourly runs of several agents are complete, but for those in trouble, and what is left of them comes back', async () => {
  const report = await runLoad({ agents: 4, hours: 3, seed: 2 })
  assert.deepEqual(report.faults, [])
  assert.equal(report.runs, 12)
  assert.equal(report.restored, 4)
  const trouble = report.hours.reduce((sum, { troubles }) => sum + Object.keys(troubles).length, 0)
  assert.ok(trouble > 0, 'nobody was in trouble')
  assert.match(formatLoad(report), /Verdict: all is well\.\n$/)
})

test('what grows all day is told', () => {
  const mebibyte = 1024 * 1024
  const report = (grow: number): LoadReport => {
    const usage = (hour: number) => ({
      residentBytes: (100 + grow * hour) * mebibyte,
      peakBytes: (100 + grow * hour) * mebibyte,
      descriptors: 20 + grow * hour,
      threads: 10 + grow * hour,
    })
    const hours = Array.from({ length: 24 }, (_, hour): Hour => {
      const rest = { seconds: 1, outcomes: { complete: 1 }, troubles: {}, archives: 5, trashed: 1 }
      const agents = { 'agents 1': usage(hour) }
      const catalogBytes = (1 + grow * hour) * mebibyte
      return { ...rest, hour, server: usage(hour), agents, catalogBytes, repositoryBytes: 1 }
    })
    const rest = { agents: 1, seed: 1, kept: 8, runsPerFull: 6, runs: 24, idleAgentBytes: 1, restored: 1 }
    return { ...rest, hours, seconds: 1, faults: [] }
  }
  assert.deepEqual(growthFaults(report(0)), [])
  const faults = growthFaults(report(10)).join('\n')
  for (const what of [
    'memory of the server',
    'descriptors of the server',
    'the catalog',
    'memory of agents 1',
  ])
    assert.match(faults, new RegExp(`${what} grew from`))
  assert.match(faults, /threads of agents 1 grew/)
})
