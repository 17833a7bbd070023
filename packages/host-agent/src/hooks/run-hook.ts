import { type ChildProcess, spawn } from 'node:child_process'
import { describeProblem } from '../errors.ts'
import { findCommandProblems } from './command-trust.ts'
import type { Hook } from './hook.ts'
import { HookOutput } from './hook-output.ts'

/** From the request to end to the one that cannot be refused, and from that to giving up. */
const killPauseMs = 5_000

/** Output that is still on its way when the command has ended. */
const drainMsMax = 1_000

/** How a hook ended. */
export interface HookEnd {
  /** Why it counts as failed, as the rest of a sentence that begins with its name; `null` where it is content. */
  failure: string | null
  seconds: number
  /** What it said, cut and cleaned. */
  lines: string[]
}

/** How long a hook may take, and what ends it before that. */
export interface HookBounds {
  timeLimitMs: number
  /** Aborted where nobody needs the hook any more. */
  signal?: AbortSignal
}

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Runs the command of a hook to its end: without a shell, in the folder `/`, with nothing to read, in a process group
 * (and session) of its own, and with no environment but `variables` and a PATH. The group is killed when the time is
 * over, when the signal is aborted, and when the command has ended but others of its group have not. Never throws, and
 * never takes longer than the limit and some seconds. `uid` is the user that runs this program.
 */
export async function runHook(
  hook: Hook,
  variables: Readonly<Record<string, string>>,
  bounds: HookBounds,
  uid: number = process.geteuid!(),
): Promise<HookEnd> {
  const startedMs = performance.now()
  const output = new HookOutput()
  const failure = await execute(hook, variables, bounds, uid, output)
  const seconds = Math.round((performance.now() - startedMs) / 100) / 10
  return { failure, seconds, lines: output.lines() }
}

async function execute(
  { name, command }: Hook,
  variables: Readonly<Record<string, string>>,
  { timeLimitMs, signal }: HookBounds,
  uid: number,
  output: HookOutput,
): Promise<string | null> {
  if (signal?.aborted) return 'was not begun, as the session had ended'
  // It may have changed since the settings were read.
  const [problem] = findCommandProblems(command[0]!, uid, command[0]!, `hooks.${name}`)
  if (problem !== undefined) return `is not run: ${describeProblem(problem)}`
  const child = start(command, { ...variables, CENTRAL_BACKUP_HOOK: name })
  if (child instanceof Error) return `cannot be started: ${child.message}`
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (piece: Buffer) => output.add(piece))
    stream?.on('error', () => {})
  }
  const exited = exitOf(child)
  const closed = new Promise<true>((resolve) => child.once('close', () => resolve(true)))
  try {
    const first = await within(Promise.race([exited, abortOf(signal)]), timeLimitMs)
    if (first === null)
      return await kill(child, exited, `was stopped after ${timeLimitMs / 1000} s, its time limit`)
    if (first === 'aborted') return await kill(child, exited, 'was stopped, as the session ended')
    return first.failure
  } finally {
    signalGroup(child, 'SIGKILL')
    await within(closed, drainMsMax)
    child.stdout?.destroy()
    child.stderr?.destroy()
    child.unref()
  }
}

/** Some errors are thrown, as that of an environment that is too large; others are told by the child. */
function start(
  command: readonly string[],
  variables: Readonly<Record<string, string>>,
): ChildProcess | Error {
  try {
    return spawn(command[0]!, command.slice(1), {
      cwd: '/',
      env: { PATH: searchPath, HOME: '/', LANG: 'C.UTF-8', ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
  } catch (error) {
    return error as Error
  }
}

interface Exit {
  failure: string | null
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('error', ({ message }) => resolve({ failure: `cannot be started: ${message}` }))
    child.once('exit', (code, signal) => {
      if (code === 0) resolve({ failure: null })
      else resolve({ failure: signal === null ? `failed with exit code ${code}` : `was ended by ${signal}` })
    })
  })
}

/** Never resolves where nobody aborts. */
function abortOf(signal: AbortSignal | undefined): Promise<'aborted'> {
  return new Promise((resolve) => {
    if (signal?.aborted) resolve('aborted')
    else signal?.addEventListener('abort', () => resolve('aborted'), { once: true })
  })
}

/** `null` where that takes longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Returns `why`, with a remark where the command could not be ended. */
async function kill(child: ChildProcess, exited: Promise<Exit>, why: string): Promise<string> {
  for (const name of ['SIGTERM', 'SIGKILL'] as const) {
    signalGroup(child, name)
    if ((await within(exited, killPauseMs)) !== null) return why
  }
  return `${why}, and does not end: its process ${child.pid} hangs in the kernel, or may not be ended by this user`
}

/** The group may be gone, never have been there, or belong to a user whom this one, without the right to, cannot signal. */
function signalGroup({ pid }: ChildProcess, name: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, name)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['ESRCH', 'EPERM'].includes(code)) throw error
  }
}
