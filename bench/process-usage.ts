/** What processes have used, as Linux counts it in /proc. A process that is gone has used nothing and has no children. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

/** Unit of the times in /proc/PID/stat: the same on all architectures of Linux that Node.js runs on. */
const ticksPerSecond = 100
const kibibyte = 1024

/** Seconds of CPU, user and system, of all its threads and of all children that it has waited for. */
export function cpuSecondsOf(pid: number): number {
  const { own, children } = readTimes(pid)
  return own + children
}

/** Seconds of CPU of the children that this process has waited for, and of theirs. */
export function cpuSecondsOfChildren(): number {
  return readTimes(process.pid).children
}

/** The process and all that descend from it, as far as their parents are still there. */
export function processTree(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(processTree)]
}

export function childrenOf(pid: number): number[] {
  const children = (thread: string) => readText(`/proc/${pid}/task/${thread}/children`).split(' ')
  return threadsOf(pid).flatMap(children).filter(Boolean).map(Number)
}

/** Name of the program, up to 15 bytes. Empty where the process is gone. */
export function programOf(pid: number): string {
  return readText(`/proc/${pid}/comm`).trimEnd()
}

/** The most memory that it had in RAM since it began or since `resetPeak`, in bytes. 0 where it is gone. */
export function peakBytesOf(pid: number): number {
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readText(`/proc/${pid}/status`))?.[1] ?? '0'
  return Number(kibibytes) * kibibyte
}

/** Lets the peak of memory begin anew at what it has now. */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

function readTimes(pid: number): { own: number; children: number } {
  // The name of the program comes second and may hold anything, also parentheses and spaces.
  const fields = readText(`/proc/${pid}/stat`).split(') ').at(-1)!.split(' ').map(Number)
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15)
  return { own: (user + system) / ticksPerSecond, children: (childUser + childSystem) / ticksPerSecond }
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isGone(error)) return ''
    throw error
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ESRCH'
}
