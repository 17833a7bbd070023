import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { runProgram } from '../src/cli.ts'

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

/** Runs the real backup-host. */
export function backupHost(args: readonly string[], input = ''): Ended {
  const program = join(import.meta.dirname, '..', 'bin', 'backup-host.js')
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    input,
  })
  return { status, stdout, stderr }
}

/** The same in this process, which is quicker: for what is not about the process itself. */
export async function backupHostInProcess(args: readonly string[], input = ''): Promise<Ended> {
  const output = { stdout: '', stderr: '' }
  const status = await runProgram(args, {
    workingDirectory: '/nonexistent',
    uid: process.geteuid!(),
    now: Date.now,
    stdin: Readable.from(input === '' ? [] : [Buffer.from(input)]) as NodeJS.ReadStream,
    stdout: { write: (text) => (output.stdout += text) },
    stderr: { write: (text) => (output.stderr += text) },
  })
  return { status, ...output }
}
