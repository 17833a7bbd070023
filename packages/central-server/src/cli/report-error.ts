import { BackupError, ConfigurationError, describeProblem, type Problem } from '../errors.ts'
import { type ExitCode, exitCodeOfError } from '../exit-codes.ts'
import { toStorageError } from '../storage/failure.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'

/** An error as `--json` gives it. */
export interface ErrorReport {
  code: string
  message: string
  hint?: string
  problems?: readonly Problem[]
}

/** What is told of an error. Of those without a meaning of ours, which are bugs, the stack is told with `--verbose`. */
export function describeError(error: unknown): ErrorReport {
  if (error instanceof ConfigurationError) {
    return { code: error.code, message: error.message, ...hintOf(error), problems: error.problems }
  }
  if (isExplained(error)) return { code: error.code, message: error.message, ...hintOf(error) }
  if (lacksDescriptors(error)) return describeError(toStorageError(error, 'go on'))
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return { code: 'internal', message, hint: 'This is a bug in backup-server. With -v it tells where.' }
}

/** Prints an error: for people on standard error and, with `--json`, as `{"error": …}` on standard output. */
export function reportError(invocation: Invocation, error: unknown): ExitCode {
  const report = describeError(error)
  // Each is one line, also where a name in it has several.
  const lines = [`backup-server: ${printable(report.message)}`]
  lines.push(...(report.problems ?? []).map((problem) => `  ${printable(describeProblem(problem))}`))
  if (report.hint !== undefined) lines.push(`Hint: ${printable(report.hint)}`)
  if (invocation.options.verbose && error instanceof Error && error.stack) lines.push(error.stack)
  invocation.warn(lines.join('\n'))
  if (invocation.options.json) invocation.report({ error: report }, [])
  return exitCodeOfError(error)
}

/** Anything that opens a file can come to it, also what Node loads by itself. */
function lacksDescriptors(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown }
  return code === 'EMFILE' || code === 'ENFILE'
}

/** Ours and the protocol's have the same form. */
function isExplained(error: unknown): error is Error & { code: string; hint: string } {
  if (error instanceof BackupError) return true
  return error instanceof Error && typeof (error as { hint?: unknown }).hint === 'string' && 'code' in error
}

function hintOf({ hint }: { hint: string }): { hint?: string } {
  return hint === '' ? {} : { hint }
}
