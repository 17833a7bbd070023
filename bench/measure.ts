/** Runs commands and measures them: time, CPU and memory of all processes that have a part in the work. */
import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import {
  childrenOf,
  cpuSecondsOf,
  cpuSecondsOfChildren,
  peakBytesOf,
  processTree,
  programOf,
  resetPeak,
} from './process-usage.ts'

const sampleEveryMs = 30
const idleCheckMs = 50
/** Not even a daemon that is never idle holds a bench up. */
const idleWaitMaxMs = 10_000
const errorTextMax = 8192

export interface Command {
  argv: readonly string[]
  cwd?: string
  /** Besides `PATH`, `HOME` and a language without surprises. */
  env?: Readonly<Record<string, string>>
  /** What its first process is called in figures of memory; by default, the program. */
  name?: string
}

/** A process that outlives the works that it has a part in. */
export interface Daemon {
  name: string
  pid: number
}

export interface Measurement {
  seconds: number
  /** User and system, of all processes. */
  cpuSeconds: number
  /** The peak of each process that was seen and, of daemons, did something. */
  processes: { name: string; peakBytes: number }[]
}

/** Starts commands, and ends them all when `signal` tells. */
export class Runner implements AsyncDisposable {
  readonly signal: AbortSignal
  readonly #home: string
  readonly #running = new Set<ChildProcess>()

  /** `home` is what programs are told to be the user's folder: nothing outside of it may change what they do. */
  constructor(home: string, signal: AbortSignal) {
    this.#home = home
    this.signal = signal
    signal.addEventListener('abort', () => {
      for (const child of this.#running) endTree(child)
    })
  }

  /** Runs it to its end. Throws where it fails, with what it said. */
  async run(command: Command): Promise<void> {
    await this.#untilEnd(this.start(command), command)
  }

  /** Runs it to its end and measures it, together with what `daemons` do for it in the meantime. */
  async measure(command: Command, daemons: readonly Daemon[]): Promise<Measurement> {
    const daemonsBefore = await cpuOfIdle(daemons)
    const childrenBefore = cpuSecondsOfChildren()
    for (const { pid } of daemons) resetPeak(pid)
    const seen = new Map<number, { name: string; peakBytes: number }>()
    const startedMs = performance.now()
    const child = this.start(command)
    const sample = () => {
      for (const pid of processTree(child.pid!)) note(seen, pid, pid === child.pid ? command.name : undefined)
      // Daemons themselves are still there when all is over.
      for (const pid of daemons.flatMap((daemon) => processTree(daemon.pid).slice(1))) note(seen, pid)
    }
    const timer = setInterval(sample, sampleEveryMs)
    try {
      await this.#untilEnd(child, command)
    } finally {
      clearInterval(timer)
    }
    const seconds = (performance.now() - startedMs) / 1000
    let cpuSeconds = cpuSecondsOfChildren() - childrenBefore
    for (const [index, used] of (await cpuOfIdle(daemons)).entries()) {
      const { name, pid } = daemons[index]!
      cpuSeconds += used - daemonsBefore[index]!
      if (used > daemonsBefore[index]!) note(seen, pid, name)
    }
    return { seconds, cpuSeconds, processes: [...seen.values()] }
  }

  /** Starts it without waiting for it. It is ended with the runner, if it is still there. */
  start(command: Command): ChildProcess {
    this.signal.throwIfAborted()
    const [program, ...args] = command.argv
    const child = spawn(program!, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      // A group of its own: Ctrl-C reaches the bench alone, which then ends all in order.
      detached: true,
      env: { PATH: process.env.PATH, HOME: this.#home, LANG: 'C.UTF-8', ...command.env },
      ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
    })
    this.#running.add(child)
    child.on('close', () => this.#running.delete(child))
    return child
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = [...this.#running].map(
      (child) => new Promise<void>((resolve) => child.once('close', () => resolve())),
    )
    for (const child of this.#running) endTree(child)
    await Promise.all(ended)
  }

  #untilEnd(child: ChildProcess, { argv }: Command): Promise<void> {
    let text = ''
    child.stderr!.setEncoding('utf8').on('data', (piece: string) => {
      text = (text + piece).slice(-errorTextMax)
    })
    return new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) => {
        if (this.signal.aborted) reject(this.signal.reason)
        else if (code === 0) resolve()
        else reject(new Error(`${argv.join(' ')}: ended with ${signal ?? code}\n${text.trimEnd()}`))
      })
    })
  }
}

/** Ends the process, its group, and all that descends from it in groups of their own. */
export function endTree(child: ChildProcess): void {
  if (child.pid === undefined) return
  for (const pid of [-child.pid, ...processTree(child.pid)]) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** What each daemon has used once none has anything more to do: work after the client has gone counts as well. */
async function cpuOfIdle(daemons: readonly Daemon[]): Promise<number[]> {
  if (daemons.length === 0) return []
  const used = () => daemons.map(({ pid }) => cpuSecondsOf(pid))
  const startedMs = performance.now()
  for (let last = used(); ; ) {
    await pause(idleCheckMs)
    const now = used()
    const isIdle = daemons.every(
      ({ pid }, index) => now[index] === last[index] && childrenOf(pid).length === 0,
    )
    if (isIdle || performance.now() - startedMs > idleWaitMaxMs) return now
    last = now
  }
}

function note(seen: Map<number, { name: string; peakBytes: number }>, pid: number, name?: string): void {
  const peakBytes = peakBytesOf(pid)
  if (peakBytes === 0) return
  const before = seen.get(pid)?.peakBytes ?? 0
  // A process may become another program: what it was called last is what it is.
  seen.set(pid, { name: name ?? programOf(pid), peakBytes: Math.max(before, peakBytes) })
}
