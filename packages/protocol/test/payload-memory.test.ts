import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { Channel, encodeMessage, MessageParser, PayloadMemory } from '../src/index.ts'

/** Large enough for memory that is used again. */
const frame = (text: string) => encodeMessage({ type: 'frame', payload: Buffer.from(text.padEnd(300_000)) })

test('what was given back is used again, or freed at once where it is small', () => {
  using memory = new PayloadMemory()
  const first = memory.take(1_000_000)
  const second = memory.take(2_000_000)
  assert.notEqual(second.buffer, first.buffer)
  const memoryOfFirst = first.buffer
  memory.giveBack(first)
  const third = memory.take(500_000)
  assert.equal(third.buffer, memoryOfFirst)
  assert.equal(third.length, 500_000)
  const small = memory.take(1000)
  assert.equal(small.buffer.byteLength, 1000)
  memory.giveBack(small)
  assert.equal(small.length, 0)
})

test('nothing of it is left to the collector when it is disposed of', () => {
  const memory = new PayloadMemory()
  const [spare, taken] = [memory.take(1_000_000), memory.take(1_000_000)]
  memory.giveBack(spare)
  memory[Symbol.dispose]()
  assert.equal(spare.length, 0)
  assert.equal(taken.length, 1_000_000)
  memory.giveBack(taken)
  assert.equal(taken.length, 0)
})

test('bytes that are part of something else are left alone', () => {
  using memory = new PayloadMemory()
  const whole = Buffer.from('something else')
  memory.giveBack(whole.subarray(0, 4))
  assert.equal(whole.toString(), 'something else')
})

test('data messages are read into it, and control messages are not', () => {
  const parser = new MessageParser()
  using memory = new PayloadMemory()
  parser.memory = memory
  const read = (bytes: Buffer[]) => {
    for (const piece of bytes) parser.push(piece)
    return parser.next()
  }
  const one = read(frame('a longer frame'))
  assert.ok(one?.type === 'frame' && one.payload.toString().startsWith('a longer frame'))
  const memoryOfOne = one.payload.buffer
  memory.giveBack(one.payload)
  assert.deepEqual(read(encodeMessage({ type: 'baseline-next' })), { type: 'baseline-next' })
  const two = read(encodeMessage({ type: 'entries', payload: Buffer.alloc(300_000, 'index') }))
  assert.ok(two?.type === 'entries' && two.payload.toString().startsWith('indexindex'))
  assert.equal(two.payload.buffer, memoryOfOne)
})

test('a channel reads ahead without touching what its receiver still has', async () => {
  const stream = new PassThrough()
  const channel = new Channel(stream)
  using memory = new PayloadMemory()
  channel.receiveInto(memory)
  for (const text of ['one', 'two', 'three', 'four']) for (const piece of frame(text)) stream.write(piece)
  const seen: string[] = []
  let before: Buffer | null = null
  for (let i = 0; i < 4; i++) {
    const { payload } = await channel.receive(['frame'])
    if (before !== null) {
      seen.push(before.toString().trim())
      memory.giveBack(before)
    }
    before = payload
  }
  assert.deepEqual([...seen, before!.toString().trim()], ['one', 'two', 'three', 'four'])
  channel.destroy()
})
