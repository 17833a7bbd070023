import { runProgram } from '../src/cli/program.ts'
import type { Ended, RunOptions } from './run-program.ts'

/** As `backupServer`, but in this process, which is quicker: for what is not about the process itself. */
export async function backupServerInProcess(
  args: readonly string[],
  { cwd, env }: RunOptions = {},
): Promise<Ended> {
  const output = { stdout: '', stderr: '' }
  const status = await runProgram(args, {
    environment: { ...env },
    workingDirectory: cwd ?? '/nonexistent',
    uid: process.geteuid!(),
    now: Date.now,
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
  })
  return { status, ...output }
}
