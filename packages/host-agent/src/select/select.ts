import {
  type BytePath,
  bytesFromText,
  compileExclusion,
  type Exclusion,
  isSafePath,
  isWithin,
  type Root,
  textFromBytes,
} from '@central-backup/archive'
import fastGlob from 'fast-glob'
import { globFileSystem } from './glob-file-system.ts'
import { type Resolution, resolvePath, splitPath } from './resolve-path.ts'

export interface SelectRequest {
  /** Absolute paths and globs. */
  paths: readonly BytePath[]
  /** Patterns of `compileExclusion`. */
  exclude: readonly string[]
  /** What the policy lets the server read, without leading `/`. */
  allowed: readonly BytePath[]
}

export type SelectProblemCode =
  | 'path-invalid'
  | 'path-not-allowed'
  | 'path-not-found'
  | 'path-unreadable'
  | 'path-is-link'
  | 'pattern-matched-nothing'

/** Something about a path of the request that its author should know. */
export interface SelectProblem {
  code: SelectProblemCode
  path: BytePath
  message: string
}

export interface Selected {
  roots: Root[]
  problems: SelectProblem[]
  /** How many named paths cannot be packed at all. */
  missing: number
}

/** Roots that one request may select; a pattern that matches more should name a folder. */
const rootsMax = 200_000

/** Problems that mean that something which was named will not be in the archive. */
const missingCodes: ReadonlySet<SelectProblemCode> = new Set([
  'path-invalid',
  'path-not-allowed',
  'path-not-found',
  'path-unreadable',
])

/**
 * Turns the paths and globs of a request into the roots of a walk. A path that exists as it is written is taken
 * literally, also where it has glob characters. Synchronous: for a thread of its own, as any path may lie on a mount
 * that hangs; `approach` is told of each before it is looked at.
 *
 * Throws a `TypeError` where an exclude pattern cannot be understood.
 */
export function selectPaths(request: SelectRequest, approach: (path: BytePath) => void): Selected {
  const selection = new PathSelection(request, approach)
  for (const path of request.paths) selection.add(path)
  return selection.result()
}

class PathSelection {
  readonly #allowed: readonly BytePath[]
  readonly #exclusion: Exclusion
  readonly #approach: (path: BytePath) => void
  readonly #roots = new Map<BytePath, Root>()
  readonly #problems: SelectProblem[] = []

  constructor(request: SelectRequest, approach: (path: BytePath) => void) {
    this.#allowed = request.allowed
    this.#exclusion = compileExclusion(request.exclude)
    this.#approach = approach
  }

  add(written: BytePath): void {
    const path = splitPath(written).join('/') as BytePath
    if (!written.startsWith('/') || (path !== '' && !isSafePath(path))) {
      this.#problem('path-invalid', written, 'a path must be absolute, without .. and NUL')
      return
    }
    this.#approach(path)
    const dynamic = fastGlob.isDynamicPattern(textFromBytes(written))
    const base = dynamic ? staticBase(path) : path
    if (!this.#allowed.some((one) => isWithin(base, one))) {
      this.#problem('path-not-allowed', path, 'the settings of the host do not allow to read it')
    } else if (dynamic && !this.#exists(path)) this.#addPattern(path, base)
    else this.#addPath(path, written.endsWith('/'))
  }

  result(): Selected {
    const missing = this.#problems.filter(({ code }) => missingCodes.has(code)).length
    return { roots: [...this.#roots.values()], problems: this.#problems, missing }
  }

  #addPath(path: BytePath, followLast: boolean): void {
    const resolution = resolvePath(path, this.#allowed, followLast)
    if (resolution.kind !== 'resolved') {
      this.#unresolved(path, resolution)
      return
    }
    this.#addRoots(resolution.path, resolution.links)
    if (resolution.isLink) {
      this.#problem(
        'path-is-link',
        path,
        `only the link is packed, not what it points at; write /${textFromBytes(path)}/ to follow it`,
      )
    }
  }

  #addPattern(pattern: BytePath, base: BytePath): void {
    const resolution = resolvePath(base, this.#allowed, true)
    if (resolution.kind === 'not-found') {
      this.#problem('pattern-matched-nothing', pattern, `there is no /${textFromBytes(base)}`)
      return
    }
    if (resolution.kind !== 'resolved') {
      this.#unresolved(pattern, resolution)
      return
    }
    const relative = pattern.slice(base === '' ? 0 : base.length + 1)
    let matched = 0
    for (const match of this.#expand(resolution.path, textFromBytes(relative as BytePath))) {
      matched++
      if (!this.#isExcluded(match, resolution.path)) this.#addRoots(match, resolution.links)
    }
    if (matched === 0) this.#problem('pattern-matched-nothing', pattern, 'the pattern matches nothing')
  }

  #expand(base: BytePath, pattern: string): BytePath[] {
    const fs = globFileSystem(
      (path, message) => this.#problem('path-unreadable', path.slice(1) as BytePath, message),
      this.#approach,
    )
    const cwd = `/${textFromBytes(base)}`
    // A folder is packed with all that lies in it, so what ** would add at the end is there already.
    const shortened = pattern.replace(/(^|\/)\*\*(\/\*\*?)*$/, '$1*')
    const options = {
      cwd,
      fs,
      dot: true,
      followSymbolicLinks: false,
      onlyFiles: false,
      unique: true,
    } as const
    return fastGlob
      .sync(shortened, options)
      .map((name) => splitPath(`${base}/${bytesFromText(name)}`).join('/') as BytePath)
  }

  /** A match of a pattern, unlike a path that was named, is subject to the excludes, as is all that leads to it. */
  #isExcluded(path: BytePath, base: BytePath): boolean {
    const components = path.split('/') as BytePath[]
    for (let count = splitPath(base).length + 1; count <= components.length; count++) {
      const ancestor = components.slice(0, count).join('/') as BytePath
      if (this.#exclusion.excludes(ancestor, components[count - 1]!, count < components.length)) return true
    }
    return false
  }

  #addRoots(path: BytePath, links: readonly BytePath[]): void {
    for (const link of links)
      if (!this.#roots.has(link)) this.#roots.set(link, { path: link, recursive: false })
    this.#roots.set(path, { path, recursive: true })
    if (this.#roots.size > rootsMax) {
      throw new RangeError(
        `the patterns match more than ${rootsMax} paths; name folders instead, and exclude what is not wanted`,
      )
    }
  }

  #exists(path: BytePath): boolean {
    return resolvePath(path, this.#allowed, false).kind === 'resolved'
  }

  #unresolved(path: BytePath, resolution: Exclude<Resolution, { kind: 'resolved' }>): void {
    if (resolution.kind === 'not-found') this.#problem('path-not-found', path, 'it does not exist')
    else if (resolution.kind === 'unreadable') this.#problem('path-unreadable', path, resolution.message)
    else this.#problem('path-not-allowed', path, 'the settings of the host do not allow to read it')
  }

  #problem(code: SelectProblemCode, path: BytePath, message: string): void {
    this.#problems.push({ code, path, message })
  }
}

/** The folder above the first component that has a glob character. */
function staticBase(pattern: BytePath): BytePath {
  const magic = pattern.search(/[*?[{\\]|[!+@]?\(/)
  const slash = pattern.lastIndexOf('/', magic)
  return pattern.slice(0, Math.max(0, slash)) as BytePath
}
