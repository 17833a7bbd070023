import picomatch from 'picomatch'
import { type BytePath, textFromBytes } from '../path.ts'
import { shownBackslash, whyTooSlow, withPlainCharacters } from './glob-cost.ts'
import { plainGlobSource } from './plain-glob.ts'

/** An exclude pattern, taken apart. */
export interface ExcludePattern {
  /** It began with `!`. */
  takesBack: boolean
  /** It ended in `/`. */
  onlyDirectories: boolean
  /** The glob without those two marks. */
  glob: string
}

/** Takes a pattern apart, whatever it is. */
export function patternOf(pattern: string): ExcludePattern {
  const takesBack = pattern.startsWith('!')
  const bare = takesBack ? pattern.slice(1) : pattern
  const onlyDirectories = bare.endsWith('/')
  return { takesBack, onlyDirectories, glob: onlyDirectories ? bare.slice(0, -1) : bare }
}

/** Throws a `TypeError` that names the pattern where it cannot be understood. */
export function checkExcludePattern(pattern: string): void {
  const { takesBack, glob } = patternOf(pattern)
  if (glob === '' || glob === '**') {
    const effect = takesBack ? 'take back everything' : 'leave out everything'
    throw new TypeError(
      `the exclude pattern '${shownPattern(pattern)}' would ${effect}; remove it, or name a folder`,
    )
  }
  if (pattern.includes('\0'))
    throw new TypeError(`the exclude pattern '${shownPattern(pattern)}' contains a NUL byte`)
}

/** Patterns of which any one may match, compiled to be asked of every object of a tree. */
export interface GlobSet {
  /** `path` without its leading `/`; `name` is its last component. */
  matches(path: BytePath, name: BytePath, isDirectory: boolean): boolean
}

/** Marks at the beginning and the end of the patterns (`!`, `/`) have been understood by the caller, or are by this. */
export function compileGlobs(patterns: readonly string[]): GlobSet {
  const parts = patterns.map(patternOf)
  const ofAll = compileMatcher(parts.filter(({ onlyDirectories }) => !onlyDirectories))
  const ofDirectories = compileMatcher(parts.filter(({ onlyDirectories }) => onlyDirectories))
  return {
    matches(path, name, isDirectory) {
      if (ofAll === null && (ofDirectories === null || !isDirectory)) return false
      const text = textFromBytes(name)
      return (
        (ofAll?.matches(path, text) ?? false) ||
        (isDirectory && (ofDirectories?.matches(path, text) ?? false))
      )
    },
  }
}

function compileMatcher(patterns: readonly ExcludePattern[]): Matcher | null {
  if (patterns.length === 0) return null
  const matcher = new Matcher()
  for (const { glob } of patterns) matcher.add(glob)
  return matcher
}

/** A text in which nothing means more than itself. */
const literal = /^[A-Za-z0-9_@~#%:,= .-]{1,4096}$/

/**
 * Any of many globs. Most of those that people write are plain names, `*.ext` and plain paths: these are looked up, so
 * that hundreds of them cost no more than one. The others are regular expressions of many globs each, and of those with
 * a `/`, only where the name is one that their last component matches.
 */
class Matcher {
  readonly #names = new NameMatcher()
  readonly #paths = new Set<string>()
  /** Last components of the globs in `#pathGlobs`; `null` where one of them may end in any name. */
  #lastNames: NameMatcher | null = new NameMatcher()
  readonly #pathGlobs: string[] = []
  #pathPatterns: RegExp[] | null = null

  add(glob: string): void {
    const anyDepth = glob.replace(/^\/?\*\*\//, '')
    if (!anyDepth.includes('/')) {
      this.#names.add(anyDepth)
      return
    }
    const components = anyDepth.split('/')
    if (components[0] === '' && components.slice(1).every(isPlainName)) {
      this.#paths.add(anyDepth)
      return
    }
    this.#pathGlobs.push(globSource(anyDepth.startsWith('/') ? anyDepth : `**/${anyDepth}`))
    this.#pathPatterns = null
    const last = components.at(-1)!
    if (last === '' || last.includes('**') || !areWholeComponents(components)) this.#lastNames = null
    // Also where it is of no use: whether a pattern can be understood is not to depend on the others.
    else (this.#lastNames ?? new NameMatcher()).add(last)
  }

  matches(path: BytePath, name: string): boolean {
    if (this.#names.matches(name)) return true
    if (this.#paths.size === 0 && this.#pathGlobs.length === 0) return false
    const mayMatch = this.#pathGlobs.length > 0 && (this.#lastNames?.matches(name) ?? true)
    if (!mayMatch && this.#paths.size === 0) return false
    const text = `/${textFromBytes(path)}`
    if (this.#paths.has(text)) return true
    if (!mayMatch) return false
    this.#pathPatterns ??= unionOf(this.#pathGlobs)
    return this.#pathPatterns.some((pattern) => pattern.test(text))
  }
}

class NameMatcher {
  readonly #names = new Set<string>()
  readonly #extensions = new Set<string>()
  readonly #globs: string[] = []
  #patterns: RegExp[] | null = null

  add(glob: string): void {
    const extension = glob.startsWith('*.') ? glob.slice(2) : null
    if (isPlainName(glob)) this.#names.add(glob)
    else if (extension !== null && literal.test(extension) && !extension.includes('.'))
      this.#extensions.add(extension)
    else this.#globs.push(globSource(glob))
    this.#patterns = null
  }

  matches(name: string): boolean {
    if (this.#names.has(name)) return true
    if (this.#extensions.size > 0) {
      const dot = name.lastIndexOf('.')
      if (dot >= 0 && this.#extensions.has(name.slice(dot + 1))) return true
    }
    if (this.#globs.length === 0) return false
    this.#patterns ??= unionOf(this.#globs)
    return this.#patterns.some((pattern) => pattern.test(name))
  }
}

function isPlainName(component: string): boolean {
  return literal.test(component) && component !== '.' && component !== '..'
}

/** False where a brace, a bracket or a parenthesis holds a `/`, so that the components are no globs of their own. */
function areWholeComponents(components: readonly string[]): boolean {
  return components.every((component) => {
    const bare = component.replace(/\\./gs, '')
    const count = (character: string) => bare.split(character).length
    return count('{') === count('}') && count('[') === count(']') && count('(') === count(')')
  })
}

/**
 * Patterns for the folders below which one of `patterns` may match; `null` where that may be any folder. Says yes to too
 * many rather than to too few.
 */
export function leadingGlobs(patterns: readonly string[]): string[] | null {
  const leading: string[] = []
  for (const pattern of patterns) {
    const { glob } = patternOf(pattern)
    if (!glob.startsWith('/')) return null
    const components = glob.slice(1).split('/')
    for (let count = 1; count <= components.length; count++) {
      const whole = areWholeComponents(components.slice(0, count))
      if (!whole || components[count - 1]!.includes('**')) {
        if (count === 1) return null
        leading.push(`/${components.slice(0, count - 1).join('/')}/**`)
        break
      }
      if (count < components.length) leading.push(`/${components.slice(0, count).join('/')}`)
    }
  }
  return leading
}

/** No file system has longer paths, and of much longer ones no expression can be made. */
const globCharsMax = 4096

/** Two wildcards, and what else leaves them quick: each object of a tree is looked at. */
const waysMax = 2 ** 24

/** The source of a regular expression that matches the whole of what the glob matches. */
function globSource(glob: string): string {
  if (glob.length > globCharsMax)
    throw new TypeError(
      `the exclude pattern '${shownPattern(glob)}' is longer than ${globCharsMax} characters`,
    )
  return plainGlobSource(glob, true) ?? extendedGlobSource(glob)
}

function extendedGlobSource(glob: string): string {
  const tooSlow = whyTooSlow(glob, waysMax)
  if (tooSlow !== null) {
    const hint = 'without parentheses or unusual brackets or braces it may have any number of wildcards'
    throw new TypeError(
      `the exclude pattern '${shownPattern(glob)}' could take too long: ${tooSlow}; ${hint}`,
    )
  }
  const options = { dot: true, nonegate: true, posix: true, strictSlashes: true } as const
  let source: string
  try {
    const made = picomatch.makeRe(withPlainCharacters(glob), options).source
    source = new RegExp(made.replaceAll(shownBackslash, '\\\\'), 's').source
  } catch (error) {
    throw new TypeError(
      `the exclude pattern '${shownPattern(glob)}' cannot be understood: ${(error as Error).message}`,
    )
  }
  // What picomatch makes of a glob from which no regular expression comes.
  if (source === '$^') {
    const guess = 'is a bracket or brace not closed, a range the wrong way round, or a backslash at the end?'
    throw new TypeError(`the exclude pattern '${shownPattern(glob)}' cannot be understood: ${guess}`)
  }
  return `(?:${source})`
}

const shownCharsMax = 200

/** As a person is told of it: what nobody would read is cut. */
export function shownPattern(pattern: string): string {
  return pattern.length > shownCharsMax ? `${pattern.slice(0, shownCharsMax)}…` : pattern
}

/** Beyond this, V8 may find an expression too large, and its stack too small. */
const expressionCharsMax = 32_768

/** Expressions that match what any of `sources` does. */
function unionOf(sources: readonly string[]): RegExp[] {
  const unions: string[] = []
  for (const source of sources) {
    const last = unions.at(-1)
    if (last === undefined || last.length + source.length > expressionCharsMax) unions.push(source)
    else unions[unions.length - 1] = `${last}|${source}`
  }
  // Names may contain newlines.
  return unions.map((union) => new RegExp(union, 's'))
}
