import type { Outcome } from '@central-backup/archive'
import type { ProtocolErrorCode } from '@central-backup/protocol'
import type {
  AlreadyExistsError,
  BusyError,
  CatalogErrorCode,
  CertificateErrorCode,
  ConfigurationError,
  LeaseLostError,
  LimitError,
  StoppedBySignalError,
  StorageErrorCode,
  UsageError,
} from './errors.ts'

/** The exit codes of `backup-server`, from the best to the worst: of several hosts, the worst one decides. */
export const exitCodes = {
  ok: { code: 0, meaning: 'complete, or complete with changes' },
  incomplete: {
    code: 3,
    meaning: 'incomplete: usable, but something is missing (or changes, with --strict)',
  },
  busy: { code: 13, meaning: 'busy: another process is at work on the host' },
  unreachable: { code: 10, meaning: 'the host cannot be reached' },
  authentication: { code: 12, meaning: 'authentication or TLS failed' },
  failed: { code: 1, meaning: 'failed' },
  usage: { code: 2, meaning: 'usage or configuration' },
  notMounted: { code: 11, meaning: 'the destination is not mounted' },
  interrupted: { code: 130, meaning: 'stopped by SIGINT (Ctrl-C)' },
  terminated: { code: 143, meaning: 'stopped by SIGTERM' },
} as const

/**
 * In the order of `exitCodes`: what comes early is transient or half a success, what comes late needs a person or hits
 * all hosts.
 */
export type ExitName = keyof typeof exitCodes
export type ExitCode = (typeof exitCodes)[ExitName]['code']

/** All codes that an error may carry. Those that two packages share mean the same. */
export type ErrorCode =
  | UsageError['code']
  | ConfigurationError['code']
  | AlreadyExistsError['code']
  | BusyError['code']
  | LeaseLostError['code']
  | LimitError['code']
  | StoppedBySignalError['code']
  | CertificateErrorCode
  | StorageErrorCode
  | CatalogErrorCode
  | ProtocolErrorCode

/** The one table from errors to exit codes. */
const exitOfError: Readonly<Record<ErrorCode, ExitName>> = {
  usage: 'usage',
  configuration: 'usage',
  'already-exists': 'usage',
  'authority-missing': 'usage',
  'authority-invalid': 'usage',
  'certificate-unusable': 'usage',
  'credentials-invalid': 'usage',

  busy: 'busy',
  'lease-lost': 'failed',
  'quota-exceeded': 'failed',
  'time-limit': 'failed',
  sigint: 'interrupted',
  sigterm: 'terminated',
  cancelled: 'failed',

  'not-mounted': 'notMounted',
  'repository-too-new': 'usage',
  'repository-invalid': 'failed',
  'disk-full': 'failed',
  'read-only': 'failed',
  'no-permission': 'failed',
  'io-error': 'failed',
  'file-too-large': 'failed',
  'too-many-open-files': 'failed',
  'archive-exists': 'failed',
  'archive-missing': 'failed',
  'archive-name': 'failed',
  'storage-failed': 'failed',

  'catalog-too-new': 'usage',
  'catalog-damaged': 'failed',
  'catalog-busy': 'failed',
  'catalog-failed': 'failed',

  'connection-refused': 'unreachable',
  'connection-unreachable': 'unreachable',
  'name-not-found': 'unreachable',
  'handshake-timeout': 'unreachable',

  'not-tls': 'authentication',
  'tls-version': 'authentication',
  'tls-failed': 'authentication',
  'certificate-missing': 'authentication',
  'certificate-untrusted': 'authentication',
  'certificate-expired': 'authentication',
  'certificate-not-yet-valid': 'authentication',
  'certificate-revoked': 'authentication',
  'wrong-role': 'authentication',
  'wrong-host': 'authentication',
  'application-protocol': 'authentication',
  'authentication-failed': 'authentication',
  'enrolment-code-wrong': 'authentication',
  'enrolment-code-expired': 'authentication',
  'certificate-request': 'authentication',
  'clock-skew': 'authentication',

  'connection-lost': 'failed',
  stalled: 'failed',
  'message-unknown': 'failed',
  'message-too-large': 'failed',
  'message-malformed': 'failed',
  'message-out-of-turn': 'failed',
  'version-unsupported': 'failed',
  'policy-denied': 'failed',
  'request-invalid': 'usage',
  'source-failed': 'failed',
  'target-failed': 'failed',
  'hook-failed': 'failed',
  internal: 'failed',
}

/** The exit code of an error that ended the program or a run; 1 for what has no meaning of ours. */
export function exitCodeOfError(error: unknown): ExitCode {
  const code = (error as { code?: unknown } | null | undefined)?.code
  if (typeof code === 'string' && Object.hasOwn(exitOfError, code))
    return exitCodes[exitOfError[code as ErrorCode]].code
  return exitCodes.failed.code
}

/**
 * The exit code of a run. `error` is why a `failed` run failed; a run that is `incomplete` kept something, whatever
 * broke it. `strict` takes changes while reading for a reason not to trust the copy.
 */
export function exitCodeOfOutcome(outcome: Outcome, error: unknown, strict: boolean): ExitCode {
  switch (outcome) {
    case 'complete':
      return exitCodes.ok.code
    case 'complete-with-changes':
      return strict ? exitCodes.incomplete.code : exitCodes.ok.code
    case 'incomplete':
      return exitCodes.incomplete.code
    case 'failed': {
      const code = exitCodeOfError(error)
      return code === exitCodes.ok.code ? exitCodes.failed.code : code
    }
  }
}

/** The worst of several exit codes, in the order of `exitCodes`; 0 for none. */
export function worstExitCode(codes: Iterable<ExitCode>): ExitCode {
  const order = Object.values(exitCodes).map(({ code }): ExitCode => code)
  return order[Math.max(0, ...[...codes].map((code) => order.indexOf(code)))]!
}
