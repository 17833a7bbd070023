import assert from 'node:assert/strict'
import { duplexPair } from 'node:stream'
import { describe, type TestContext, test } from 'node:test'
import { Channel, stallMsMax } from '@central-backup/protocol'
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
