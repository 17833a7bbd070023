import type { HostProblem } from '../config/hosts.ts'
import { describeProblem } from '../errors.ts'
import { exitCodes, worstExitCode } from '../exit-codes.ts'
import type { Invocation } from './invocation.ts'

/** Tells of host modules that cannot be used, which others are not to suffer from, and has the exit code say so. */
export function reportProblems(invocation: Invocation, problems: readonly HostProblem[]): void {
  if (problems.length === 0) return
  invocation.warn(
    ['Host modules that cannot be used:', ...problems.map((problem) => `  ${describeProblem(problem)}`)].join(
      '\n',
    ),
  )
  invocation.exitCode = worstExitCode([invocation.exitCode, exitCodes.usage.code])
}
