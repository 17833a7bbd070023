import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { encodeMessage, MessageParser } from '../src/index.ts'
import { messageKinds } from '../src/messages.ts'
import { examples } from './examples.ts'

// A changed vector is a changed protocol, and needs a version.
const vectors: Record<string, string> = JSON.parse(
  readFileSync(new URL('vectors.json', import.meta.url), 'utf8'),
)

test('there is a vector for every example, and an example of every message', () => {
  assert.deepEqual(Object.keys(vectors), Object.keys(examples))
  const shown = new Set(Object.values(examples).map((message) => message.type))
  assert.deepEqual([...shown].sort(), messageKinds.map((kind) => kind.type).sort())
})

for (const [name, message] of Object.entries(examples)) {
  test(`the bytes of "${name}" are those of its vector`, () => {
    assert.equal(Buffer.concat(encodeMessage(message)).toString('hex'), vectors[name])
  })

  test(`the vector of "${name}" is read as that message`, () => {
    const parser = new MessageParser()
    parser.push(Buffer.from(vectors[name]!, 'hex'))
    assert.deepEqual(parser.next(), message)
    assert.equal(parser.next(), null)
  })
}
