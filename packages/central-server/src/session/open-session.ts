import type { X509Certificate } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import {
  authenticationMsMax,
  Channel,
  type Credentials,
  certificateOf,
  dial,
  type MessageOf,
  ProtocolError,
  type ProtocolErrorCode,
  protocolVersion,
  welcomeMsMax,
} from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { softwareVersion } from '../version.ts'

export interface SessionOptions {
  host: Pick<Host, 'name' | 'address' | 'port' | 'password'>
  credentials: Credentials
  /** The name in the server's own certificate. */
  serverName: string
  connection: ServerSettings['connection']
  signal: AbortSignal
  /** Told before another attempt is made. */
  onRetry?: (error: ProtocolError, attempt: number) => void
}

/** A conversation with an agent that has accepted the password. Who opened it closes `channel`. */
export interface AgentSession {
  channel: Channel
  /** Of the channel, which owns it: for what is bound to this very connection. */
  socket: TLSSocket
  /** The certificate that the host has shown. */
  certificate: X509Certificate
  welcome: MessageOf<'welcome'>
  /** Name and version of the agent. */
  software: string
}

/** What another attempt may mend. A wrong certificate or password stays wrong. */
const transient: ReadonlySet<ProtocolErrorCode> = new Set([
  'connection-refused',
  'connection-unreachable',
  'connection-lost',
  'name-not-found',
  'handshake-timeout',
])

/**
 * Connects to the agent of a host and logs in. The connection is tried again as the settings say; nothing that comes after
 * it is. Throws a `ProtocolError`.
 */
export async function openSession(options: SessionOptions): Promise<AgentSession> {
  const { host, signal } = options
  const socket = await dialPatiently(options)
  const certificate = certificateOf(socket)
  const channel = new Channel(socket, { signal })
  try {
    const name = options.serverName
    const software = `backup-server ${softwareVersion()}`
    await channel.send({ type: 'hello', protocol: protocolVersion, software, role: 'server', name })
    const hello = await channel.receive(['hello'], { timeoutMs: authenticationMsMax })
    if (hello.role !== 'host' || hello.name !== host.name) {
      throw new ProtocolError(
        'wrong-host',
        `the agent says that it is ${hello.role} ${hello.name}, not host ${host.name}`,
      )
    }
    await channel.send({ type: 'authenticate', password: host.password.reveal() })
    const welcome = await channel.receive(['welcome'], { timeoutMs: welcomeMsMax })
    return { channel, socket, certificate, welcome, software: hello.software }
  } catch (error) {
    await channel.fail(error)
    throw error
  }
}

async function dialPatiently(options: SessionOptions) {
  const { host, credentials, connection, signal } = options
  const target = { host: host.address, port: host.port, expect: { role: 'host', name: host.name } as const }
  for (let attempt = 1; ; attempt++) {
    try {
      return await dial({ ...credentials, ...target, connectTimeoutMs: connection.timeoutMs, signal })
    } catch (error) {
      const again =
        error instanceof ProtocolError && transient.has(error.code) && attempt < connection.attempts
      if (!again || signal.aborted) throw error
      options.onRetry?.(error, attempt + 1)
      // An abort ends the pause at once, and the next `dial` says so.
      await delay(connection.pauseMs, undefined, { signal }).catch(() => {})
    }
  }
}
