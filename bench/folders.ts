/** Folders of a bench: one for all it makes, which no other bench uses at the same time. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** `trees` stays for the next bench, `work` goes at the end. */
export class BenchFolder implements Disposable {
  readonly trees: string
  readonly work: string
  readonly #lock: string

  /** Throws where another bench that is still running has the folder. */
  constructor(path: string) {
    this.trees = join(path, 'trees')
    this.work = join(path, 'work')
    this.#lock = join(path, 'lock')
    mkdirSync(this.trees, { recursive: true })
    this.#takeLock(path)
    emptyFolder(this.work)
  }

  [Symbol.dispose](): void {
    rmSync(this.work, { recursive: true, force: true, maxRetries: 3 })
    rmSync(this.#lock, { force: true })
  }

  #takeLock(path: string): void {
    try {
      writeFileSync(this.#lock, String(process.pid), { flag: 'wx' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      const owner = Number(readFileSync(this.#lock, 'utf8'))
      if (isRunning(owner))
        throw new Error(`process ${owner} has a bench in ${path}; --dir takes another folder`)
      rmSync(this.#lock)
      this.#takeLock(path)
    }
  }
}

/**
 * Folders to restore to: a new one each time. They are removed together, much later: ext4 takes five times as long to make
 * files within a minute or more of the removal of many others.
 */
export class RestoreTargets {
  readonly #folder: string
  #made = 0

  constructor(folder: string) {
    this.#folder = folder
  }

  /** The newest. */
  get current(): string {
    return join(this.#folder, String(this.#made))
  }

  makeNext(): void {
    this.#made++
    mkdirSync(this.current, { recursive: true })
  }

  removeAll(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function emptyFolder(path: string): void {
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path, { recursive: true })
}

/** Puts a copy of a folder, with all attributes, in the place of another one. */
export function copyFolder(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true })
  execFileSync('cp', ['-a', '--reflink=auto', from, to])
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
