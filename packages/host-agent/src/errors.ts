/**
 * The errors of the agent's own commands and settings. What goes wrong between agent and server is a `ProtocolError`.
 * The message says what happened and to what; the hint says what a person can do about it.
 */
export abstract class AgentError extends Error {
  abstract readonly code: string
  /** What to do next; `''` where nothing can be said. */
  readonly hint: string

  constructor(message: string, details: { hint?: string; cause?: unknown } = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = new.target.name
    this.hint = details.hint ?? ''
  }
}

/** The command line asks for something that does not exist or does not go together. */
export class UsageError extends AgentError {
  readonly code = 'usage'
}

/** One thing that is wrong in a file, precise enough to be mended without reading this program. */
export interface Problem {
  /** Absolute path. */
  file: string
  /** 1 for the first; `null` where the problem has no line. */
  line: number | null
  /** As it is written in the file, like `log.level` or `allow.read[2]`; `null` for the file as a whole. */
  key: string | null
  found: string
  expected: string
}

/** Settings, keys or certificates cannot be used. Carries every problem that was found, not only the first. */
export class SettingsError extends AgentError {
  readonly code = 'settings'
  readonly problems: readonly Problem[]

  constructor(
    message: string,
    problems: readonly Problem[],
    details: { hint?: string; cause?: unknown } = {},
  ) {
    super(message, details)
    this.problems = problems
  }
}

/** A bundle cannot be read, or is none. */
export class BundleError extends AgentError {
  readonly code = 'bundle'
}

/** Something is in the way that this program does not overwrite. */
export class AlreadyExistsError extends AgentError {
  readonly code = 'already-exists'
}

/** The file of the log cannot be opened. */
export class LogError extends AgentError {
  readonly code = 'log'
}

/** Nobody has enrolled this host: the time is over, or the code is void. */
export class EnrolmentError extends AgentError {
  readonly code = 'enrolment'
}

/** A signal asked the program to stop before it was done. */
export class StoppedBySignalError extends AgentError {
  readonly code: 'sigint' | 'sigterm'

  constructor(signal: 'SIGINT' | 'SIGTERM', message: string, details: { hint?: string } = {}) {
    super(message, details)
    this.code = signal === 'SIGINT' ? 'sigint' : 'sigterm'
  }
}

/** One line for a person: where, what was found, what was expected. */
export function describeProblem(problem: Problem): string {
  const place = problem.line === null ? problem.file : `${problem.file}:${problem.line}`
  const key = problem.key === null ? '' : ` ${problem.key}:`
  return `${place}:${key} found ${problem.found}; expected ${problem.expected}`
}
