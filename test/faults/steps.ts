/** What a program does to files, call by call, as strace tells it, and the ways to strike at one of these calls. */
import { readFileSync } from 'node:fs'
import { runCommand } from '../harness/program.ts'

/** The `nth` call of its kind that a thread of the program makes; of those that concern `path`, where that is given. */
export interface Step {
  call: string
  nth: number
  /** Below the folder that the record is of. */
  path?: string
  /** The line of strace, for people. */
  line: string
}

/** What is done at a step. The call itself is not made, but for `TERM`, `INT` and `STOP`, which come before it. */
export type Strike = { signal: 'KILL' | 'TERM' | 'INT' | 'STOP' } | { error: 'EIO' | 'ENOSPC' }

/** Calls that change what is on a disk. */
const changing = [
  ...['openat', 'write', 'pwrite64', 'writev', 'pwritev', 'copy_file_range', 'fallocate', 'ftruncate'],
  ...['fsync', 'fdatasync', 'syncfs', 'rename', 'renameat', 'renameat2', 'unlink', 'unlinkat', 'rmdir'],
  ...['mkdir', 'mkdirat', 'link', 'linkat', 'symlinkat', 'mknodat', 'utimensat', 'fchmod', 'fchown'],
]

/** Calls that only read. */
const reading = ['read', 'pread64', 'getdents64']

export type StepKind = 'changing' | 'reading'

const calls: Readonly<Record<StepKind, readonly string[]>> = { changing, reading }

/** One thread of libuv, so that calls are numbered alike in every run. */
export const tracedEnvironment = { UV_THREADPOOL_SIZE: '1' }

const base = ['strace', '-f', '-qq', '-y', '-s', '0']

/** Stops at the calls alone that are traced. Not where a signal is to be sent: strace 6.1 forgets it in the main thread then. */
const quick = ['--seccomp-bpf']

/** Puts a program behind strace, which writes its calls of a kind to `file`. */
export function recording(file: string, kind: StepKind): string[] {
  return [...base, ...quick, '-o', file, '-e', `trace=${calls[kind].join(',')}`]
}

/** Puts a program behind strace, which strikes at a step below `folder` and writes calls of its kind to `file`. */
export function striking(file: string, { call, nth, path }: Step, strike: Strike, folder: string): string[] {
  const what = 'signal' in strike ? `signal=${strike.signal}` : `error=${strike.error}`
  const signals = 'signal' in strike && strike.signal === 'STOP' ? 'STOP' : 'none'
  return [
    ...[
      ...base,
      ...('signal' in strike ? [] : quick),
      '-o',
      file,
      '-e',
      `trace=${call}`,
      '-e',
      `signal=${signals}`,
      ...(path === undefined ? [] : ['-P', folder + path]),
    ],
    ...['-e', `inject=${call}:${what}:when=${nth}`],
  ]
}

/**
 * The steps of a recorded program that concern files below `folder`, in their order; with `sockets`, what it sends as
 * well. strace numbers the calls of each thread by themselves, and so does this; those in the first `fromByte` bytes of
 * the record are counted, but are no steps. `byPath` counts calls of each file by themselves: for a program that makes
 * many such calls of files elsewhere, and not always as many.
 */
export function readSteps(
  file: string,
  folder: string,
  { sockets = false, fromByte = 0, byPath = false } = {},
): Step[] {
  const counts = new Map<string, number>()
  const steps = new Map<string, Step>()
  let byte = 0
  for (const line of readFileSync(file, 'latin1').split('\n')) {
    byte += line.length + 1
    const match = /^(\d+)\s+([a-z0-9_]+)\(/.exec(line)
    if (match === null) continue
    const [head, thread, call] = match
    const text = line.slice(head.length)
    const open = byPath ? /^\d+<([^>]*)>/.exec(text)?.[1] : undefined
    const kind = `${thread} ${call} ${open ?? ''}`
    const nth = (counts.get(kind) ?? 0) + 1
    counts.set(kind, nth)
    if (byte <= fromByte) continue
    const concerns = text.includes(folder) || (sockets && /^\d+<(socket|TCP)/.test(text))
    if (!concerns || (call === 'openat' && !/O_WRONLY|O_RDWR|O_CREAT/.test(text))) continue
    const key = `${call} ${nth} ${open ?? ''}`
    const path = open?.startsWith(folder) ? { path: open.slice(folder.length) } : {}
    if (!steps.has(key)) steps.set(key, { call: call!, nth, ...path, line: `${call}(${text}` })
  }
  return [...steps.values()]
}

/** The call that was made to fail, as strace wrote it; `null` where it never came to it. */
export function failedCall(file: string): string | null {
  const line = readFileSync(file, 'latin1')
    .split('\n')
    .find((one) => one.includes('(INJECTED)'))
  return line === undefined ? null : line.replace(/^\d+\s+/, '')
}

/** The program that strace was put before, not strace itself; `null` where it is not there any more. */
export function tracedProcess(strace: number): number | null {
  try {
    const [pid] = readFileSync(`/proc/${strace}/task/${strace}/children`, 'utf8').split(' ')
    return pid ? Number(pid) : null
  } catch {
    return null
  }
}

/** A reason for which nothing can be traced here, or `false`. */
export async function lacksStrace(): Promise<string | false> {
  const { code } = await runCommand(['strace', '-f', '--seccomp-bpf', '-o', '/dev/null', 'true'])
  return code === 0 ? false : 'strace is not installed, or may not trace here'
}
