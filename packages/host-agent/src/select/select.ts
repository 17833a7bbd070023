import {
  type BytePath,
  bytesFromText,
  holdsNoData,
  isSafePath,
  MountTable,
  noVerdict,
  type Root,
  type RootRules,
  RuleBook,
  textFromBytes,
  whyNotEntered,
} from '@central-backup/archive'
import fastGlob from 'fast-glob'
import { findMatches, type GlobMatch, whyTooSlowToFind } from './glob.ts'
import { type Resolution, resolvePath, splitPath } from './resolve-path.ts'

/** An absolute path or a glob, and what of it is not packed. Where `oneFileSystem` is not given, it is so for `/`. */
export interface SelectPath {
  path: BytePath
  rules?: RootRules
}

export interface SelectRequest {
  paths: readonly SelectPath[]
  /** Patterns of `compileExclusion`, for all paths; before their own. */
  exclude: readonly string[]
  /** Patterns that come after all others. */
  excludeLast?: readonly string[]
  /** What the policy lets the server read, without leading `/`. */
  allowed: readonly BytePath[]
}

export type SelectProblemCode =
  | 'path-invalid'
  | 'path-not-allowed'
  | 'path-not-found'
  | 'path-unreadable'
  | 'path-is-link'
  | 'path-without-data'
  | 'pattern-matched-nothing'

/** Something about a path of the request that its author should know. */
export interface SelectProblem {
  code: SelectProblemCode
  path: BytePath
  message: string
}

/** A match of a pattern that is not packed, as what is mounted there holds no data. */
export interface UnselectedMount {
  path: BytePath
  message: string
}

export interface Selected {
  roots: Root[]
  unselected: UnselectedMount[]
  problems: SelectProblem[]
  /** How many named paths cannot be packed at all. */
  missing: number
}

type Refusal = Exclude<Resolution, { kind: 'resolved' | 'not-found' }>

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
 * literally, also where it has glob characters. Synchronous: for a thread of its own, since each path may lie on a mount
 * that hangs; `approach` is told of each before it is looked at.
 *
 * Throws a `TypeError` where an exclude pattern cannot be understood.
 */
export function selectPaths(request: SelectRequest, approach: (path: BytePath) => void): Selected {
  const selection = new PathSelection(request, approach)
  for (const one of request.paths) selection.add(one)
  return selection.result()
}

class PathSelection {
  readonly #allowed: readonly BytePath[]
  readonly #book: RuleBook
  readonly #approach: (path: BytePath) => void
  readonly #mounts = MountTable.read()
  readonly #uid = process.geteuid!()
  readonly #roots = new Map<BytePath, Root & { named: boolean }>()
  readonly #unselected: UnselectedMount[] = []
  /** Of the path that is being added. */
  #rules: RootRules | undefined
  #rulesOfAll: RootRules = { oneFileSystem: true }
  readonly #problems: SelectProblem[] = []

  constructor(request: SelectRequest, approach: (path: BytePath) => void) {
    this.#allowed = request.allowed
    const { exclude, excludeLast = [], paths } = request
    this.#book = new RuleBook({ exclude, excludeLast, roots: [] })
    for (const { rules = null } of paths) this.#book.of({ rules })
    this.#approach = approach
  }

  add({ path: written, rules }: SelectPath): void {
    this.#rules = rules
    this.#rulesOfAll = { ...rules, oneFileSystem: rules?.oneFileSystem ?? true }
    const path = splitPath(written).join('/') as BytePath
    if (!isAcceptable(written, path)) {
      this.#problem('path-invalid', written, 'a path must be absolute, without .. and NUL')
      return
    }
    this.#approach(path)
    const alternatives = this.#exists(path) ? [written] : this.#alternatives(written)
    const found = alternatives.map((alternative) => this.#addAlternative(alternative))
    if (found.includes(true) || found.length === 0) return
    if (isPattern(written)) this.#problem('pattern-matched-nothing', path, 'the pattern matches nothing')
    else this.#problem('path-not-found', path, 'it does not exist')
  }

  /** What the braces of a pattern stand for: each is taken as if it had been written by itself. */
  #alternatives(written: BytePath): BytePath[] {
    try {
      return expandBraces(textFromBytes(written)).map(bytesFromText)
    } catch (error) {
      this.#problem('path-invalid', written, `its braces cannot be expanded: ${(error as Error).message}`)
      return []
    }
  }

  result(): Selected {
    const missing = this.#problems.filter(({ code }) => missingCodes.has(code)).length
    const roots = [...this.#roots.values()].map(({ named: _, ...root }) => root)
    return { roots, unselected: this.#unselected, problems: this.#problems, missing }
  }

  /** False where there is no such path. */
  #addPath(path: BytePath, followLast: boolean): boolean {
    const resolution = resolvePath(path, this.#allowed, followLast)
    if (resolution.kind === 'not-found') return false
    if (resolution.kind !== 'resolved') {
      this.#unresolved(path, resolution)
      return true
    }
    this.#addRoots(resolution.path, resolution.links, true)
    this.#warnOfNoData(resolution.path)
    if (resolution.isLink) {
      this.#problem(
        'path-is-link',
        path,
        `only the link is packed, not what it points at; write /${textFromBytes(path)}/ to follow it`,
      )
    }
    return true
  }

  /** False where it stands for nothing that is there. A problem with it is told, and then it is true. */
  #addAlternative(written: BytePath): boolean {
    const components = splitPath(written)
    const path = components.join('/') as BytePath
    const onlyFolders = written.endsWith('/')
    if (!isPattern(written) || this.#exists(path)) return this.#addPath(path, onlyFolders)
    const { base, rest } = splitPattern(components)
    if (!isAcceptable(written, base)) {
      this.#problem('path-invalid', written, 'a pattern must be absolute, without .. and NUL')
      return true
    }
    if (rest === '') return this.#addPath(base, onlyFolders)
    const tooSlow = whyTooSlowToFind(rest)
    if (tooSlow !== null) {
      this.#problem('path-invalid', written, tooSlow)
      return true
    }
    const resolution = resolvePath(base, this.#allowed, true)
    if (resolution.kind === 'not-found') return false
    if (resolution.kind !== 'resolved') {
      this.#unresolved(path, resolution)
      return true
    }
    const matches = this.#expand(resolution.path, rest, onlyFolders)
    if (matches.length > 0) this.#warnOfNoData(resolution.path)
    for (const { path, isDirectory } of matches) {
      if (this.#isExcluded(path, resolution.path, isDirectory)) continue
      const why = this.#whyNotEntered(path)
      if (why === null) this.#addRoots(path, resolution.links, false)
      else this.#unselected.push({ path, message: why })
    }
    return matches.length > 0
  }

  #expand(base: BytePath, pattern: string, onlyDirectories: boolean): GlobMatch[] {
    const onUnreadable = (path: BytePath, message: string) => this.#problem('path-unreadable', path, message)
    return findMatches(base, withoutDepth(pattern), onlyDirectories, {
      onUnreadable,
      approach: this.#approach,
      isClosed: (path) => this.#whyNotEntered(path) !== null,
    })
  }

  /** What is named is packed; but what most of these files have, nobody gets by their size, which is 0. */
  #warnOfNoData(path: BytePath): void {
    const mount = this.#mounts.holding(path)
    if (mount === null || !holdsNoData(mount)) return
    const message = `it lies in ${mount.type}, which holds no data: files there that say that they have no bytes come empty`
    this.#problem('path-without-data', path, message)
  }

  /** A pattern finds what is mounted only where a walk would go in by itself. */
  #whyNotEntered(path: BytePath): string | null {
    const mount = this.#mounts.at(path)
    const why = mount === null ? null : whyNotEntered(mount, this.#uid)
    return why === null ? null : `a file system ${why}`
  }

  /** A match of a pattern, unlike a path that was named, is subject to the excludes, as is all that leads to it. */
  #isExcluded(path: BytePath, base: BytePath, isDirectory: boolean): boolean {
    const { exclusion } = this.#book.of({ rules: this.#rules ?? null })
    const components = path.split('/') as BytePath[]
    let verdict = noVerdict
    for (let count = splitPath(base).length + 1; count <= components.length; count++) {
      const ancestor = components.slice(0, count).join('/') as BytePath
      const folder = isDirectory || count < components.length
      verdict = exclusion.judge(ancestor, components[count - 1]!, folder, verdict)
    }
    return exclusion.leavesOut(verdict)
  }

  /** Of several with one path, one that is named counts before one that a pattern matches, and else the last. */
  #addRoots(path: BytePath, links: readonly BytePath[], named: boolean): void {
    for (const link of links)
      if (!this.#roots.has(link)) this.#roots.set(link, { path: link, recursive: false, named })
    const before = this.#roots.get(path)
    if (before?.recursive && before.named && !named) return
    const rules = path === '' ? this.#rulesOfAll : this.#rules
    this.#roots.set(path, { path, recursive: true, named, ...(rules && { rules }) })
    if (this.#roots.size > rootsMax) {
      throw new RangeError(
        `the patterns match more than ${rootsMax} paths; name folders instead, and exclude what is not wanted`,
      )
    }
  }

  #exists(path: BytePath): boolean {
    return resolvePath(path, this.#allowed, false).kind === 'resolved'
  }

  #unresolved(path: BytePath, resolution: Refusal): void {
    if (resolution.kind === 'unreadable') this.#problem('path-unreadable', path, resolution.message)
    else this.#problem('path-not-allowed', path, 'the settings of the host do not allow to read it')
  }

  /** Of a path as it was written, or without its leading `/`. */
  #problem(code: SelectProblemCode, path: BytePath, message: string): void {
    this.#problems.push({ code, path: path.replace(/^\/+/, '') as BytePath, message })
  }
}

function isAcceptable(written: BytePath, path: BytePath): boolean {
  return written.startsWith('/') && (path === '' || isSafePath(path))
}

function isPattern(written: BytePath): boolean {
  return fastGlob.isDynamicPattern(textFromBytes(written))
}

/** The patterns that a pattern with braces stands for. Throws where they are too long or stand for too many. */
function expandBraces(pattern: string): string[] {
  return fastGlob.generateTasks(pattern).flatMap(({ positive }) => positive)
}

const escaped = /\\(.)/gs

/** Cuts a pattern before its first component that has a glob character; what is before it loses its escapes. */
function splitPattern(components: readonly BytePath[]): { base: BytePath; rest: string } {
  const texts = components.map(textFromBytes)
  const magic = texts.findIndex(hasMagic)
  const count = magic < 0 ? texts.length : magic
  const base = texts.slice(0, count).map((text) => text.replace(escaped, '$1'))
  return { base: bytesFromText(base.join('/')), rest: texts.slice(count).join('/') }
}

/**
 * A folder is packed with all that lies in it. So what `**` at the end of a pattern would match further down is there
 * already, and need not be found one by one.
 */
function withoutDepth(pattern: string): string {
  return pattern.replace(/(^|\/)(\*\*?(?:\/\*\*?)*)$/, (whole, before: string, run: string) => {
    const stars = run.split('/')
    if (!stars.includes('**')) return whole
    const levels = stars.filter((one) => one === '*').length + (run.endsWith('**') ? 1 : 0)
    return before + Array(levels).fill('*').join('/')
  })
}

function hasMagic(component: string): boolean {
  const bare = component.replace(escaped, '')
  return bare !== '' && fastGlob.isDynamicPattern(bare, { braceExpansion: false })
}
