import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { Channel, encodeMessage, MessageParser, PayloadMemory } from '../src/index.ts'

const frame = (text: string) => encodeMessage({ type: 'frame', payload: Buffer.from(text) })

test('what was given back is used again, and nothing of it shows', () => {
  const memory = new PayloadMemory()
  const first = memory.take(1000).fill('x')
  const second = memory.take(10)
  assert.notEqual(second.buffer, first.buffer)
  memory.giveBack(first)
  const third = memory.take(5)
  assert.equal(third.buffer, first.buffer)
  assert.equal(third.length, 5)
  memory.giveBack(Buffer.alloc(10))
  assert.ok(memory.take(1).buffer instanceof SharedArrayBuffer)
})

test('data messages are read into it, and control messages are not', () => {
  const parser = new MessageParser()
  parser.memory = new PayloadMemory()
  const read = (bytes: Buffer[]) => {
    for (const piece of bytes) parser.push(piece)
    return parser.next()
  }
  const one = read(frame('a longer frame'))
  assert.ok(one?.type === 'frame' && one.payload.toString() === 'a longer frame')
  parser.memory.giveBack(one.payload)
  assert.deepEqual(read(encodeMessage({ type: 'baseline-next' })), { type: 'baseline-next' })
  const two = read(encodeMessage({ type: 'entries', payload: Buffer.from('index') }))
  assert.ok(two?.type === 'entries' && two.payload.toString() === 'index')
  assert.equal(two.payload.buffer, one.payload.buffer)
})

test('a channel reads ahead without touching what its receiver still has', async () => {
  const stream = new PassThrough()
  const channel = new Channel(stream)
  const memory = new PayloadMemory()
  channel.receiveInto(memory)
  for (const text of ['one', 'two', 'three', 'four']) for (const piece of frame(text)) stream.write(piece)
  const seen: string[] = []
  let before: Buffer | null = null
  for (let i = 0; i < 4; i++) {
    const { payload } = await channel.receive(['frame'])
    if (before !== null) {
      seen.push(before.toString())
      memory.giveBack(before)
    }
    before = payload
  }
  assert.deepEqual([...seen, before!.toString()], ['one', 'two', 'three', 'four'])
  channel.destroy()
})
