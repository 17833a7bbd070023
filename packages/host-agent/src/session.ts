import type { TLSSocket } from 'node:tls'
import { textFromBytes } from '@central-backup/archive'
import {
  authenticationMsMax,
  Channel,
  certificateOf,
  type Identity,
  type MessageOf,
  ProtocolError,
  plainText,
  protocolVersion,
  requestMsMax,
} from '@central-backup/protocol'
import type { Logger } from 'pino'
import type { Agent } from './agent.ts'
import { backUp, list, type SessionReport } from './backup.ts'
import { TrustConversation, trustMessages } from './certificates/conversation.ts'
import { allowedPaths } from './policy.ts'
import { restore } from './restore/restore.ts'
import type { AgentSettings } from './settings.ts'
import { software } from './version.ts'

/** What a session works with. */
export interface Session {
  readonly agent: Agent
  readonly channel: Channel
  /** Of the channel, which owns it: for what is bound to this very connection. */
  readonly socket: TLSSocket
  readonly settings: AgentSettings
  readonly server: Identity
  readonly log: Logger
}

type Request = MessageOf<'backup' | 'check' | 'restore'>

/** Of an error of this program that is logged. */
const stackCharsMax = 10_000

let sessionsBegun = 0

/** Serves one connection of a verified server to its end, and logs who, what, how much and the outcome. Never rejects. */
export async function serveSession(agent: Agent, socket: TLSSocket, server: Identity): Promise<void> {
  const address = socket.remoteAddress ?? 'unknown'
  const { serialNumber } = certificateOf(socket)
  const log = agent.log.child({
    session: ++sessionsBegun,
    server: server.name,
    serial: serialNumber,
    address,
  })
  const channel = new Channel(socket, { signal: agent.closing })
  agent.connections.set(channel, serialNumber)
  const startedMs = performance.now()
  const session: Session = { agent, channel, socket, settings: agent.settings, server, log }
  let hasBegun = false
  try {
    await logIn(session)
    hasBegun = true
    agent.failedLogins.begin()
    log.info('session began')
    const report = await converse(session)
    log.info(
      { ...report, seconds: secondsSince(startedMs) },
      `session ended: ${report.request} ${report.outcome}`,
    )
    await channel.close()
  } catch (error) {
    await channel.fail(error)
    const failure = describeFailure(error)
    const facts = { seconds: secondsSince(startedMs), ...stackOf(error) }
    // A bug is told each time.
    if (!hasBegun && error instanceof ProtocolError)
      agent.failedLogins.addLogin(failure, { server: server.name, serial: serialNumber, address, ...facts })
    else log.error({ code: failure.code, ...facts }, `session failed: ${failure.message}`)
  } finally {
    agent.connections.delete(channel)
  }
}

/** The first turns of the conversation: both introduce themselves, and the server proves the password. */
async function logIn(session: Session): Promise<void> {
  const { agent, channel, settings, server } = session
  await greet(session)
  const { password } = await channel.receive(['authenticate'], { timeoutMs: authenticationMsMax })
  const right = await agent.gate.verify(server.name, settings.passwordHash, password, channel.ended)
  if (!right) throw new ProtocolError('authentication-failed')
}

/** What follows: the server looks after certificates, and makes one request. */
async function converse(session: Session): Promise<SessionReport> {
  const { agent, settings } = session
  const request = await welcome(session)
  if (request === null) return { request: 'none', outcome: 'complete' }
  if (request.host !== settings.name) {
    throw new ProtocolError('wrong-host', `this is ${settings.name}, and the request is for ${request.host}`)
  }
  if (agent.sessions >= settings.limits.sessions) {
    throw new ProtocolError(
      'busy',
      `the host serves ${settings.limits.sessions} sessions at a time, and these are in use`,
    )
  }
  agent.sessions++
  try {
    return await serveRequest(session, request)
  } finally {
    agent.sessions--
  }
}

/** Returns the request; `null` where the server has none. Until it comes, others may have to take the session's place. */
async function welcome(session: Session): Promise<Request | null> {
  const { agent, channel, settings } = session
  using _waiting = agent.waiting.enter(channel, agent.connections.get(channel)!)
  await channel.send({
    type: 'welcome',
    name: settings.name,
    policy: {
      read: settings.allow.read.map((path) => Buffer.from(path)),
      restore: settings.allow.restore.map((path) => Buffer.from(path)),
      ...(settings.hooks.length > 0 && {
        hooks: settings.hooks.map(({ name, when, always }) => ({ name, when, always })),
      }),
    },
    localCopy: settings.localCopy !== null,
  })
  return await receiveRequest(session)
}

async function serveRequest(session: Session, request: Request): Promise<SessionReport> {
  const { settings } = session
  if (request.type === 'restore') return restore(session, request)
  if (request.type === 'check') return list(session, request, allowedPaths(settings))
  countRun(session)
  return backUp(session, request, allowedPaths(settings))
}

/** Each run costs the host work, and may push a local copy out. */
function countRun({ agent, settings }: Session): void {
  const { runsPerHour } = settings.limits
  if (runsPerHour === null) return
  const waitMs = agent.runs.waitMs('', runsPerHour)
  if (waitMs > 0) {
    const minutes = Math.ceil(waitMs / 60_000)
    throw new ProtocolError(
      'busy',
      `the host was backed up ${runsPerHour} times within an hour, and may not be again for ${minutes} min`,
      { hint: '`limits.runs_per_hour` in the settings of the host is the limit.' },
    )
  }
  agent.runs.add('')
}

async function greet({ channel, settings, server }: Session): Promise<void> {
  await channel.send({
    type: 'hello',
    protocol: protocolVersion,
    software,
    role: 'host',
    name: settings.name,
  })
  const hello = await channel.receive(['hello'], { timeoutMs: authenticationMsMax })
  if (hello.role !== 'server' || hello.name !== server.name) {
    throw new ProtocolError(
      'wrong-role',
      `the certificate is of server ${server.name}, but it says it is ${hello.role} ${hello.name}`,
    )
  }
}

/** `null` where the server only wanted to know whether all is well, or to look after certificates, and went. */
async function receiveRequest(session: Session): Promise<Request | null> {
  const trust = new TrustConversation(session)
  for (;;) {
    try {
      const types = ['backup', 'check', 'restore', ...trustMessages] as const
      const message = await session.channel.receive(types, { timeoutMs: requestMsMax })
      if (message.type === 'backup' || message.type === 'check' || message.type === 'restore') return message
      await trust.answer(message)
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'connection-lost') return null
      throw error
    }
  }
}

/** In one line, and not longer than a line should be: a server can have much said of what it asks for. */
function describeFailure(error: unknown): { code: string; message: string } {
  const { code = 'internal', message } = error as { code?: string; message: string }
  return { code, message: plainText(message) }
}

/** A mistake of this program, which somebody has to find. */
function stackOf(error: unknown): { stack?: string } {
  if (error instanceof ProtocolError || !(error instanceof Error)) return {}
  return { stack: (error.stack ?? '').slice(0, stackCharsMax) }
}

function secondsSince(startedMs: number): number {
  return Math.round((performance.now() - startedMs) / 100) / 10
}

/** Text of a path for logs. */
export function shownPath(path: Parameters<typeof textFromBytes>[0]): string {
  return `/${textFromBytes(path)}`
}
