/**
 * Sessions of a host that is restored to, each with one thing changed, told to the real backup-server: the host gets what
 * was selected and nothing else, and nobody else is harmed.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type BytePath,
  decodeIndexBatch,
  decompressFrame,
  frameBytesMax,
  indexBatchBytesMax,
  indexFrameMagic,
  unwrapSkippable,
} from '@central-backup/archive'
import type { Channel, Message, MessageOf, MessageType } from '@central-backup/protocol'
import { file, other } from '../../packages/archive/test/sample.ts'
import { FakeAgent } from './fake-agent.ts'
import type { MutationReport, SessionFuzzer } from './lying-hosts.ts'
import { peakMemoryOf } from './measure.ts'
import { MutatedSide } from './mutated-side.ts'
import { packMembers, restoredOneFile, sending } from './pack.ts'
import { patienceMs } from './program.ts'
import { chooseMutations, describeMutation, type Mutation } from './session-mutations.ts'
import { Site } from './site.ts'
import { terminalCommands, Untouched } from './untouched.ts'

/** How long the receiver waits for a word of the server, which has none where it waits itself. */
const silenceMsMax = 1_500

const serverBytesMax = 400 * 1024 * 1024

const backedUp = [
  other('srv', 'directory', { mode: 0o755 }),
  file('srv/a', 'first\n'),
  other('srv/again', 'hardlink', { target: 'srv/a' as BytePath }),
  file('srv/b', 'secret\n'),
  file('srv/c', 'not selected\n'),
]
const selected = ['/srv/a', '/srv/again']

const report: typeof restoredOneFile = {
  ...restoredOneFile,
  restored: { ...restoredOneFile.restored, hardlinks: 1 },
  ...{ equal: 1, damaged: 1, failed: 1, kept: 1 },
  notSet: [{ kind: 'owner', count: 1, reason: 'EPERM', examples: [Buffer.from('/srv/a')] }],
  mapped: [{ kind: 'user', name: Buffer.from('alice'), from: 1, to: 2, count: 3 }],
}

const answers: MessageType[] = [
  'hello',
  'authenticate',
  'restore',
  'entries',
  'entries-end',
  'frame',
  'content-missing',
]

/** What a server gave out in a session. */
interface Got {
  paths: Set<string>
  content: string
}

/** Says what a receiver says, and takes note of all that it gets. Ends when the server does, or falls silent. */
class Receiver {
  readonly got: Got = { paths: new Set(), content: '' }
  readonly #channel: Channel
  readonly #side: MutatedSide

  constructor(channel: Channel, side: MutatedSide) {
    this.#channel = channel
    this.#side = side
  }

  async restore(name: string): Promise<void> {
    const path = Buffer.from('/srv/a')
    const policy = { read: [Buffer.from('/')], restore: [Buffer.from('/srv')] }
    this.#side.say({ type: 'hello', protocol: 1, software: 'fake-agent 1', role: 'host', name })
    await this.#hear('authenticate')
    this.#side.say({ type: 'welcome', name, policy, localCopy: false })
    const request = (await this.#hear('restore')) as MessageOf<'restore'>
    await this.#pass({ type: 'restore-entries', order: 'path', types: null })
    if (request.dryRun) {
      this.#side.say({ type: 'restore-plan', steps: [{ path, type: 'file', action: 'create', bytes: 6 }] })
      this.#side.say({ type: 'restore-end', report: null })
      return this.#hearOut()
    }
    this.#side.say({ type: 'restore-content', paths: [path] })
    await this.#hear('frame')
    await this.#pass({ type: 'restore-entries', order: 'path-descending', types: ['hardlink'] }, async () => {
      this.#side.say({ type: 'restore-firsts', paths: [Buffer.from('/srv/again')] })
      await this.#hear('entries')
    })
    this.#side.say({ type: 'progress', phase: 'files', entries: 1, contentBytes: 6, path })
    this.#side.say({ type: 'warning', code: 'failed', path, message: 'cannot be set' })
    this.#side.say({ type: 'restore-end', report })
    return this.#hearOut()
  }

  async #pass(request: MessageOf<'restore-entries'>, within = async () => {}): Promise<void> {
    this.#side.say(request)
    await this.#hear('entries')
    await within()
    this.#side.say({ type: 'restore-next' })
    await this.#hear('entries-end')
  }

  async #hear(type: MessageType): Promise<Message> {
    for (;;) {
      const message = await this.#channel.receive(answers, { timeoutMs: silenceMsMax })
      if (message.type === 'entries') for (const path of pathsIn(message.payload)) this.got.paths.add(path)
      if (message.type === 'frame')
        this.got.content += decompressFrame(message.payload, frameBytesMax).toString('latin1')
      if (message.type === type) return message
    }
  }

  async #hearOut(): Promise<void> {
    // It ends with the session, which is told by an error.
    await this.#hear('hello')
  }
}

function pathsIn(payload: Buffer): string[] {
  const batch = decompressFrame(unwrapSkippable(indexFrameMagic, payload), indexBatchBytesMax)
  return decodeIndexBatch(batch).entries.map(({ path }) => path)
}

/** A server with the backup of a host, which lies when it is to be restored to. */
class Scene implements AsyncDisposable {
  readonly site: Site
  readonly #agent: FakeAgent

  private constructor(site: Site, agent: FakeAgent) {
    this.site = site
    this.#agent = agent
  }

  static async create(): Promise<Scene> {
    const site = await Site.create()
    const agent = await FakeAgent.start(await site.addHost('web1', { withoutAgent: true }))
    agent.script = sending((request) => packMembers(request, backedUp))
    const run = await site.run()
    assert.equal(run.code, 0, run.stdout)
    return new Scene(site, agent)
  }

  /** One restore to the host. Returns what was said, and how it ended. */
  async restore(dryRun: boolean, mutation: Mutation | null) {
    const received: Got[] = []
    const said: Message[][] = []
    this.#agent.greeting = async (channel, socket) => {
      const side = new MutatedSide(
        mutation,
        (bytes) => socket.write(bytes),
        () => socket.end(),
      )
      const receiver = new Receiver(channel, side)
      said.push(side.said)
      received.push(receiver.got)
      try {
        await receiver.restore(this.#agent.host.name)
      } finally {
        socket.end()
      }
    }
    const untouched = new Untouched(this.site, [])
    const args = ['restore', 'web1', ...selected, '--to-host', '--json', ...(dryRun ? ['--dry-run'] : [])]
    const program = this.site.startServer(args)
    const peak = peakMemoryOf(program)
    const ended = await program.endWithin(patienceMs)
    untouched.check([])
    const how =
      (ended.json.at(-1) as { error?: { code: string } } | undefined)?.error?.code ??
      `exit code ${ended.code}`
    assert.notEqual(how, 'internal', `a bug of the server: ${ended.stdout}${ended.stderr}`)
    // Where its policy names no folder to restore to, or all of them, who types the command is to say more.
    assert.ok(
      [0, 1, ...(how === 'usage' ? [2] : []), 3, 10, 12].includes(ended.code!),
      `${ended.code}: ${ended.stdout}${ended.stderr}`,
    )
    assert.doesNotMatch(ended.stdout + ended.stderr, terminalCommands)
    for (const { paths, content } of received) {
      const strange = [...paths].filter((path) => !['srv', 'srv/a', 'srv/again'].includes(path))
      assert.deepEqual(strange, [], 'it was told of what is not selected')
      assert.match(content, /^(first\n)*$/, 'it got what is not selected')
    }
    const peakBytes = await peak
    assert.ok(peakBytes < serverBytesMax, `the server used ${peakBytes} bytes`)
    return { said: said[0]!, how, peakBytes, stderr: ended.stderr }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent[Symbol.asyncDispose]()
    await this.site[Symbol.asyncDispose]()
  }
}

/**
 * That many restores to a host that changes one thing of what it says, in real and as a dry run in turn. Throws where one
 * of them harms anybody; the message has the mutation.
 */
export const fuzzReceivers: SessionFuzzer = async ({ seed, sessions, seconds, signal, onGroup }) => {
  const beganMs = performance.now()
  await using scene = await Scene.create()
  const chosen: Mutation[][] = []
  for (const dryRun of [false, true]) {
    const { said, how, stderr } = await scene.restore(dryRun, null)
    assert.equal(how, dryRun ? 'exit code 0' : 'exit code 3', `what is right ends well: ${stderr}`)
    chosen.push(chooseMutations(seed, Math.ceil(sessions / 2), said))
  }
  const total: MutationReport = { sessions: 0, ends: new Map(), peakBytes: 0 }
  while (total.sessions < sessions && !signal?.aborted && performance.now() - beganMs < seconds * 1000) {
    const dryRun = total.sessions % 2 === 1
    const mutation = chosen[dryRun ? 1 : 0]![total.sessions >> 1]!
    try {
      const { how, peakBytes } = await scene.restore(dryRun, mutation)
      total.ends.set(how, (total.ends.get(how) ?? 0) + 1)
      total.peakBytes = Math.max(total.peakBytes, peakBytes)
    } catch (error) {
      const kind = dryRun ? 'a dry run of a restore' : 'a restore'
      throw new Error(`after ${kind} with ${describeMutation(mutation)}`, { cause: error })
    }
    total.sessions++
    onGroup?.(total)
  }
  const log = readFileSync(join(scene.site.repository, 'backup-server.log'), 'utf8')
  assert.doesNotMatch(log, terminalCommands)
  assert.ok(!log.split('\n').some((line) => line.startsWith('forged')))
  assert.equal((await scene.restore(false, null)).how, 'exit code 3', 'what is right ends well in the end')
  return total
}
