import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Remembered } from '../src/restore/remembered.ts'

test('a restore remembers what it has made and linked, and no more of it than some, however many and long the paths are', () => {
  const many = new Remembered<number>()
  for (let number = 0; number < 150_000; number++) many.set(`path ${number}`, number)
  assert.deepEqual(
    [many.get('path 7'), many.get('path 99999'), many.get('path 100000')],
    [7, 99_999, undefined],
  )

  const long = new Remembered<string>()
  const pathOf = (number: number) => `${number}/${'x'.repeat(16_000)}`
  for (let number = 0; number < 5000; number++) long.set(pathOf(number), pathOf(number))
  assert.equal(long.get(pathOf(1000)), pathOf(1000))
  assert.equal(long.get(pathOf(1100)), undefined)
  // What is short may still find room.
  long.set('short', 'name')
  assert.equal(long.get('short'), 'name')
})
