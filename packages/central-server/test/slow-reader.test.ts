import assert from 'node:assert/strict'
import { duplexPair, PassThrough } from 'node:stream'
import { test } from 'node:test'
import { Channel, type MessageOf } from '@central-backup/protocol'
import { Invocation } from '../src/cli/invocation.ts'
import { receiveRun } from '../src/session/receive-run.ts'

function invocationWith(stdout: PassThrough): Invocation {
  const stderr = { write: () => true }
  const invocation = new Invocation({
    environment: {},
    workingDirectory: '/',
    uid: 0,
    now: Date.now,
    stdout,
    stderr,
  })
  invocation.options = { json: true }
  return invocation
}

test('who writes much waits for a reader of standard output that is behind, and only then', async () => {
  const stdout = new PassThrough({ highWaterMark: 100 })
  const invocation = invocationWith(stdout)
  invocation.report({ short: 1 }, [])
  assert.equal(invocation.outputIsBehind, false)
  assert.equal(invocation.outputReady(), undefined)
  invocation.report({ long: 'x'.repeat(1000) }, [])
  assert.equal(invocation.outputIsBehind, true)
  let isReady = false
  const ready = invocation.outputReady()!.then(() => {
    isReady = true
  })
  await new Promise(setImmediate)
  assert.equal(isReady, false)
  stdout.resume()
  await ready
  assert.equal(invocation.outputIsBehind, false)
})

test('an agent is held back while what it lists is not read, and let go when the session ends', async () => {
  const [left, right] = duplexPair({ highWaterMark: 1024 })
  const [server, agent] = [new Channel(left), new Channel(right)]
  let taken = 0
  const never = new Promise<void>(() => {})
  const received = receiveRun(
    server,
    { host: 'web1' },
    {
      sink: null,
      baseline: null,
      observer: {
        ready: () => (taken >= 3 ? never : undefined),
        onLeftOut: () => void taken++,
      },
    },
  )
  received.catch(() => {})
  const path = Buffer.alloc(10_000, '/x')
  const message: MessageOf<'left-out'> = {
    type: 'left-out',
    objects: [{ path, reason: 'excluded', message: 'x' }],
  }
  let sent = 0
  const sending = (async () => {
    for (; sent < 100; sent++) await agent.send(message)
  })().catch(() => {})
  for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate)
  assert.equal(taken, 3)
  assert.ok(sent < 10, `${sent} were sent`)
  server.destroy()
  await assert.rejects(received, { code: 'connection-lost' })
  agent.destroy()
  await sending
})
