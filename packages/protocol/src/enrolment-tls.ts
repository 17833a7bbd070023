/**
 * The TLS profile of enrolment: version 1.3, an application protocol of its own, a throw-away certificate on the host
 * and none on the server. No certificate is verified, as the new host knows no authority, and is known by none. Who the
 * other side is shows in the proofs, which are bound to the channel; until then it is a stranger.
 */

import { constants } from 'node:crypto'
import { createServer, type Server } from 'node:net'
import tls from 'node:tls'
import { ProtocolError } from './errors.ts'
import { connectMsMax, enrolmentConnectionsMax, handshakeMsMax, keepAliveMs } from './limits.ts'
import { errorFromSocket } from './socket-errors.ts'
import { handshake } from './tls.ts'

/** The name under which enrolment is negotiated (ALPN). */
export const enrolmentProtocol = 'central-backup-enroll/1'

const profile = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ALPNProtocols: [enrolmentProtocol],
  rejectUnauthorized: false,
} as const

export interface EnrolmentHandlers {
  /** Whether a connection from there is let in, before anything of it is read; `closed` is called when it has ended. */
  admit(remoteAddress: string): { closed(): void } | null
  /** A stranger, over TLS. Whoever is called owns the socket, and makes a `Channel` of it before it does anything else. */
  onConnection(socket: tls.TLSSocket): void
  /** A connection that came to nothing, and from where. There may be many: anybody can cause them. */
  onRefused(error: ProtocolError, remoteAddress: string): void
}

/**
 * A server for a host that waits to be enrolled, not yet listening. Connections that do not finish their TLS handshake
 * within `handshakeMsMax`, and those over `enrolmentConnectionsMax`, are dropped. `cert` and `key` are PEM.
 */
export function createEnrolmentListener(
  { cert, key }: { cert: string; key: string },
  handlers: EnrolmentHandlers,
): Server {
  // It does not listen itself, as a socket that it has begun with cannot be closed from outside.
  const secure = tls.createServer({
    ...profile,
    cert,
    key,
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: handshakeMsMax,
  })
  const options = { noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs }
  const listener = createServer(options, (socket) => {
    const admitted = handlers.admit(socket.remoteAddress ?? 'unknown')
    if (admitted === null) {
      socket.destroy()
      return
    }
    socket.once('close', () => admitted.closed())
    secure.emit('connection', socket)
  })
  listener.maxConnections = enrolmentConnectionsMax
  secure.on('tlsClientError', (error, socket) => {
    const { remoteAddress = 'unknown' } = socket
    // Node leaves it open after a time-out.
    socket.destroy()
    handlers.onRefused(errorFromSocket(error), remoteAddress)
  })
  secure.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    if (socket.alpnProtocol === enrolmentProtocol) {
      handlers.onConnection(socket)
      return
    }
    handlers.onRefused(notEnrolment(), socket.remoteAddress ?? 'unknown')
    socket.destroy()
  })
  return listener
}

/**
 * Connects to a host that waits to be enrolled. Whoever called owns the socket, and makes a `Channel` of it before doing
 * anything else. Nothing is known of the other side but that it speaks enrolment. Throws a `ProtocolError`.
 */
export async function dialEnrolment(options: {
  /** A name or an address. */
  host: string
  port: number
  /** For connection and handshake together. */
  connectTimeoutMs?: number | undefined
  signal?: AbortSignal | undefined
}): Promise<tls.TLSSocket> {
  const { host, port, signal, connectTimeoutMs = connectMsMax } = options
  signal?.throwIfAborted()
  const socket = tls.connect({ ...profile, host, port, checkServerIdentity: () => undefined })
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveMs)
  await handshake(socket, { host, port, signal, connectTimeoutMs })
  if (socket.alpnProtocol === enrolmentProtocol) return socket
  socket.destroy()
  throw notEnrolment()
}

function notEnrolment(): ProtocolError {
  return new ProtocolError('application-protocol', `the other side does not speak ${enrolmentProtocol}`)
}
