/** A restore without backup-server: what a server says to a real agent, be it honest or not. */
import {
  type BytePath,
  bytePathFromBuffer,
  comparePaths,
  compressFrame,
  type Entry,
  type EntryType,
  frameBytesMax,
  IndexBatchEncoder,
  indexFrameMagic,
  storedBytes,
  wrapSkippable,
} from '@central-backup/archive'
import { Channel, dial, type Message, type MessageOf } from '@central-backup/protocol'
import type { Member } from '../../packages/archive/test/sample.ts'
import { serverCredentials } from './certificates.ts'
import { authenticationOf, helloOf } from './in-process-run.ts'
import type { TestHost } from './site.ts'

/** What an agent asks for in a restore. */
export type RestoreQuestion = MessageOf<
  'restore-entries' | 'restore-next' | 'restore-firsts' | 'restore-content'
>
export type Answer = (question: RestoreQuestion) => Message[]

export interface Restored {
  report: MessageOf<'restore-end'>['report']
  warnings: { code: string; path: string; message: string }[]
  steps: { path: string; action: string }[]
  questions: RestoreQuestion[]
}

/** Logs in to the agent of a host. Who opened the channel ends it. */
export async function logIn(host: TestHost): Promise<{ channel: Channel; welcome: MessageOf<'welcome'> }> {
  const expect = { role: 'host', name: host.name } as const
  const socket = await dial({
    ...serverCredentials(host.site),
    host: '127.0.0.1',
    port: host.port,
    expect,
  })
  const channel = new Channel(socket)
  await channel.send(helloOf(host.site))
  await channel.receive(['hello'])
  await channel.send(authenticationOf(host))
  return { channel, welcome: await channel.receive(['welcome']) }
}

/** A request to restore to `target`. */
export function restoreRequestOf(
  host: TestHost,
  target: string,
  fields: Partial<MessageOf<'restore'>> = {},
): MessageOf<'restore'> {
  return {
    type: 'restore',
    host: host.name,
    source: host.name,
    startedAtMs: 1_795_230_000_000,
    target: Buffer.from(target, 'latin1'),
    overwrite: 'never',
    numericIds: false,
    dryRun: false,
    ...fields,
  }
}

/** Has the agent restore, and answers what it asks. Rejects with what ends the session. */
export async function restoreInProcess(
  host: TestHost,
  request: MessageOf<'restore'>,
  answer: Answer,
): Promise<Restored> {
  const { channel } = await logIn(host)
  const restored: Restored = { report: null, warnings: [], steps: [], questions: [] }
  try {
    await channel.send(request)
    for (;;) {
      const message = await channel.receive([
        'restore-entries',
        'restore-next',
        'restore-firsts',
        'restore-content',
        'restore-plan',
        'warning',
        'progress',
        'restore-end',
      ])
      switch (message.type) {
        case 'progress':
          break
        case 'warning':
          restored.warnings.push({ ...message, path: message.path?.toString('latin1') ?? '' })
          break
        case 'restore-plan':
          restored.steps.push(
            ...message.steps.map(({ path, action }) => ({ path: path.toString('latin1'), action })),
          )
          break
        case 'restore-end':
          await channel.close()
          return { ...restored, report: message.report }
        default:
          restored.questions.push(message)
          for (const one of answer(message)) await channel.send(one)
      }
    }
  } catch (error) {
    await channel.fail(error)
    throw error
  }
}

/** What stands in the sample archive as a member does: files have an extent that is as long as they are. */
function stored({ entry }: Member): Entry {
  if (entry.type !== 'file' || storedBytes(entry) === 0) return entry
  const archive = '2026-11-21T030000Z-full.tar.zst'
  return { ...entry, extents: [{ archive, offset: 512, length: storedBytes(entry) }] }
}

/** An index frame of these entries, in the order in which they are. */
export function entriesMessage(entries: readonly Entry[]): Message {
  const encoder = new IndexBatchEncoder(null)
  for (const entry of entries) encoder.add(entry)
  return { type: 'entries', payload: wrapSkippable(indexFrameMagic, compressFrame(encoder.take())) }
}

export function frameMessage(content: Uint8Array): Message {
  return { type: 'frame', payload: compressFrame(content) }
}

export const entriesEnd: Message = { type: 'entries-end' }

/** Answers as a server does that keeps to all rules: one batch a pass. */
export function honest(members: readonly Member[]): Answer {
  const byPath = new Map(members.map((member) => [member.entry.path, member]))
  const member = (absolute: Buffer) => byPath.get(bytePathFromBuffer(absolute).slice(1) as BytePath)!
  return (question) => {
    switch (question.type) {
      case 'restore-entries': {
        const entries = selectEntries(members, question.types)
        if (question.order === 'path-descending') entries.reverse()
        return [entries.length === 0 ? entriesEnd : entriesMessage(entries)]
      }
      case 'restore-next':
        return [entriesEnd]
      case 'restore-firsts': {
        const targets = new Set(question.paths.map((path) => member(path).entry.target!))
        const firsts = [...targets].flatMap((target) => byPath.get(target) ?? [])
        return [firsts.length === 0 ? entriesEnd : entriesMessage(firsts.map(stored))]
      }
      case 'restore-content': {
        const files = question.paths.map(member)
        const contents = files.map(({ entry, content }) =>
          entry.type === 'hardlink' ? byPath.get(entry.target!)!.content : content,
        )
        return cut(Buffer.concat(contents))
      }
    }
  }
}

/** Entries of the members as they would be sent. */
export function selectEntries(members: readonly Member[], types: readonly EntryType[] | null): Entry[] {
  return members
    .map(stored)
    .filter(({ type }) => types === null || types.includes(type))
    .sort((a, b) => comparePaths(a.path, b.path))
}

function cut(content: Buffer): Message[] {
  const frames: Message[] = []
  for (let at = 0; at < content.length; at += frameBytesMax)
    frames.push(frameMessage(content.subarray(at, at + frameBytesMax)))
  return frames
}
