/**
 * The errors of the server. Each class is one meaning; its `code` is stable, goes into the JSON output and the
 * catalog, and is what `exit-codes.ts` maps to an exit code. The message says what happened and to what; the hint says
 * what a person can do about it.
 */

export interface ErrorDetails {
  hint?: string
  cause?: unknown
}

export abstract class BackupError extends Error {
  abstract readonly code: string
  /** What to do next, as one or more sentences; `''` where nothing can be said. */
  readonly hint: string

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = new.target.name
    this.hint = details.hint ?? ''
  }
}

/** The command line asks for something that does not exist or does not go together. */
export class UsageError extends BackupError {
  readonly code = 'usage'
}

/** One thing that is wrong in a file of the person's, precise enough to be mended without reading this program. */
export interface Problem {
  /** Absolute path. */
  file: string
  /** 1 for the first; `null` where the problem has no line. */
  line: number | null
  /** As it is written in the file, like `log.level` or `paths[2]`; `null` for the file as a whole. */
  key: string | null
  found: string
  expected: string
}

/** Settings or host modules cannot be used. Carries every problem that was found, not only the first. */
export class ConfigurationError extends BackupError {
  readonly code = 'configuration'
  readonly problems: readonly Problem[]

  constructor(message: string, problems: readonly Problem[], details: ErrorDetails = {}) {
    super(message, details)
    this.problems = problems
  }
}

/** One line for a person: where, what was found, what was expected. */
export function describeProblem(problem: Problem): string {
  const place = problem.line === null ? problem.file : `${problem.file}:${problem.line}`
  const key = problem.key === null ? '' : ` ${problem.key}:`
  return `${place}:${key} found ${problem.found}; expected ${problem.expected}`
}

export type CertificateErrorCode = 'authority-missing' | 'authority-invalid' | 'certificate-unusable'

/** A certificate or key of the server's own cannot be read, made or used. Peers' certificates are the protocol's. */
export class CertificateError extends BackupError {
  readonly code: CertificateErrorCode

  constructor(code: CertificateErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details)
    this.code = code
  }
}

/** Something is in the way that this program does not overwrite. */
export class AlreadyExistsError extends BackupError {
  readonly code = 'already-exists'
}

export type StorageErrorCode =
  | 'not-mounted'
  | 'repository-too-new'
  | 'repository-invalid'
  | 'disk-full'
  | 'read-only'
  | 'no-permission'
  | 'io-error'
  | 'file-too-large'
  | 'too-many-open-files'
  | 'archive-exists'
  | 'archive-missing'
  | 'archive-name'
  | 'storage-failed'

/** The repository, or a file in it, cannot be read or written. */
export class StorageError extends BackupError {
  readonly code: StorageErrorCode

  constructor(code: StorageErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details)
    this.code = code
  }
}

export type CatalogErrorCode = 'catalog-too-new' | 'catalog-damaged' | 'catalog-busy' | 'catalog-failed'

/** The catalog's database cannot be opened, read or written. A full disk under it is a `StorageError`. */
export class CatalogError extends BackupError {
  readonly code: CatalogErrorCode

  constructor(code: CatalogErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details)
    this.code = code
  }
}

/** A run came to a limit of the settings: the room or the time that a host may take. What had come is kept. */
export class LimitError extends BackupError {
  readonly code: 'quota-exceeded' | 'time-limit'

  constructor(code: LimitError['code'], message: string, details: ErrorDetails = {}) {
    super(message, details)
    this.code = code
  }
}

/** Another process is at work on the same host. */
export class BusyError extends BackupError {
  readonly code = 'busy'
}

/** Our lease on a host was taken over, or could not be renewed in time: what was begun must not be finished. */
export class LeaseLostError extends BackupError {
  readonly code = 'lease-lost'
}

/** A signal asked the program to stop. */
export class StoppedBySignalError extends BackupError {
  readonly code: 'sigint' | 'sigterm'

  constructor(signal: 'SIGINT' | 'SIGTERM', details: ErrorDetails = {}) {
    super(`stopped by ${signal}`, details)
    this.code = signal === 'SIGINT' ? 'sigint' : 'sigterm'
  }
}
