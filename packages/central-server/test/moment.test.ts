import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMoment } from '../src/cli/moment.ts'
import { UsageError } from '../src/errors.ts'

const now = new Date(2026, 10, 21, 12, 0, 0)

function at(text: string): Date {
  const moment = parseMoment(text, now.getTime())
  assert.ok(typeof moment === 'object' && 'atMs' in moment, text)
  return new Date(moment.atMs)
}

test('a run is given by its id, and the newest by a word', () => {
  assert.deepEqual(parseMoment('12', now.getTime()), { run: 12 })
  assert.equal(parseMoment('latest', now.getTime()), 'latest')
  assert.equal(parseMoment(' Latest ', now.getTime()), 'latest')
})

test('a day means its end, and a minute its end, in local time', () => {
  assert.deepEqual(at('2026-11-20'), new Date(2026, 10, 20, 23, 59, 59, 999))
  assert.deepEqual(at('2026-11-20 14:30'), new Date(2026, 10, 20, 14, 30, 59, 999))
  assert.deepEqual(at('2026-11-20T14:30:05'), new Date(2026, 10, 20, 14, 30, 5, 999))
  assert.deepEqual(at('yesterday'), new Date(2026, 10, 20, 23, 59, 59, 999))
  assert.deepEqual(at('yesterday 08:00'), new Date(2026, 10, 20, 8, 0, 59, 999))
})

test('a time with a zone is that very moment', () => {
  assert.deepEqual(at('2026-11-20T14:30:00Z'), new Date('2026-11-20T14:30:00Z'))
  assert.deepEqual(at('2026-11-20 14:30+02:00'), new Date('2026-11-20T12:30:00Z'))
})

test('"ago" goes by the calendar', () => {
  assert.deepEqual(at('3 days ago'), new Date(2026, 10, 18, 12))
  assert.deepEqual(at('1 hour ago'), new Date(2026, 10, 21, 11))
  assert.deepEqual(at('2 weeks ago'), new Date(2026, 10, 7, 12))
  assert.deepEqual(at('1 year ago'), new Date(2025, 10, 21, 12))
  const march = new Date(2026, 2, 31, 12).getTime()
  assert.deepEqual(parseMoment('1 month ago', march), { atMs: new Date(2026, 1, 28, 12).getTime() })
})

test('what is no time is refused with examples', () => {
  for (const text of [
    '',
    'soon',
    '2026-11-31',
    '2026-13-01',
    '2026-11-20 25:00',
    '2026-11-20 14:30 x',
    '3 fortnights ago',
    '-5',
    '2026-2-3',
  ]) {
    assert.throws(
      () => parseMoment(text, now.getTime()),
      (error) => error instanceof UsageError && error.hint.includes('yesterday'),
      text,
    )
  }
})
