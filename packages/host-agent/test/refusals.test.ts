import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ProtocolError } from '@central-backup/protocol'
import { RefusalLog } from '../src/refusals.ts'

test('who is refused 100,000 times has 30 lines a minute in the log, and then a number', () => {
  const lines: { facts: object; text: string }[] = []
  let nowMs = 1_000_000
  const refusals = new RefusalLog(
    { warn: (facts: object, text?: string) => void lines.push({ facts, text: text! }) },
    () => nowMs,
  )
  const error = new ProtocolError('not-tls', 'it does not speak TLS')
  const refuse = (times: number) => {
    for (let i = 0; i < times; i++) refusals.addConnection(error, '192.0.2.1')
  }
  refuse(50_000)
  assert.equal(lines.length, 30)
  assert.deepEqual(lines[0]!.facts, { code: 'not-tls', address: '192.0.2.1' })
  nowMs += 60_000
  refuse(50_000)
  assert.equal(lines.length, 61)
  assert.equal(lines[30]!.text, '49970 more connections were refused')
  nowMs += 60_000
  refuse(1)
  assert.equal(lines.at(-2)!.text, '49970 more connections were refused')
})

test('logins that fail have their lines again as soon as one was right', () => {
  const lines: string[] = []
  const logins = new RefusalLog({ warn: (_facts: object, text?: string) => void lines.push(text!) }, () => 1)
  const fail = () => {
    for (let i = 0; i < 50; i++) logins.addLogin({ code: 'busy', message: 'too many' }, { server: 'vm' })
  }
  fail()
  assert.equal(lines.length, 30)
  logins.begin()
  fail()
  assert.equal(lines.length, 60)
  assert.equal(lines.at(-1), 'session failed: too many')
})
