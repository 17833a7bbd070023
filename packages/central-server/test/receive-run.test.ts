import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { describe, type TestContext, test } from 'node:test'
import { Channel, hooksMsMax, type Message, stallMsMax } from '@central-backup/protocol'
import { receiveRun } from '../src/session/receive-run.ts'

/** Both ends of a conversation; the agent's packs nothing, it only says how far it is. */
function converse(context: TestContext): { server: Channel; agent: Channel } {
  const [left, right] = duplexPair()
  const [server, agent] = [new Channel(left), new Channel(right)]
  context.after(() => {
    server.destroy()
    agent.destroy()
  })
  return { server, agent }
}

describe('progress of an agent', () => {
  for (const { name, entriesAt, stalls } of [
    { name: 'whose numbers stand still is none', entriesAt: () => 7, stalls: true },
    {
      name: 'whose numbers go back and forth is none',
      entriesAt: (report: number) => 7 + (report % 2),
      stalls: true,
    },
    { name: 'whose numbers advance is some', entriesAt: (report: number) => 7 + report, stalls: false },
  ]) {
    test(name, async (context) => {
      let nowMs = 1000
      context.mock.method(performance, 'now', () => nowMs)
      const { server, agent } = converse(context)
      let reports = 0
      const { promise: hadAll, resolve: onAll } = Promise.withResolvers<'all'>()
      const received = receiveRun(
        server,
        { host: 'web1' },
        {
          sink: null,
          baseline: null,
          observer: {
            onProgress() {
              nowMs += stallMsMax / 10
              if (++reports === 30) onAll('all')
            },
          },
        },
      )
      received.catch(() => {})
      const send = async () => {
        for (let report = 0; report < 30; report++)
          await agent.send({
            type: 'progress',
            phase: 'pack',
            entries: entriesAt(report),
            contentBytes: 0,
            path: null,
          })
      }
      send().catch(() => {})
      if (stalls) {
        await assert.rejects(received, { code: 'stalled', message: /has got no further/ })
        assert.ok(reports <= 13, `${reports} reports were taken`)
      } else {
        assert.equal(await Promise.race([hadAll, received]), 'all')
      }
    })
  }
})

/** Has the agent say `messages`, and collects what the observer is told until the session ends. */
async function observe(context: TestContext, messages: readonly Message[]) {
  const { server, agent } = converse(context)
  const warnings: string[] = []
  let progress = 0
  const received = receiveRun(
    server,
    { host: 'web1' },
    {
      sink: null,
      baseline: null,
      observer: {
        onWarning: ({ code }) => void warnings.push(code),
        onProgress: () => void progress++,
      },
    },
  )
  const ended = received.catch((error: unknown) => error)
  for (const message of messages) await agent.send(message)
  await agent.close()
  return { warnings, progress, error: await ended }
}

test('warnings beyond some MiB are not passed on, and that is told once', async (context) => {
  const warning: Message = {
    type: 'warning',
    code: 'unreadable',
    path: Buffer.alloc(5_000, '/x'),
    message: 'no',
  }
  const { warnings } = await observe(context, Array(5000).fill(warning))
  const told = Math.floor((16 * 1024 * 1024) / (4096 + '…'.length * 3 + 2))
  assert.deepEqual(warnings, [...Array(told).fill('unreadable'), 'more-warnings'])
})

test('progress is passed on only so often, however often an agent reports some', async (context) => {
  const messages = Array.from(
    { length: 3000 },
    (_, entries): Message => ({ type: 'progress', phase: 'pack', entries, contentBytes: 0, path: null }),
  )
  const startedMs = performance.now()
  const { progress } = await observe(context, messages)
  assert.ok(progress >= 1 && progress <= 1 + (performance.now() - startedMs) / 250, `${progress} times`)
})

test('an agent whose hooks are at work is waited for, an hour and no more', async (context) => {
  let nowMs = 1000
  context.mock.method(performance, 'now', () => nowMs)
  const { server, agent } = converse(context)
  const stepMs = hooksMsMax / 10
  let reports = 0
  const observer = {
    onProgress() {
      nowMs += stepMs
      reports++
    },
  }
  const received = receiveRun(server, { host: 'web1' }, { sink: null, baseline: null, observer })
  received.catch(() => {})
  const send = async () => {
    for (let report = 0; report < 30; report++)
      await agent.send({ type: 'progress', phase: 'prepare', entries: 0, contentBytes: 0, path: null })
  }
  send().catch(() => {})
  await assert.rejects(received, { code: 'stalled' })
  assert.ok(reports >= 10 && reports <= 12, `${reports} reports were taken`)
})
