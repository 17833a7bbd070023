/** The real programs as child processes: started, followed by what they print, and never left behind. */
import { type ChildProcess, spawn } from 'node:child_process'
import { StringDecoder } from 'node:string_decoder'
import { processTree } from '../../bench/process-usage.ts'
import { compileCache, programFile } from '../../scripts/built-programs.ts'

/** How long a test waits for anything that should happen soon. Not a pause: it only ends a test that hangs. */
export const patienceMs = 60_000

/** A line of JSON: of the log of an agent, or of what backup-server prints with `--json`. */
export interface JsonLine {
  [key: string]: unknown
  // What most lines have, so that tests need no casts.
  level?: string
  msg?: string
  code?: string
  event?: string
  host?: string
}

export interface Ended {
  /** `null` where a signal ended it. */
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** The lines of standard output and of standard error that are JSON objects. */
  json: JsonLine[]
  log: JsonLine[]
}

export interface StartOptions {
  cwd?: string
  env?: Readonly<Record<string, string>>
  /** A program and its arguments that the command is put behind, like `strace`. */
  wrapper?: readonly string[]
  input?: string
  /** What the process is bounded by: `node --max-old-space-size=…` and the like. */
  nodeOptions?: readonly string[]
}

const alive = new Set<Program>()
process.on('exit', () => {
  for (const program of alive) program.kill('SIGKILL')
})

/** A program that was started. Disposing of it kills it, if it is still there, and waits until it is gone. */
export class Program implements AsyncDisposable {
  readonly child: ChildProcess
  /** Resolves when it has ended and its output was read. Never rejects. */
  readonly ended: Promise<Ended>
  stdout = ''
  stderr = ''
  #running = true
  readonly #listeners = new Set<() => void>()

  constructor(command: readonly string[], options: StartOptions = {}) {
    const [program, ...args] = [...(options.wrapper ?? []), ...command]
    this.child = spawn(program!, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Nothing of the environment may change what it does.
      env: {
        PATH: process.env.PATH,
        HOME: '/nonexistent',
        TZ: 'UTC',
        NODE_COMPILE_CACHE: compileCache(),
        ...options.env,
      },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    alive.add(this)
    this.child.stdin!.on('error', () => {})
    this.child.stdin!.end(options.input ?? '')
    const [out, err] = [new StringDecoder(), new StringDecoder()]
    this.child.stdout!.on('data', (piece: Buffer) => {
      this.stdout += out.write(piece)
      this.#changed()
    })
    this.child.stderr!.on('data', (piece: Buffer) => {
      this.stderr += err.write(piece)
      this.#changed()
    })
    const { promise, resolve } = Promise.withResolvers<Ended>()
    this.ended = promise
    const end = (code: number | null, signal: NodeJS.Signals | null) => {
      this.#running = false
      alive.delete(this)
      this.#changed()
      const { stdout, stderr } = this
      resolve({ code, signal, stdout, stderr, json: jsonLines(stdout), log: jsonLines(stderr) })
    }
    this.child.on('error', (error) => {
      this.stderr += `${error.message}\n`
      end(null, null)
    })
    this.child.on('close', end)
  }

  /** Of the wrapper, where there is one. */
  get pid(): number {
    return this.child.pid!
  }

  get running(): boolean {
    return this.#running
  }

  /** The lines of standard error that are JSON: the log of an agent. */
  get log(): JsonLine[] {
    return jsonLines(this.stderr)
  }

  /** The lines of standard output that are JSON. */
  get json(): JsonLine[] {
    return jsonLines(this.stdout)
  }

  /** Does nothing where it has ended. */
  kill(signal: NodeJS.Signals): void {
    if (this.#running && this.child.pid !== undefined) this.child.kill(signal)
  }

  /** Resolves with the first thing but `undefined` that `look` finds in what was printed. Rejects where it ends before. */
  until<T>(look: () => T | undefined, what = 'what is awaited'): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = look()
        if (found !== undefined) done(() => resolve(found))
        else if (!this.#running) done(() => reject(this.#unhappy(`ended before ${what}`)))
      }
      const done = (settle: () => void) => {
        clearTimeout(timer)
        this.#listeners.delete(check)
        settle()
      }
      const timer = setTimeout(() => done(() => reject(this.#unhappy(`never came to ${what}`))), patienceMs)
      this.#listeners.add(check)
      check()
    })
  }

  /** Resolves with the first line of the log, from line `from` on, for which `match` holds. */
  untilLogged(match: (line: JsonLine) => boolean, from = 0): Promise<JsonLine> {
    return this.until(() => this.log.slice(from).find(match), `the line ${match} of its log`)
  }

  /** The same for standard output. */
  untilPrinted(match: (line: JsonLine) => boolean, from = 0): Promise<JsonLine> {
    return this.until(() => this.json.slice(from).find(match), `the line ${match} of its output`)
  }

  /** Waits for its end; rejects, and kills it, where that takes longer than `ms`. */
  async endWithin(ms: number): Promise<Ended> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), ms)
    })
    const first = await Promise.race([this.ended, late])
    clearTimeout(timer)
    if (first !== 'late') return first
    const error = this.#unhappy(`did not end within ${ms / 1000} s`)
    await this[Symbol.asyncDispose]()
    throw error
  }

  /** With what it started: a wrapper that is killed, like strace, leaves what it wraps. */
  async [Symbol.asyncDispose](): Promise<void> {
    const started = this.#running && this.child.pid !== undefined ? processTree(this.child.pid).slice(1) : []
    this.kill('SIGKILL')
    for (const pid of started) killIfThere(pid)
    await this.ended
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  #unhappy(what: string): Error {
    const command = this.child.spawnargs.join(' ')
    return new Error(`${command} ${what}\nstdout: ${tail(this.stdout)}\nstderr: ${tail(this.stderr)}`)
  }
}

export function startServer(args: readonly string[], options: StartOptions = {}): Program {
  return new Program(
    [process.execPath, ...(options.nodeOptions ?? []), programFile('central-server'), ...args],
    options,
  )
}

export function startAgent(args: readonly string[], options: StartOptions = {}): Program {
  return new Program(
    [process.execPath, ...(options.nodeOptions ?? []), programFile('host-agent'), ...args],
    options,
  )
}

/** Runs any program to its end. */
export function runCommand(command: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return new Program(command, options).endWithin(patienceMs)
}

/** The whole lines of a text that are JSON objects. */
export function jsonLines(text: string): JsonLine[] {
  const lines: JsonLine[] = []
  // The last piece has no end yet.
  for (const line of text.split('\n').slice(0, -1)) {
    if (!line.startsWith('{')) continue
    try {
      lines.push(JSON.parse(line) as JsonLine)
    } catch {
      // A line for people.
    }
  }
  return lines
}

function tail(text: string): string {
  return text.length > 4000 ? `…${text.slice(-4000)}` : text
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
