/**
 * Sessions of an agent in which one thing is other than it should be: a few here, as many as wanted with
 * `npm run fuzz-sessions`.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fuzzSessions } from './harness/lying-hosts.ts'
import { fuzzReceivers } from './harness/lying-receivers.ts'
import { chooseMutations, describeMutation, systematicMutations } from './harness/session-mutations.ts'

describe('a session with a mutation', () => {
  test('there is one for each field of each message', () => {
    const places = new Set(
      systematicMutations().flatMap((one) =>
        'place' in one ? [`${one.message} ${one.place.join('.')}`] : [],
      ),
    )
    assert.ok(places.size > 150, `${places.size} fields`)
  })

  test('the same seed gives the same mutations, and another one others', () => {
    const describeAll = (seed: number) => chooseMutations(seed, 100).map(describeMutation)
    assert.deepEqual(describeAll(7), describeAll(7))
    assert.notDeepEqual(describeAll(7), describeAll(8))
  })

  test('harms nobody but its own host: no other run, file, memory of the server, terminal or log', async (t) => {
    const { sessions, ends, peakBytes } = await fuzzSessions({ seed: 1, sessions: 16, seconds: 300 })
    const counts = [...ends].sort().map(([how, count]) => `${count} ${how}`)
    t.diagnostic(`${sessions} sessions: ${counts.join(', ')}; the server used up to ${peakBytes >> 20} MiB`)
    assert.equal(sessions, 16)
  })

  test('in a restore: gets nothing that was not selected, and harms nobody', async (t) => {
    const { sessions, ends } = await fuzzReceivers({ seed: 1, sessions: 4, seconds: 300 })
    t.diagnostic([...ends].map(([how, count]) => `${count} ${how}`).join(', '))
    assert.equal(sessions, 4)
  })
})
