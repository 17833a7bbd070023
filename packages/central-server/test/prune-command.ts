/**
 * `backup-server --home ARGV[2] --json prune` as of the time `process.argv[3]`: a program of its own, so that tests can make its
 * system calls fail.
 */
import { runProgram } from '../src/cli/program.ts'

const [, , home, nowMs] = process.argv
process.exitCode = await runProgram(['--home', home!, '--json', 'prune'], {
  environment: {},
  workingDirectory: '/nonexistent',
  uid: process.geteuid!(),
  now: () => Number(nowMs),
  stdout: process.stdout,
  stderr: process.stderr,
})
