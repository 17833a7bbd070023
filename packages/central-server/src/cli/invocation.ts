import { EventEmitter } from 'node:events'
import { Catalog } from '../catalog/catalog.ts'
import type { Watched } from '../catalog/watched-rows.ts'
import { chooseHome, findHome } from '../config/home.ts'
import { type Configuration, loadConfiguration } from '../config/load.ts'
import type { CatalogError } from '../errors.ts'
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
  /** What is wrong with the catalog that the command goes on with all the same. */
  catalogDamage: CatalogError | null = null

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

  /**
   * Opens a catalog for commands that only look, without what is damaged of its runs: that is told at once, and as the
   * last of what the command says. Of others than those of `hosts`, if that is given, only where something is wrong
   * with these. The caller disposes of it.
   */
  openCatalogToRead(file: string, hosts?: readonly string[]): Catalog {
    const watched = hosts && { hosts }
    const catalog = new Catalog(file, { now: this.surroundings.now, toRead: true, watched })
    if (catalog.damage === null) return catalog
    const { error, runs } = catalog.damage
    this.catalogDamage = error
    const named = runs.map(({ id, host }) => `${id}${host === null ? '' : ` (${host})`}`)
    const left =
      named.length === 0
        ? ''
        : ` Left out: run ${named.slice(0, 10).join(', ')}${named.length > 10 ? ' …' : ''}.`
    this.warn(
      `Warning: ${error.message}.${left} Nothing is backed up or removed until \`backup-server catalog rebuild\` was run, but for other hosts that are named.`,
    )
    return catalog
  }

  /** Opens the catalog of the home's repository, for who changes what is `watched`. The caller disposes of it. */
  async openCatalog(watched: Watched): Promise<Catalog> {
    return new Catalog(await this.findCatalog(), { now: this.surroundings.now, watched })
  }

  /** Where the catalog of the home's repository is. */
  async findCatalog(): Promise<string> {
    const { settings } = await this.loadConfiguration()
    return (await openRepository(settings.repository)).catalogFile
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
