/**
 * The TLS profile: version 1.3, certificates on both sides, one application protocol, no resumption (a resumed session
 * would skip the certificates).
 *
 * Both sides let OpenSSL verify, but refuse by themselves after the handshake, in `verifyPeer`, the only way to a
 * connection. Were it left to Node (`rejectUnauthorized`), the refused side would see a connection that just closes,
 * and the log of a listener "socket hang up"; so both are told why. Nothing that such a peer sends is read.
 */

import { constants, createPrivateKey, X509Certificate } from 'node:crypto'
import tls from 'node:tls'
import { Channel } from './channel.ts'
import { ProtocolError, plainText } from './errors.ts'
import { type Identity, identityFromAltNames, type Role } from './identity.ts'
import { connectionsMax, connectMsMax, handshakeMsMax, keepAliveMs } from './limits.ts'
import { errorFromSocket, errorFromVerification } from './socket-errors.ts'
import { readCertificates } from './trust.ts'

/** The name under which the protocol is negotiated (ALPN). */
export const applicationProtocol = 'central-backup/1'

/** Of the name of an authority in a message. */
const nameForPeopleCharsMax = 100

/** What one side brings along, all PEM. */
export interface Credentials {
  /** The CA whose certificates are trusted, or several in one text; no other one is. */
  ca: string | Buffer
  /** The certificate of this side. */
  cert: string | Buffer
  key: string | Buffer
  /** Serial numbers that are not to be taken, as `X509Certificate.serialNumber` has them. */
  revoked?: ReadonlySet<string> | undefined
}

/**
 * The secrets and what makes them this profile's. Throws `credentials-invalid` where one of the three cannot be used;
 * above all an empty CA, which Node would take as "all public CAs".
 */
function secureOptions({ ca, cert, key }: Credentials): tls.SecureContextOptions {
  const options = {
    ca,
    cert,
    key,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // Tickets would still be sent, but none is accepted.
    secureOptions: constants.SSL_OP_NO_TICKET,
  } as const
  usable('CA certificate', () => new X509Certificate(ca))
  usable('certificate', () => new X509Certificate(cert))
  usable('key', () => createPrivateKey(key))
  usable('certificate with that key', () => tls.createSecureContext(options))
  return options
}

/** What of the TLS options is the same on both sides. */
function profile(credentials: Credentials) {
  return { ...secureOptions(credentials), ALPNProtocols: [applicationProtocol], rejectUnauthorized: false }
}

function usable(what: string, load: () => unknown): void {
  try {
    load()
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new ProtocolError('credentials-invalid', `the ${what} of this side cannot be used: ${why}`, {
      cause,
    })
  }
}

/** Who the other side is. Throws `wrong-role` where its certificate does not say that in the form of the protocol. */
export function identityOf(socket: tls.TLSSocket): Identity {
  return identityFromAltNames(peerCertificate(socket)?.subjectAltName)
}

/** The certificate of the other side, of a connection that stands. */
export function certificateOf(socket: tls.TLSSocket): X509Certificate {
  const certificate = peerCertificate(socket)
  if (certificate === undefined) throw new ProtocolError('connection-lost')
  return certificate
}

/** Not `getPeerX509Certificate`: on the dialing side of Node 24.21 only the first call of that has an answer. */
function peerCertificate(socket: tls.TLSSocket): X509Certificate | undefined {
  // Typed without the null that it is on a destroyed socket, and the empty object where there is no certificate.
  const peer: { raw?: Buffer } | null = socket.getPeerCertificate()
  return peer?.raw === undefined ? undefined : new X509Certificate(peer.raw)
}

/** Throws unless the other side proved, in this very handshake, to have the role, by a certificate of our CA. */
function verifyPeer(socket: tls.TLSSocket, role: Role, { ca, revoked }: Credentials): Identity {
  if (socket.alpnProtocol !== applicationProtocol) throw new ProtocolError('application-protocol')
  const certificate = peerCertificate(socket)
  if (certificate === undefined)
    throw new ProtocolError('certificate-missing', `the ${role} sent no certificate`)
  if (!socket.authorized || socket.isSessionReused()) {
    // Typed as an Error, but it is the code of one.
    const reason = String(socket.authorizationError)
    const facts = {
      role,
      from: certificate.validFromDate,
      to: certificate.validToDate,
      issuer: nameForPeople(certificate.issuer),
      trusted: readCertificates(ca.toString())
        .map(({ subject }) => nameForPeople(subject))
        .join(', '),
    }
    throw errorFromVerification(reason, facts, Date.now())
  }
  if (revoked?.has(certificate.serialNumber)) {
    throw new ProtocolError(
      'certificate-revoked',
      `the certificate of the ${role}, with the serial number ${certificate.serialNumber}, was revoked`,
    )
  }
  const identity = identityOf(socket)
  if (identity.role !== role) {
    throw new ProtocolError(
      'wrong-role',
      `the certificate of the ${role} is that of the ${identity.role} ${identity.name}`,
    )
  }
  return identity
}

/** A distinguished name in one line. It is the other side's word. */
function nameForPeople(name: string): string {
  return plainText(JSON.stringify(name.replaceAll('\n', ', ').slice(0, nameForPeopleCharsMax)))
}

/** Tells the other side why, where it speaks the protocol, and closes. */
async function refuse(socket: tls.TLSSocket, error: unknown): Promise<void> {
  if (socket.alpnProtocol === applicationProtocol) await new Channel(socket).fail(error)
  else socket.destroy()
}

export interface ListenerHandlers {
  /** A verified server. Whoever is called owns the socket, and makes a `Channel` of it before it does anything else. */
  onConnection(socket: tls.TLSSocket, server: Identity): void
  /** A connection that came to nothing, and from where, for the log. There may be many: anybody can cause them. */
  onRefused(error: ProtocolError, remoteAddress: string): void
}

/**
 * A TLS server for an agent, not yet listening, that lets in nobody but a server of our CA. Connections that do not
 * finish their handshake within `handshakeMs`, and those over `connectionsMax`, are dropped. Throws `credentials-invalid`.
 */
export function createListener(
  credentials: Credentials,
  handlers: ListenerHandlers,
  { handshakeMs = handshakeMsMax }: { handshakeMs?: number } = {},
): tls.Server {
  const listener = tls.createServer({
    ...profile(credentials),
    requestCert: true,
    handshakeTimeout: handshakeMs,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs,
  })
  credentialsOf.set(listener, credentials)
  listener.maxConnections = connectionsMax
  listener.on('tlsClientError', (error, socket) => {
    const { remoteAddress = 'unknown' } = socket
    // Node leaves it open after a time-out.
    socket.destroy()
    handlers.onRefused(errorFromSocket(error), remoteAddress)
  })
  listener.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    const { remoteAddress = 'unknown' } = socket
    let server: Identity
    try {
      server = verifyPeer(socket, 'server', credentialsOf.get(listener)!)
    } catch (error) {
      void refuse(socket, error)
      handlers.onRefused(error as ProtocolError, remoteAddress)
      return
    }
    handlers.onConnection(socket, server)
  })
  return listener
}

/**
 * Gives a listener other credentials, for the connections to come. Throws `credentials-invalid`, and then changes
 * nothing. (`setSecureContext` by itself would forget the profile.)
 */
export function replaceCredentials(listener: tls.Server, credentials: Credentials): void {
  listener.setSecureContext(secureOptions(credentials))
  credentialsOf.set(listener, credentials)
}

/** Those of now, as what is revoked is looked at after the handshake. */
const credentialsOf = new WeakMap<tls.Server, Credentials>()

export interface DialOptions extends Credentials {
  /** A name or an address. */
  host: string
  port: number
  /** The certificate on the other side must be this host's. */
  expect: { role: 'host'; name: string }
  /** For connection and handshake together. */
  connectTimeoutMs?: number | undefined
  signal?: AbortSignal | undefined
}

/**
 * Connects to an agent. The socket is verified to be that host; whoever called owns it, and makes a `Channel` of it
 * before doing anything else. Throws a `ProtocolError`. That the agent has accepted *our* certificate is known only when
 * it answers: under TLS 1.3 our handshake ends first.
 */
export async function dial(options: DialOptions): Promise<tls.TLSSocket> {
  const { host, port, expect, signal } = options
  if (signal?.aborted) throw cancelled(signal)
  const socket = connect({ ...profile(options), host, port, checkServerIdentity: () => undefined })
  socket.setNoDelay(true)
  socket.setKeepAlive(true, keepAliveMs)
  await handshake(socket, options)
  try {
    const identity = verifyPeer(socket, expect.role, options)
    if (identity.name !== expect.name) {
      throw new ProtocolError(
        'wrong-host',
        `the certificate is that of host ${identity.name}, not of ${expect.name}`,
      )
    }
  } catch (error) {
    await refuse(socket, error)
    throw error
  }
  return socket
}

/** What TLS gives at a time, and more. */
const readBytesMax = 64 * 1024

/**
 * A connection whose 'data' is all read into the same memory: of a gigabyte, the collector would else look at every
 * 16 KiB. So a piece is valid only until those who listen to 'data' return. While nobody listens, or the stream is paused,
 * pieces are kept as in any stream.
 */
function connect(options: tls.ConnectionOptions): tls.TLSSocket {
  const onread = {
    buffer: Buffer.allocUnsafeSlow(readBytesMax),
    callback: (length: number, buffer: Uint8Array) => {
      const piece = (buffer as Buffer).subarray(0, length)
      if (socket.readableFlowing !== true || socket.readableLength > 0) return socket.push(Buffer.from(piece))
      socket.emit('data', piece)
      return true
    },
  }
  const socket = tls.connect({ ...options, onread } as tls.ConnectionOptions)
  return socket
}

/** Waits until the handshake is done; else destroys the socket. An 'error' handler stays on it. */
export async function handshake(
  socket: tls.TLSSocket,
  options: Omit<DialOptions, keyof Credentials | 'expect'>,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const { signal, connectTimeoutMs = connectMsMax } = options
  const timer = setTimeout(() => reject(lateError(socket, options, connectTimeoutMs)), connectTimeoutMs)
  const cancel = () => reject(cancelled(signal!))
  signal?.addEventListener('abort', cancel, { once: true })
  socket.once('secureConnect', resolve)
  socket.on('error', (error) => reject(errorFromSocket(error)))
  try {
    await promise
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', cancel)
  }
}

function lateError(
  socket: tls.TLSSocket,
  { host, port }: { host: string; port: number },
  timeoutMs: number,
): ProtocolError {
  const where = `${host}:${port}`
  const late = `within ${timeoutMs / 1000} s`
  if (socket.connecting) return new ProtocolError('connection-unreachable', `${where} did not answer ${late}`)
  return new ProtocolError('handshake-timeout', `${where} did not finish the TLS handshake ${late}`)
}

function cancelled(signal: AbortSignal): ProtocolError {
  return signal.reason instanceof ProtocolError
    ? signal.reason
    : new ProtocolError('cancelled', undefined, { cause: signal.reason })
}
