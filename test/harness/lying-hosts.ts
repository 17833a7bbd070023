/**
 * Sessions with a mutation, told to the real backup-server by as many fake agents as have room in one run, beside an
 * honest one, and looked at from all sides afterwards.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Channel, MessageOf } from '@central-backup/protocol'
import { rawMessage } from './dialer.ts'
import { FakeAgent } from './fake-agent.ts'
import { peakMemoryOf } from './measure.ts'
import {
  agentSession,
  anyRequest,
  chooseMutations,
  describeMutation,
  greetingMessages,
  type Mutation,
  mutate,
  transcriptOf,
  type Wire,
} from './session-mutations.ts'
import { readRun, Site } from './site.ts'
import { writeTree } from './tree.ts'
import { terminalCommands, Untouched } from './untouched.ts'

/** How long the fake waits for a word of the server, which has none where it waits itself. */
const patienceMs = 1_500

/** Says a session with its mutation, and hangs up. */
async function converse(
  channel: Channel,
  write: (bytes: Buffer) => void,
  host: string,
  mutation: Mutation,
): Promise<void> {
  const send = (wires: readonly Wire[]) => {
    for (const { number, payload, length } of wires) write(rawMessage(number, payload, length))
  }
  const before = mutate(transcriptOf(host, anyRequest), mutation)
  const early = saidBeforeRequest(before.length, mutation)
  send(before.slice(0, early))
  const request = await hear(channel, 'backup')
  if (request === null) return
  const rest = mutate(transcriptOf(host, request), mutation).slice(early)
  send(rest.slice(0, -1))
  await hear(channel, 'stored')
  send(rest.slice(-1))
}

/** How many of a session's messages are said before the request, given how many it has with its mutation. */
function saidBeforeRequest(messages: number, { kind, message, ...mutation }: Mutation): number {
  const later = sessionMessages - greetingMessages
  if (message >= greetingMessages) {
    const movedUp = kind === 'moved' && 'to' in mutation && Number(mutation.to) < greetingMessages
    return movedUp ? greetingMessages + 1 : greetingMessages
  }
  if (kind === 'ended') return messages
  if (kind === 'moved' && 'to' in mutation && Number(mutation.to) >= greetingMessages)
    return greetingMessages - 1
  return messages - later
}

const sessionMessages = agentSession().length

/** The message that is waited for; `null` where something else comes, or nothing. */
async function hear<T extends 'backup' | 'stored'>(channel: Channel, type: T): Promise<MessageOf<T> | null> {
  const deadlineMs = performance.now() + patienceMs
  try {
    for (;;) {
      const timeoutMs = Math.max(1, Math.round(deadlineMs - performance.now()))
      const message = await channel.receive(['hello', 'authenticate', 'backup', 'stored'], { timeoutMs })
      if (message.type === type) return message as MessageOf<T>
    }
  } catch {
    return null
  }
}

/** What came of the sessions. */
export interface MutationReport {
  sessions: number
  /** By code of the error, or outcome. */
  ends: Map<string, number>
  peakBytes: number
}

export interface MutationLimits {
  serverBytesMax: number
  /** Of one run of all hosts, the honest one's included. */
  runMsMax: number
}

const honest = 'honest'

/**
 * Tells mutations to a server, some at a time, each by a host of its own. Fails, with what was told, where one of them has
 * any effect but on its own host: a run that does not end, memory, another host's run, files of others, a word on the
 * terminal, an archive that is none.
 */
export class LyingHosts implements AsyncDisposable {
  readonly #site: Site
  readonly #fakes: readonly FakeAgent[]
  /** Every second run is an incremental one, of the hosts that have anything to go on from. */
  #groups = 0

  private constructor(site: Site, fakes: readonly FakeAgent[]) {
    this.#site = site
    this.#fakes = fakes
  }

  /** The site needs a host `honest` with an agent that is there, and as much `concurrency` as there are hosts. */
  static async create(site: Site, count: number): Promise<LyingHosts> {
    const fakes: FakeAgent[] = []
    for (let number = 0; number < count; number++)
      fakes.push(await FakeAgent.start(await site.addHost(`liar${number}`, { withoutAgent: true })))
    return new LyingHosts(site, fakes)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fake of this.#fakes) await fake[Symbol.asyncDispose]()
  }

  async tell(mutations: readonly Mutation[], limits: MutationLimits): Promise<MutationReport> {
    const report: MutationReport = { sessions: 0, ends: new Map(), peakBytes: 0 }
    for (let at = 0; at < mutations.length; at += this.#fakes.length) {
      const group = mutations.slice(at, at + this.#fakes.length)
      try {
        await this.#tellGroup(group, limits, report)
      } catch (error) {
        const told = group.map((mutation, i) => `  liar${i}: ${describeMutation(mutation)}`)
        throw new Error(`after these mutations:\n${told.join('\n')}`, { cause: error })
      }
    }
    return report
  }

  async #tellGroup(
    group: readonly Mutation[],
    { serverBytesMax, runMsMax }: MutationLimits,
    report: MutationReport,
  ): Promise<void> {
    const full = this.#groups++ % 2 === 0
    for (const [i, mutation] of group.entries()) {
      const fake = this.#fakes[i]!
      fake.greeting = async (channel, socket) => {
        await converse(channel, (bytes) => socket.write(bytes), fake.host.name, mutation)
        socket.end()
      }
    }
    const names = group.map((_, i) => this.#fakes[i]!.host.name)
    const untouched = new Untouched(this.#site, names)
    const program = this.#site.startServer([
      ...['run', '--json', ...(full ? ['--full'] : [])],
      ...[honest, ...names],
    ])
    const peak = peakMemoryOf(program)
    const run = readRun(await program.endWithin(runMsMax))
    assert.equal(run.ends[honest]?.outcome, 'complete', run.stdout + run.stderr)
    untouched.check([honest])
    const peakBytes = await peak
    assert.ok(peakBytes < serverBytesMax, `the server used ${peakBytes} bytes`)
    assert.doesNotMatch(run.stdout + run.stderr, terminalCommands)
    for (const name of names) {
      const end = run.ends[name]
      assert.ok(end !== undefined, `${name} has no end`)
      assert.notEqual(end.error?.code, 'internal', `a bug of the server: ${end.error?.message}`)
      const how = end.error?.code ?? end.outcome
      report.ends.set(how, (report.ends.get(how) ?? 0) + 1)
    }
    report.sessions += group.length
    report.peakBytes = Math.max(report.peakBytes, peakBytes)
  }

  /** What all that was believed has come to: it is listed, shown, verified, and nothing of it reaches the terminal. */
  async checkWhatWasBelieved(): Promise<void> {
    const site = this.#site
    const printed: string[] = []
    const run = async (codes: readonly number[], ...args: string[]) => {
      const ended = await site.ask(...args)
      assert.ok(codes.includes(ended.code), `${args.join(' ')}: ${ended.code}: ${ended.stderr}`)
      printed.push(ended.stdout, ended.stderr)
      return ended
    }
    const listed = await run([0], 'list', '--json')
    const { runs } = listed.json[0] as unknown as { runs: { outcome: string }[] }
    assert.ok(
      runs.every(({ outcome }) => outcome !== 'running'),
      'a run is open still',
    )
    await run([0, 1], 'status')
    await run([0], 'find', '**')
    for (const { host } of this.#fakes) {
      if (site.archives(host.name).length === 0) continue
      await run([0], 'ls', host.name, '-R')
    }
    const verified = await run([0, 3], 'verify', '--json')
    const { damage } = verified.json[0] as unknown as { damage: { host: string }[] }
    assert.deepEqual(
      damage.filter(({ host }) => host === honest),
      [],
    )
    const log = readFileSync(join(site.repository, 'backup-server.log'), 'utf8')
    for (const text of [...printed, log]) {
      assert.doesNotMatch(text, terminalCommands)
      assert.ok(!text.split('\n').some((line) => line.startsWith('forged')))
    }
    site.serverLog()
  }
}

/** Of a whole of sessions: whichever comes first ends it. */
export interface SessionFuzzing {
  seed: number
  sessions: number
  seconds: number
  /** Ends it after the group at work. */
  signal?: AbortSignal
  onGroup?(report: MutationReport): void
}

/** Throws where a session harms anybody. */
export type SessionFuzzer = (fuzzing: SessionFuzzing) => Promise<MutationReport>

/** Liars of one run. */
const liars = 8

/**
 * Tells that many sessions with a mutation to a server of its own, and throws where one of them harms anybody: the message
 * has the mutations. All of the systematic mutations are among the first 4,500.
 */
export const fuzzSessions: SessionFuzzer = async ({ seed, sessions, seconds, signal, onGroup }) => {
  const beganMs = performance.now()
  await using site = await Site.create({
    settings: `connection: { attempts: 1 }, concurrency: ${liars + 1},`,
  })
  const host = await site.addHost(honest)
  writeTree(site.tree(honest), { 'etc/motd': 'hello\n' })
  await host.start()
  await using hosts = await LyingHosts.create(site, liars)
  const total: MutationReport = { sessions: 0, ends: new Map(), peakBytes: 0 }
  for (let round = 0; total.sessions < sessions; round++) {
    const left = sessions - total.sessions
    const mutations = chooseMutations(seed + round, Math.min(left, roundSessions))
    for (let at = 0; at < mutations.length; at += liars) {
      if (signal?.aborted || performance.now() - beganMs > seconds * 1000) {
        await hosts.checkWhatWasBelieved()
        return total
      }
      const group = mutations.slice(at, at + liars)
      addUp(total, await hosts.tell(group, { serverBytesMax: 400 * 1024 * 1024, runMsMax: 60_000 }))
      onGroup?.(total)
    }
  }
  await hosts.checkWhatWasBelieved()
  return total
}

/** A round has all of the systematic ones, and a quarter as many of others. */
const roundSessions = 4_500

function addUp(total: MutationReport, one: MutationReport): void {
  total.sessions += one.sessions
  total.peakBytes = Math.max(total.peakBytes, one.peakBytes)
  for (const [how, count] of one.ends) total.ends.set(how, (total.ends.get(how) ?? 0) + count)
}
