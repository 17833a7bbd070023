import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Pace } from '../src/pace.ts'

/** A pace of 1000 bytes a second by a clock of the test, which the return value moves on. */
function takeTime(t: TestContext): { pace: Pace; pass: (ms: number) => void } {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let nowMs = 1_000_000
  const pass = (ms: number) => {
    nowMs += ms
    t.mock.timers.tick(ms)
  }
  return { pace: new Pace(1000, () => nowMs), pass }
}

test('what was added takes its time, beyond what a second gives at once', (t) => {
  const { pace, pass } = takeTime(t)
  let resumed = 0
  const resume = () => resumed++
  pace.add(1000)
  assert.equal(pace.mustWait(resume), false)
  pace.add(500)
  assert.ok(pace.mustWait(resume) && pace.mustWait(resume))
  pass(499)
  assert.equal(resumed, 0)
  pass(1)
  assert.equal(resumed, 1, 'once, however often it was asked for')
  assert.equal(pace.mustWait(resume), false)
})

test('several that share a pace come in turns, and together are no faster', (t) => {
  const { pace, pass } = takeTime(t)
  const sent: string[] = []
  const senders = ['a', 'b', 'c'].map((name) => {
    const send = () => {
      if (pace.mustWait(send)) return
      pace.add(100)
      sent.push(name)
      send()
    }
    return send
  })
  for (const send of senders) send()
  // The credit, and what is paid for afterwards.
  assert.equal(sent.length, 11)
  for (let i = 0; i < 60; i++) pass(100)
  assert.equal(sent.length, 71)
  const last = sent.slice(-30)
  for (const name of ['a', 'b', 'c'])
    assert.equal(last.filter((one) => one === name).length, 10, last.join(''))
})

test('who leaves is not called, and the others are', (t) => {
  const { pace, pass } = takeTime(t)
  const called: string[] = []
  const [a, b] = ['a', 'b'].map((name) => () => void called.push(name))
  pace.add(2000)
  assert.ok(pace.mustWait(a!) && pace.mustWait(b!))
  assert.deepEqual([pace.leave(a!), pace.leave(a!)], [true, false])
  pass(1000)
  assert.deepEqual(called, ['b'])
})
