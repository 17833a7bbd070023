/**
 * An agent that is asked to restore what was backed up of another host, and lies. It gets nothing beyond what was selected,
 * keeps the server at work no longer than it has to, and reaches neither its terminal nor its log.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Channel, restorePassesMax } from '@central-backup/protocol'
import { FakeAgent } from './harness/fake-agent.ts'
import { peakMemoryOf } from './harness/measure.ts'
import { restoredOneFile, sending } from './harness/pack.ts'
import { patienceMs } from './harness/program.ts'
import { Site } from './harness/site.ts'

type Restoring = FakeAgent['restoring']

const everything = { type: 'restore-entries', order: 'path', types: null } as const
const paths = (...texts: string[]) => texts.map((text) => Buffer.from(text))
const contentOf = (...texts: string[]) => ({ type: 'restore-content', paths: paths(...texts) }) as const

/** Takes the entries of one pass. */
async function takeEntries(channel: Channel): Promise<void> {
  await channel.send(everything)
  while ((await channel.receive(['entries', 'entries-end'])).type === 'entries')
    await channel.send({ type: 'restore-next' })
}

/** Has the entries, then asks for something. */
const asks = (...messages: Parameters<Channel['send']>[0][]): Restoring => {
  return async (channel) => {
    await takeEntries(channel)
    for (const message of messages) await channel.send(message)
  }
}

const step = { path: Buffer.from('/srv/a'), type: 'file', action: 'create', bytes: 6 } as const

interface Lie {
  name: string
  code: string
  restoring: Restoring
  dryRun?: boolean
}

const lies: Lie[] = [
  { name: 'content that is not selected', code: 'message-out-of-turn', restoring: asks(contentOf('/srv/b')) },
  {
    name: 'content that does not exist',
    code: 'message-out-of-turn',
    restoring: asks(contentOf('/etc/shadow')),
  },
  { name: 'content by a way around', code: 'message-out-of-turn', restoring: asks(contentOf('/srv/a/../b')) },
  { name: 'the content of a folder', code: 'message-out-of-turn', restoring: asks(contentOf('/srv')) },
  {
    name: 'content by a path that is not absolute',
    code: 'message-malformed',
    restoring: asks(contentOf('srv/a')),
  },
  {
    name: 'content more often than it was offered',
    code: 'message-out-of-turn',
    restoring: asks(contentOf('/srv/a'), contentOf('/srv/a')),
  },
  {
    name: 'first names where there are no hard links',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'restore-firsts', paths: paths('/srv/a') }),
  },
  {
    name: 'entries behind the last',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'restore-next' }),
  },
  {
    name: 'one pass after the other',
    code: 'message-out-of-turn',
    restoring: async (channel) => {
      for (let i = 0; i <= restorePassesMax; i++) await takeEntries(channel)
    },
  },
  {
    name: 'for much at a time, and takes nothing',
    code: 'message-out-of-turn',
    restoring: async (channel) => {
      for (let i = 0; i <= restorePassesMax; i++) await channel.send(everything)
    },
  },
  {
    name: 'for nothing, and plans where it is to restore',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'restore-plan', steps: [step] }),
  },
  {
    name: 'for a dry run’s entries, and plans more than they are',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'restore-plan', steps: [step, step, step] }),
    dryRun: true,
  },
  {
    name: 'for a dry run’s entries, and plans longer paths than they have',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'restore-plan', steps: [{ ...step, path: Buffer.alloc(16_000, '/x') }] }),
    dryRun: true,
  },
  {
    name: 'for nothing, and reports a restore after a dry run',
    code: 'message-malformed',
    restoring: asks({ type: 'restore-end', report: restoredOneFile }),
    dryRun: true,
  },
  {
    name: 'for nothing, and reports no restore',
    code: 'message-malformed',
    restoring: asks({ type: 'restore-end', report: null }),
  },
  {
    name: 'for nothing, and says that it packs',
    code: 'message-malformed',
    restoring: asks({ type: 'progress', phase: 'pack', entries: 1, contentBytes: 1, path: null }),
  },
  {
    name: 'for nothing, and sends an archive',
    code: 'message-out-of-turn',
    restoring: asks({ type: 'archive-name', name: 'x' }),
  },
  {
    name: 'for nothing, and hangs up',
    code: 'connection-lost',
    restoring: async (channel) => channel.destroy(),
  },
  {
    name: 'for nothing, as its policy has changed',
    code: 'policy-denied',
    restoring: (channel) => channel.send({ type: 'error', code: 'policy-denied', message: 'not any more' }),
  },
]

describe('an agent that is to restore and asks', () => {
  let site: Site
  let agent: FakeAgent
  before(async () => {
    site = await Site.create()
    agent = await FakeAgent.start(await site.addHost('web1'))
    agent.script = sending()
    assert.equal((await site.run()).code, 0)
  })
  after(async () => {
    await agent?.[Symbol.asyncDispose]()
    await site?.[Symbol.asyncDispose]()
  })

  const restore = (...args: string[]) => site.server('restore', 'web1', '/srv/a', '--to-host', ...args)

  for (const { name, code, restoring, dryRun } of lies) {
    test(`${name}: refused as ${code}`, async () => {
      agent.restoring = restoring
      const ended = await restore('--json', ...(dryRun ? ['--dry-run'] : []))
      assert.equal(ended.code, 1, ended.stdout + ended.stderr)
      const { error } = ended.json.at(-1) as unknown as { error: { code: string; message: string } }
      assert.equal(error.code, code, error.message)
      assert.ok(!ended.stderr.includes('internal'), ended.stderr)
    })
  }

  test('for what was selected gets that, and is believed in what it says of its own host', async () => {
    const got: Buffer[] = []
    agent.restoring = async (channel, request) => {
      assert.deepEqual([request.target.toString(), request.source], ['/srv', 'web1'])
      await takeEntries(channel)
      await channel.send(contentOf('/srv/a'))
      got.push((await channel.receive(['frame'])).payload)
      await channel.send({ type: 'restore-end', report: { ...restoredOneFile, damaged: 1 } })
    }
    const ended = await restore()
    assert.equal(ended.code, 3, ended.stderr)
    assert.equal(got.length, 1)
    assert.match(ended.stderr, /DAMAGED in the backup, not restored: 1/)
  })

  test('cannot send commands to the terminal or forge lines of the log', async () => {
    agent.restoring = async (channel) => {
      await takeEntries(channel)
      const evil = '\x1b[2J\n{"level":"info","msg":"forged"}'
      for (const code of ['failed', 'kept', 'whatever'])
        await channel.send({ type: 'warning', code, path: Buffer.from(`/${evil}`), message: evil })
      const notSet = { kind: 'owner', count: 1, reason: evil, examples: [Buffer.from(`/${evil}`)] }
      const mapped = { kind: 'user', name: Buffer.from(evil), from: 1, to: 2, count: 3 } as const
      await channel.send({
        type: 'restore-end',
        report: { ...restoredOneFile, notSet: [notSet], mapped: [mapped] },
      })
    }
    for (const options of [[], ['--json']]) {
      const ended = await restore(...options)
      assert.equal(ended.code, 0, ended.stderr)
      assert.ok(!/\x1b|^\{"level":"info","msg":"forged"/m.test(ended.stdout + ended.stderr), ended.stderr)
    }
    assert.ok(!site.serverLog().some(({ msg }) => msg === 'forged'))
  })

  test('for nothing, and warns without end, is refused, and the memory of the server stays small', async () => {
    agent.restoring = async (channel) => {
      const path = Buffer.alloc(16_000, '/x')
      for (;;) await channel.send({ type: 'warning', code: 'failed', path, message: 'x' })
    }
    const program = site.startServer(['restore', 'web1', '/srv/a', '--to-host', '--json'])
    program.child.stdout!.removeAllListeners('data').resume()
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(patienceMs)
    assert.equal(ended.code, 1, ended.stderr)
    assert.match(ended.stderr, /more than 10000 warnings/)
    assert.ok((await peak) < 400 * 1024 * 1024, `${await peak} bytes`)
  })
})
