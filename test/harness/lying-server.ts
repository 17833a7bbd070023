/** Sessions of a server with a mutation, said to a real agent: a backup, or a restore. */
import {
  type BytePath,
  compressFrame,
  decodeIndexBatch,
  decompressFrame,
  IndexBatchEncoder,
  indexBatchBytesMax,
  indexFrameMagic,
  unwrapSkippable,
  wrapSkippable,
} from '@central-backup/archive'
import { Channel, dial, type Message, type MessageType } from '@central-backup/protocol'
import { file, type Member, other } from '../../packages/archive/test/sample.ts'
import { serverCredentials } from './certificates.ts'
import { authenticationOf, helloOf, requestOf } from './in-process-run.ts'
import { MutatedSide } from './mutated-side.ts'
import { patienceMs } from './program.ts'
import { honest, restoreRequestOf } from './restore-session.ts'
import type { Mutation } from './session-mutations.ts'
import type { TestHost } from './site.ts'

/** How long an agent may say nothing new, where there is a mutation: it may wait for what never comes. */
const silenceMsMax = 2_500

const base = '2026-11-21T030000Z-full.tar.zst'

/** What an agent said in a session. */
export interface Heard {
  /** Of its `error`, or `null`. */
  code: string | null
  /** It came to its end: a summary, or the report of a restore. */
  ended: boolean
  /** Paths of all entries that it sent. */
  paths: BytePath[]
}

const self = { uid: process.geteuid!(), gid: process.getegid!() }
const own = ({ entry, content }: Member): Member => ({ entry: { ...entry, ...self }, content })

/** What is restored. */
const members: Member[] = [
  own(other('etc', 'directory', { mode: 0o755 })),
  own(file('etc/hosts', 'hosts\n')),
  own(other('etc/link', 'symlink', { target: 'hosts' as BytePath, mode: 0o777 })),
  own(file('etc/motd', 'hello\n')),
  own(other('etc/twin', 'hardlink', { target: 'etc/hosts' as BytePath })),
]

const heardTypes = [
  ...['hello', 'welcome', 'archive-name', 'entries', 'frame', 'warning', 'progress', 'left-out', 'summary'],
  ...['finished', 'baseline-next', 'restore-entries', 'restore-next', 'restore-firsts', 'restore-content'],
  ...['restore-plan', 'restore-end'],
] as MessageType[]

/**
 * One session with an agent that allows to restore to `target`. Resolves when the agent has hung up, or after a while in
 * which nothing came that was worth an answer. Returns what it said, and what it was told without the mutation.
 */
export async function converse(
  host: TestHost,
  kind: 'backup' | 'restore',
  target: string,
  mutation: Mutation | null,
): Promise<{ heard: Heard; said: Message[] }> {
  const expect = { role: 'host', name: host.name } as const
  const socket = await dial({ ...serverCredentials(host.site), host: '127.0.0.1', port: host.port, expect })
  const channel = new Channel(socket)
  const server = new MutatedSide(
    mutation,
    (bytes) => socket.write(bytes),
    () => socket.end(),
  )
  const heard: Heard = { code: null, ended: false, paths: [] }
  const answer = honest(members)
  const silenceMs = mutation === null ? patienceMs : silenceMsMax
  let deadlineMs = performance.now() + silenceMs
  try {
    server.say(helloOf(host.site))
    server.say(authenticationOf(host))
    if (kind === 'restore') server.say(restoreRequestOf(host, target))
    else server.say(requestOf(host, { kind: 'incremental', base }))
    while (!heard.ended) {
      // An agent that waits says so, and that is no answer.
      const timeoutMs = Math.max(1, Math.round(deadlineMs - performance.now()))
      const message = await channel.receive(heardTypes, { timeoutMs })
      if (message.type !== 'progress') deadlineMs = performance.now() + silenceMs
      switch (message.type) {
        case 'entries':
          heard.paths.push(...pathsIn(message.payload))
          break
        case 'baseline-next':
          if (server.said.some(({ type }) => type === 'baseline')) server.say({ type: 'baseline-end' })
          else server.say({ type: 'baseline', payload: baselineOf(host) })
          break
        case 'summary': {
          const { digest, archiveBytes } = message
          server.say({ type: 'stored', digest: digest ?? Buffer.alloc(32), archiveBytes })
          break
        }
        case 'finished':
        case 'restore-end':
          heard.ended = true
          break
        case 'restore-entries':
        case 'restore-next':
        case 'restore-firsts':
        case 'restore-content':
          for (const one of answer(message)) server.say(one)
      }
    }
    await channel.close()
  } catch (error) {
    heard.code = (error as { code?: string }).code ?? null
    channel.destroy()
  }
  return { heard, said: server.said }
}

/** What the agent is to take for the run before: files that are there, and one that is not. */
function baselineOf(host: TestHost): Buffer {
  const tree = host.site.tree(host.name).slice(1)
  const extents = [{ archive: base, offset: 512, length: 6 }]
  const encoder = new IndexBatchEncoder(null)
  for (const name of ['gone', 'hosts', 'motd'])
    encoder.add({ ...file(`${tree}/etc/${name}`, 'hello\n').entry, extents })
  return wrapSkippable(indexFrameMagic, compressFrame(encoder.take()))
}

function pathsIn(payload: Buffer): BytePath[] {
  const batch = decodeIndexBatch(
    decompressFrame(unwrapSkippable(indexFrameMagic, payload), indexBatchBytesMax),
  )
  return batch.entries.map(({ path }) => path)
}
