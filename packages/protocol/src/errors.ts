import { textCharsMax } from './limits.ts'

/**
 * All errors of the protocol: a stable code, what it means, and what a person does next. The codes travel in `error`
 * messages, so a code is never renamed or reused. The texts are defaults; where more is known, the error says more.
 */
export const protocolErrors = {
  'not-tls': {
    message: 'the other side does not speak TLS',
    hint: 'Check the address and the port: another service seems to listen there, or something stands in between.',
  },
  'tls-version': {
    message: 'the other side does not speak TLS 1.3',
    hint: 'Update the older of the two programs, and look for a proxy in between that takes TLS apart.',
  },
  'tls-failed': {
    message: 'the TLS handshake failed',
    hint: 'Look at the log of the other side, and for a proxy in between that takes TLS apart.',
  },
  'credentials-invalid': {
    message: 'the certificate, key or CA of this side cannot be used',
    hint: 'Check the three files: PEM, not empty, and a certificate that belongs to the key.',
  },
  'certificate-missing': {
    message: 'the other side sent no certificate',
    hint: 'Each side needs the certificate that the CA of central-backup made for it.',
  },
  'certificate-untrusted': {
    message: 'the certificate was not issued by the CA that is trusted here',
    hint: 'Both sides must have the same CA certificate, and certificates that this CA issued.',
  },
  'certificate-expired': {
    message: 'the certificate has expired',
    hint: 'Renew it: `backup-server certs renew` for the server, `certs renew HOST --bundle FILE` for a host. If it should still be valid, set the clocks.',
  },
  'certificate-not-yet-valid': {
    message: 'the certificate is not valid yet',
    hint: 'Set the clocks of both machines right; one of them is behind, or the one that made the certificate was ahead.',
  },
  'certificate-revoked': {
    message: 'the certificate was revoked',
    hint: 'Somebody has declared it invalid (`backup-server certs revoke`). That side needs a new one; see "Certificates" in the manual.',
  },
  'wrong-role': {
    message: 'the certificate is for another role',
    hint: 'A server needs a certificate with the URI urn:central-backup:server:NAME, a host one with urn:central-backup:host:NAME.',
  },
  'wrong-host': {
    message: 'the certificate belongs to another host',
    hint: 'Check the address in the host module, and which certificate lies on that host.',
  },
  'application-protocol': {
    message: 'the other side does not speak central-backup/1',
    hint: 'Check the address and the port, and update the older of the two programs.',
  },
  'handshake-timeout': {
    message: 'the TLS handshake was not finished in time',
    hint: 'Check that central-backup listens on that port, and that no firewall holds the connection back.',
  },
  'authentication-failed': {
    message: 'the host did not accept the password',
    hint: "Compare the password of the host module with the one that the agent's hash was made from.",
  },
  'message-unknown': {
    message: 'a message of an unknown type arrived',
    hint: 'Run the same version on both sides.',
  },
  'message-too-large': {
    message: 'a message is larger than its type may be',
    hint: 'Run the same version on both sides. A request with very many paths is better written with patterns.',
  },
  'message-malformed': {
    message: 'a message is not what its type says',
    hint: 'Run the same version on both sides.',
  },
  'message-out-of-turn': {
    message: 'a message arrived that was not due',
    hint: 'Run the same version on both sides.',
  },
  'version-unsupported': {
    message: 'the other side speaks another version of the protocol',
    hint: 'Update the older of the two programs.',
  },
  stalled: {
    message: 'the other side made no progress for too long',
    hint: 'Look at the other machine: a hanging file system, a full disk, or a connection that is half dead.',
  },
  'connection-lost': {
    message: 'the connection broke',
    hint: 'Look at the log of the other side and at the network between the two. The next run goes on from here.',
  },
  'connection-refused': {
    message: 'nothing listens there',
    hint: 'Check that backup-host runs on that machine (systemctl status backup-host), and the address and port.',
  },
  'connection-unreachable': {
    message: 'the machine cannot be reached',
    hint: 'Check that the machine is up, and the address, the routes and the firewalls on the way.',
  },
  'name-not-found': {
    message: 'the name has no address',
    hint: 'Check the address in the host module, and the name server of this machine.',
  },
  'enrolment-code-wrong': {
    message: 'the two sides do not have the same enrolment code on the same connection',
    hint: 'The code is of another host or of an earlier enrolment, or somebody stands in between. Run `backup-host enroll` on the host again, and the line that it prints on the server.',
  },
  'enrolment-code-expired': {
    message: 'the enrolment code is not good any more',
    hint: 'Run `backup-host enroll` on the host again: it makes a new code.',
  },
  'clock-skew': {
    message: 'the clocks of both machines are too far apart',
    hint: 'Set the clock that is wrong (timedatectl on both machines shows which), and try again.',
  },
  'certificate-request': {
    message: 'the request for a certificate is not one that can be signed',
    hint: 'Run the same version on both sides.',
  },
  'policy-denied': {
    message: "the host's own settings do not allow this",
    hint: "The `allow` section of that host's settings says what a server may do.",
  },
  'request-invalid': {
    message: 'the request cannot be fulfilled as it stands',
    hint: 'Check the paths and patterns of the host module.',
  },
  busy: {
    message: 'the host is already at work for a server',
    hint: 'Wait for the other run to end, or look for one that hangs.',
  },
  cancelled: {
    message: 'the session was cancelled',
    hint: 'Nothing is wrong: somebody or a signal stopped it.',
  },
  'storage-failed': {
    message: 'the server could not store the archive',
    hint: 'Look at the log of the server: a full disk, or one that is not mounted.',
  },
  'source-failed': {
    message: 'the host could not read what it was asked for',
    hint: 'Look at the log of the agent: a disk that fails, or a mount that hangs.',
  },
  'target-failed': {
    message: 'the host could not write what it was to restore',
    hint: 'Look at the log of the agent: a full disk, one that is read-only, or a mount that hangs.',
  },
  'hook-failed': {
    message: 'a command that the host runs before a backup failed',
    hint: 'Look at the log of the agent, which has what the command said. `[hooks]` in its settings says what is run.',
  },
  internal: {
    message: 'an internal error',
    hint: 'Look at the log of the side that reports it; it is a bug, and worth a report.',
  },
} as const satisfies Record<string, { message: string; hint: string }>

export type ProtocolErrorCode = keyof typeof protocolErrors

export function isProtocolErrorCode(code: string): code is ProtocolErrorCode {
  return Object.hasOwn(protocolErrors, code)
}

export interface ProtocolErrorOptions {
  /** Replaces the hint of the code. */
  hint?: string | undefined
  cause?: unknown
}

/** Something went wrong between the two sides. `code` is stable; `message` and `hint` are for a person. */
export class ProtocolError extends Error {
  override readonly name: string = 'ProtocolError'
  readonly code: ProtocolErrorCode
  /** What the person who reads this does next. */
  readonly hint: string

  /** `message` replaces the default text of the code. */
  constructor(code: ProtocolErrorCode, message?: string, options: ProtocolErrorOptions = {}) {
    super(message ?? protocolErrors[code].message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.hint = options.hint ?? protocolErrors[code].hint
  }
}

/**
 * The other side ended the session with an `error` message. `code` is its code where this version knows it and
 * `internal` where not; `message` and `hint` are its words, made safe to print.
 */
export class PeerError extends ProtocolError {
  override readonly name = 'PeerError'
  /** The code as it was sent. */
  readonly peerCode: string

  /** What the other side's clock shows more than this one's, in milliseconds; `null` where it did not say. */
  readonly clockAheadMs: number | null

  /** `nowMs` is the time of this side. */
  constructor(
    report: { code: string; message: string; hint?: string | undefined; clockMs?: number | undefined },
    nowMs: number = Date.now(),
  ) {
    const code = isProtocolErrorCode(report.code) ? report.code : 'internal'
    const hint = report.hint === undefined ? undefined : plainText(report.hint)
    const aheadMs = report.clockMs === undefined ? null : report.clockMs - nowMs
    super(code, `${plainText(report.message)}${describeClock(aheadMs)}`, { hint })
    this.peerCode = report.code
    this.clockAheadMs = aheadMs
  }
}

/** Less is no reason to say something: certificates are valid from an hour before they are made. */
const clockDifferenceToldMs = 60_000

function describeClock(aheadMs: number | null): string {
  if (aheadMs === null || Math.abs(aheadMs) < clockDifferenceToldMs) return ''
  return `; the clock of the other side is ${describeSpan(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead of' : 'behind'} the one here`
}

/** A time span for people, by its largest two units: `3 days 2 hours`. */
export function describeSpan(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  const parts = [
    [Math.floor(minutes / 1440), 'day'],
    [Math.floor(minutes / 60) % 24, 'hour'],
    [minutes % 60, 'minute'],
  ] as const
  const told = parts.filter(([count]) => count > 0).slice(0, 2)
  if (told.length === 0) return 'less than a minute'
  return told.map(([count, unit]) => `${count} ${unit}${count === 1 ? '' : 's'}`).join(' ')
}

/** Codes for which the clocks of the two sides matter. */
const clockCodes: ReadonlySet<ProtocolErrorCode> = new Set([
  'certificate-expired',
  'certificate-not-yet-valid',
])

/** What of an error is told to the other side: all of a `ProtocolError`, of any other only that there was one. */
export function errorReport(error: unknown): {
  code: string
  message: string
  hint: string
  clockMs?: number
} {
  const told = error instanceof ProtocolError ? error : new ProtocolError('internal')
  const report = { code: told.code, message: plainText(told.message), hint: plainText(told.hint) }
  return clockCodes.has(told.code) ? { ...report, clockMs: Date.now() } : report
}

/** Controls (C0, DEL, C1), line and paragraph separators, and what changes the direction of text. */
const unprintable = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Text that can stand in one line of a log or a terminal: at most `textCharsMax` long, unprintable characters as U+FFFD. */
export function plainText(text: string): string {
  const cut = text.length > textCharsMax ? `${text.slice(0, textCharsMax - 1)}…` : text
  return cut.toWellFormed().replace(unprintable, '\ufffd')
}
