import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ProtocolError, waitingSessionsMax } from '@central-backup/protocol'
import { WaitingSessions } from '../src/waiting-sessions.ts'

/** Notes by name which channels were ended, and how. */
function channels() {
  const ended: string[] = []
  const make = (name: string) => ({
    fail(error: unknown) {
      ended.push(`${name} ${(error as ProtocolError).code}`)
      return Promise.resolve()
    },
  })
  return { ended, make }
}

test('where too many sessions wait for their request, the oldest gives way', () => {
  const waiting = new WaitingSessions()
  const { ended, make } = channels()
  for (let n = 1; n <= waitingSessionsMax; n++) waiting.enter(make(`${n}`), '0A')
  assert.deepEqual(ended, [])
  waiting.enter(make('real'), '0A')
  assert.deepEqual(ended, ['1 busy'])
  waiting.enter(make('another'), '0A')
  assert.deepEqual(ended, ['1 busy', '2 busy'])
  assert.equal(waiting.count, waitingSessionsMax)
})

test('who comes again and again pushes out sessions of his own certificate, and none of another', () => {
  const waiting = new WaitingSessions()
  const { ended, make } = channels()
  waiting.enter(make('real'), '0A')
  for (let n = 1; n <= 3 * waitingSessionsMax; n++) waiting.enter(make(`thief ${n}`), '0B')
  assert.equal(ended.length, 2 * waitingSessionsMax + 1)
  assert.ok(!ended.includes('real busy'))
})

test('a session that has made its request, or has gone, waits no more', () => {
  const waiting = new WaitingSessions()
  const { ended, make } = channels()
  const places = Array.from({ length: waitingSessionsMax }, (_, n) => waiting.enter(make(`${n}`), '0A'))
  for (const place of places) place[Symbol.dispose]()
  assert.equal(waiting.count, 0)
  for (let n = 0; n < waitingSessionsMax; n++) waiting.enter(make(`later ${n}`), '0A')
  assert.deepEqual(ended, [])
})
