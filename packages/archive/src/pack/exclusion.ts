import picomatch from 'picomatch'
import { type BytePath, textFromBytes } from '../path.ts'

/**
 * Decides what a run leaves out, by patterns in the manner of gitignore. The exact rules are in docs/operating.md:
 *
 * - a pattern without `/` (but for one at its end) matches a name at any depth;
 * - one that begins with `/` matches a whole path;
 * - any other matches the end of a path, from one of its components on;
 * - one that ends in `/` matches directories only;
 * - `*`, `?`, `[…]`, `{a,b}` stay within a component, `**` crosses them; a backslash takes the next character as it is.
 *
 * What lies below an excluded directory is excluded with it.
 */
export interface Exclusion {
  /** `path` without its leading `/`; `name` is its last component. */
  excludes(path: BytePath, name: BytePath, isDirectory: boolean): boolean
}

interface Matchers {
  name: RegExp | null
  path: RegExp | null
}

/** Throws a `TypeError` that names the pattern where one cannot be understood. */
export function compileExclusion(patterns: readonly string[]): Exclusion {
  for (const pattern of patterns) checkExcludePattern(pattern)
  const ofAll = compileMatchers(patterns.filter((pattern) => !pattern.endsWith('/')))
  const ofDirectories = compileMatchers(
    patterns.filter((pattern) => pattern.endsWith('/')).map((pattern) => pattern.slice(0, -1)),
  )
  return {
    excludes(path, name, isDirectory) {
      return matches(ofAll, path, name) || (isDirectory && matches(ofDirectories, path, name))
    },
  }
}

function matches(matchers: Matchers, path: BytePath, name: BytePath): boolean {
  if (matchers.name?.test(textFromBytes(name))) return true
  return matchers.path?.test(`/${textFromBytes(path)}`) ?? false
}

function compileMatchers(patterns: readonly string[]): Matchers {
  const names: string[] = []
  const paths: string[] = []
  for (const pattern of patterns) {
    const anyDepth = pattern.replace(/^\/?\*\*\//, '')
    if (!anyDepth.includes('/')) names.push(globSource(anyDepth))
    else paths.push(globSource(anyDepth.startsWith('/') ? anyDepth : `**/${anyDepth}`))
  }
  return { name: union(names), path: union(paths) }
}

/** Throws a `TypeError` that names the pattern where it cannot be understood. */
export function checkExcludePattern(pattern: string): void {
  const bare = pattern.endsWith('/') ? pattern.slice(0, -1) : pattern
  if (bare === '' || bare === '**') {
    throw new TypeError(
      `the exclude pattern '${pattern}' would leave out everything; remove it, or name a folder`,
    )
  }
  if (pattern.startsWith('!')) {
    throw new TypeError(
      `the exclude pattern '${pattern}' begins with '!', which is not supported; write '\\!' for a name that does`,
    )
  }
  if (pattern.includes('\0')) throw new TypeError(`the exclude pattern '${pattern}' contains a NUL byte`)
}

/** The source of a regular expression that matches the whole of what the glob matches. */
function globSource(glob: string): string {
  const options = { dot: true, nonegate: true, posix: true, strictSlashes: true } as const
  // To picomatch, quotes are syntax; to people who write patterns, they are characters of a name.
  const unquoted = glob.replace(/\\.|"/gs, (one) => (one === '"' ? '\\"' : one))
  let source: string
  try {
    source = picomatch.makeRe(unquoted, options).source
  } catch (error) {
    throw new TypeError(`the exclude pattern '${glob}' cannot be understood: ${(error as Error).message}`)
  }
  // What picomatch makes of a glob from which no regular expression comes.
  if (source === '$^') {
    const guess = 'is a bracket or brace not closed, a range the wrong way round, or a backslash at the end?'
    throw new TypeError(`the exclude pattern '${glob}' cannot be understood: ${guess}`)
  }
  return `(?:${source})`
}

/** `s`: names may contain newlines. */
function union(sources: string[]): RegExp | null {
  return sources.length === 0 ? null : new RegExp(sources.join('|'), 's')
}
