/**
 * What Node and OpenSSL call the failures of a connection, in the protocol's words. The codes were collected on loopback
 * with Node 24.21 and its OpenSSL 3.5, against Node and against `openssl s_server` and `s_client`.
 */

import { describeSpan, ProtocolError, type ProtocolErrorCode } from './errors.ts'
import type { Role } from './identity.ts'

/**
 * TLS alerts by number (RFC 8446, section 6): what the other side says is wrong with this one. Under TLS 1.3 the dialing
 * side gets those about its certificate only after its own handshake is done. OpenSSL has changed the names of their
 * codes (`ERR_SSL_SSLV3_ALERT_…`, `ERR_SSL_SSL/TLS_ALERT_…`), so the number in the message is what counts.
 */
const alerts: Record<number, [ProtocolErrorCode, string]> = {
  42: ['certificate-untrusted', 'it is not acceptable, or not valid yet by the clock of the other side'],
  43: ['wrong-role', 'it is for another role'],
  44: ['certificate-revoked', 'it was revoked'],
  45: ['certificate-expired', 'it has expired'],
  46: ['certificate-untrusted', 'it is not acceptable'],
  48: ['certificate-untrusted', 'the other side does not know the CA that issued it'],
  70: ['tls-version', ''],
  116: ['certificate-missing', 'none was sent'],
  120: ['application-protocol', ''],
}

const byNodeCode: Record<string, ProtocolErrorCode> = {
  // OpenSSL, about what the other side sent.
  ERR_SSL_WRONG_VERSION_NUMBER: 'not-tls',
  ERR_SSL_HTTP_REQUEST: 'not-tls',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'not-tls',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'tls-version',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'application-protocol',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'certificate-missing',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'handshake-timeout',
  // Dialing.
  ECONNREFUSED: 'connection-refused',
  ENOTFOUND: 'name-not-found',
  EAI_AGAIN: 'name-not-found',
  EHOSTUNREACH: 'connection-unreachable',
  EHOSTDOWN: 'connection-unreachable',
  ENETUNREACH: 'connection-unreachable',
  ENETDOWN: 'connection-unreachable',
  EADDRNOTAVAIL: 'connection-unreachable',
  ETIMEDOUT: 'connection-unreachable',
  // Cancelled by an AbortSignal.
  ABORT_ERR: 'cancelled',
}

/** Failures to dial that, on a connection that stood, mean that it broke. */
const dialingCodes: ReadonlySet<ProtocolErrorCode> = new Set(['connection-refused', 'connection-unreachable'])

/** The error that a socket, a TLS socket or a listener's `tlsClientError` gave, as a `ProtocolError` with that cause. */
export function errorFromSocket(error: Error): ProtocolError {
  if (error instanceof ProtocolError) return error
  const { code = '', syscall } = error as NodeJS.ErrnoException
  const alert = /SSL alert number (\d+)/.exec(error.message)?.[1]
  if (alert !== undefined) return errorFromAlert(Number(alert), error)
  const known = byNodeCode[code]
  if (known === undefined) {
    if (code.startsWith('ERR_SSL_')) return new ProtocolError('tls-failed', reasonOf(error), { cause: error })
    return connectionLost(error, code)
  }
  // Node's happy eyeballs give an AggregateError, without a system call, when all addresses of a name fail.
  const dialed = syscall === 'connect' || error instanceof AggregateError
  if (dialingCodes.has(known) && !dialed) return connectionLost(error, code)
  return new ProtocolError(known, dialed ? dialingMessage(error) : undefined, { cause: error })
}

function errorFromAlert(number: number, cause: Error): ProtocolError {
  const [code, reason] = alerts[number] ?? ['tls-failed', '']
  if (reason !== '') {
    return new ProtocolError(code, `the other side did not accept the certificate of this side: ${reason}`, {
      cause,
    })
  }
  return new ProtocolError(code, code === 'tls-failed' ? reasonOf(cause) : undefined, { cause })
}

function connectionLost(cause: Error, code: string): ProtocolError {
  const message =
    code === 'ECONNRESET'
      ? 'the other side broke the connection off'
      : `the connection broke: ${cause.message}`
  return new ProtocolError('connection-lost', message, { cause })
}

/** Node's own words for a dialed address that failed: they name it, and the system's error. */
function dialingMessage(error: Error): string {
  const [first] = error instanceof AggregateError ? error.errors : [error]
  return String((first as Error | undefined)?.message ?? error.message)
}

/** OpenSSL's reason without the line that it is printed in. */
function reasonOf(error: Error): string {
  const { reason } = error as { reason?: string }
  return `the TLS handshake failed: ${reason ?? error.message}`
}

/** What is known of a certificate that was not accepted. */
export interface RefusedCertificate {
  /** Whose it is. */
  role: Role
  from: Date
  to: Date
  /** Who has issued it, and whom the side that refuses trusts; for people. */
  issuer: string
  trusted: string
}

/**
 * Why a certificate was not accepted, from `TLSSocket.authorizationError`. The message is read on both sides, so it says
 * whose clock and whose authorities are meant.
 */
export function errorFromVerification(
  reason: string,
  { role, from, to, issuer, trusted }: RefusedCertificate,
  nowMs: number,
): ProtocolError {
  const whose = `the certificate of the ${role}`
  const other = role === 'host' ? 'server' : 'host'
  const clock = `by the clock of the ${other} it is ${new Date(nowMs).toISOString()}`
  switch (reason) {
    case 'CERT_HAS_EXPIRED': {
      // Of the chain, it may also be the authority's.
      if (nowMs < to.getTime())
        return new ProtocolError(
          'certificate-expired',
          `the authority that has issued ${whose} has expired; ${clock}`,
        )
      const since = describeSpan(nowMs - to.getTime())
      return new ProtocolError(
        'certificate-expired',
        `${whose} expired on ${to.toISOString()}, ${since} ago: ${clock}`,
      )
    }
    case 'CERT_NOT_YET_VALID': {
      const wait = describeSpan(from.getTime() - nowMs)
      return new ProtocolError(
        'certificate-not-yet-valid',
        `${whose} is not valid before ${from.toISOString()}, in ${wait}: ${clock}`,
      )
    }
    case 'INVALID_PURPOSE':
      return new ProtocolError('wrong-role', `${whose} is not one for a ${role}`)
    default:
      return new ProtocolError(
        'certificate-untrusted',
        `${whose} was issued by ${issuer}, and the ${other} trusts ${trusted} (${reason})`,
      )
  }
}
