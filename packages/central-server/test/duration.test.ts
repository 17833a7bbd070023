import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { durationMsMax, parseDuration } from '../src/config/duration.ts'

test('durations are read as people write them', () => {
  const hourMs = 3_600_000
  const examples: [string, number][] = [
    ['26 hours', 26 * hourMs],
    ['90m', 1.5 * hourMs],
    ['2 days', 48 * hourMs],
    ['1 day 2 hours', 26 * hourMs],
    ['1h30m', 1.5 * hourMs],
    [' 1.5 H ', 1.5 * hourMs],
    ['1 week', 168 * hourMs],
    ['500 ms', 500],
  ]
  for (const [text, ms] of examples) assert.equal(parseDuration(text), ms, text)
})

test('what is no duration is refused', () => {
  for (const text of [
    '',
    ' ',
    '26',
    'hours',
    '26 hors',
    '-1 h',
    '0 s',
    '1 h and 2 m',
    '1e3 s',
    '101 years',
    '40000 days',
    '1 constructor',
  ]) {
    assert.equal(parseDuration(text), null, text)
  }
})

test('any text is refused or gives milliseconds within the limit', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9.]{0,20} ?[a-z]{0,8}$/)), (text) => {
      const ms = parseDuration(text)
      assert.ok(ms === null || (Number.isInteger(ms) && ms >= 1 && ms <= durationMsMax))
    }),
  )
})
