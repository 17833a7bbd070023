import { EventEmitter } from 'node:events'
import { Catalog } from '../catalog/catalog.ts'
import { chooseHome, findHome } from '../config/home.ts'
import { type Configuration, loadConfiguration } from '../config/load.ts'
import type { ExitCode } from '../exit-codes.ts'
import { escapeJson } from '../json-text.ts'
import { openRepository } from '../storage/repository.ts'
import { printable } from './printable.ts'

/** The process around a command; a test gives its own. */
export interface Surroundings {
  environment: Readonly<Record<string, string | undefined>>
  workingDirectory: string
  /** The user that runs the program. */
  uid: number
  /** Milliseconds since 1970. */
  now: () => number
  stdout: Output
  stderr: Output
  /** What a command reads that was not given all of its arguments; not there: nothing. */
  stdin?: AsyncIterable<Buffer | string> & { isTTY?: boolean }
}

/** Of a stream for output, what is used of it. */
export interface Output {
  write(data: string | Uint8Array): unknown
  isTTY?: boolean
  /** Of a stream: more was written than its reader has taken. */
  writableNeedDrain?: boolean
}

/** Options that every command has. */
export interface GlobalOptions {
  home?: string
  verbose?: boolean
  quiet?: boolean
  json?: boolean
}

/** One call of the program: what it was given, and what it says and returns. */
export class Invocation {
  readonly surroundings: Surroundings
  /** Set before a command's action is called. */
  options: GlobalOptions = {}
  /** What the process will return, unless an error decides. */
  exitCode: ExitCode = 0
  /** Standard output is taken by bytes that were asked for: results go to standard error then. */
  stdoutIsTaken = false

  constructor(surroundings: Surroundings) {
    this.surroundings = surroundings
  }

  /** The home that was chosen, an absolute path. Throws `ConfigurationError` where it is none. */
  findHome(): string {
    return findHome(this.#homeSources())
  }

  /** As `findHome`, for a home that may have to be made. */
  chooseHome(): string {
    return chooseHome(this.#homeSources()).home
  }

  /** Settings and hosts of the home; see `loadConfiguration`. */
  loadConfiguration(): Promise<Configuration> {
    return loadConfiguration(this.findHome(), this.surroundings)
  }

  /** Opens the catalog of the home's repository, for commands that only look. The caller disposes of it. */
  async openCatalog(): Promise<Catalog> {
    const { settings } = await this.loadConfiguration()
    const repository = await openRepository(settings.repository)
    return new Catalog(repository.catalogFile, { now: this.surroundings.now })
  }

  /**
   * Gives the result of the command on standard output: `value` as one line of JSON with `--json`, `lines` for people
   * without. Names and paths in the lines have gone through `printable`.
   */
  report(value: unknown, lines: readonly string[]): void {
    const text = this.options.json ? escapeJson(JSON.stringify(value)) : lines.join('\n')
    const { stdout, stderr } = this.surroundings
    ;(this.stdoutIsTaken ? stderr : stdout).write(`${text}\n`)
  }

  /** Whoever reads standard output is behind: what it can do without is better left out. */
  get outputIsBehind(): boolean {
    return this.surroundings.stdout.writableNeedDrain === true
  }

  /**
   * Resolves when the reader of standard output has caught up; `undefined` where it has. Whoever writes without end awaits
   * it after each piece: what is not read is kept in memory. A reader that goes away ends the program.
   */
  outputReady(): Promise<void> | undefined {
    const { stdout } = this.surroundings
    if (!this.outputIsBehind || !(stdout instanceof EventEmitter)) return undefined
    return new Promise((resolve) => {
      stdout.once('drain', resolve)
    })
  }

  /** Tells people something by the way, on standard error; not with `--quiet`. */
  note(text: string): void {
    if (!this.options.quiet) this.warn(text)
  }

  /** Tells people something on standard error, also with `--quiet`. */
  warn(text: string): void {
    this.surroundings.stderr.write(`${text.split('\n').map(printable).join('\n')}\n`)
  }

  #homeSources() {
    const { environment, workingDirectory } = this.surroundings
    return { option: this.options.home, environment: environment.BACKUP_SERVER_HOME, workingDirectory }
  }
}
