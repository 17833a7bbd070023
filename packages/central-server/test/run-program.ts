import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

export interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  cwd?: string
  env?: Readonly<Record<string, string>>
  input?: string
}

const server = join(import.meta.dirname, '..', 'bin', 'backup-server.js')
const host = join(import.meta.dirname, '..', '..', 'host-agent', 'bin', 'backup-host.js')

/** Runs the real backup-server, with nothing of the environment that could change what it does. */
export function backupServer(args: readonly string[], options: RunOptions = {}): Ended {
  return run(server, args, options)
}

/** Runs the real backup-host, for what takes both. */
export function backupHost(args: readonly string[], options: RunOptions = {}): Ended {
  return run(host, args, options)
}

function run(program: string, args: readonly string[], { cwd, env, input = '' }: RunOptions): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    input,
    env: { PATH: process.env.PATH, HOME: '/nonexistent', NODE_NO_WARNINGS: '', ...env },
    ...(cwd === undefined ? {} : { cwd }),
  })
  return { status, stdout, stderr }
}
