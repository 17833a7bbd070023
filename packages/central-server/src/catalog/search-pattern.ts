import {
  type BytePath,
  bytesFromText,
  plainGlobSource,
  shownBackslash,
  whyTooSlow,
  withPlainCharacters,
} from '@central-backup/archive'
import picomatch from 'picomatch'
import { UsageError } from '../errors.ts'
import { sortKey } from './version-row.ts'

/** What `find` looks for. */
export interface Search {
  /** Whether a path, as text with a leading `/`, is looked for. */
  matches(path: string): boolean
  /** Bytes that the sort keys of all such paths have; `null` where the pattern promises none. */
  needle: Buffer | null
  /** Bytes that they begin with; `null` where they may begin with any. */
  prefix: Buffer | null
}

const patternCharsMax = 4096

/**
 * A pattern with glob characters (`*`, `?`, `[…]`, `{a,b}`) must match the whole name, or where it has a `/` the end of
 * the path, or all of it where it begins with `/`; any other is looked for as a part of the path. Large and small letters
 * differ. What it surely contains is taken out of it, so that a database can look for that first. Throws `UsageError` for one
 * that would take too long.
 */
export function compileSearch(pattern: string): Search {
  if (pattern.length > patternCharsMax)
    throw new UsageError(`The pattern is longer than ${patternCharsMax} characters, and so than any path`)
  if (!/[*?[{]/.test(pattern)) {
    return { matches: (path) => path.includes(pattern), needle: keyOf(pattern), prefix: null }
  }
  const anyDepth = pattern.includes('/') && !pattern.startsWith('/') ? `**/${pattern}` : pattern
  const plain = plainGlobSource(anyDepth, false)
  const glob = new RegExp(plain ?? extendedGlobSource(anyDepth), 's')
  const matches = pattern.includes('/')
    ? (path: string) => glob.test(path)
    : (path: string) => glob.test(path.slice(path.lastIndexOf('/') + 1))
  const literals = plain === null ? [] : literalsOf(pattern)
  const [first = ''] = literals
  const longest = literals.reduce((best, piece) => (piece.length > best.length ? piece : best), '')
  return { matches, needle: keyOf(longest), prefix: pattern.startsWith('/') ? keyOf(first) : null }
}

/** Three wildcards, and what else leaves them quick. */
const waysMax = 2 ** 28

function extendedGlobSource(pattern: string): string {
  const tooSlow = whyTooSlow(pattern, waysMax)
  const hint = `Without parentheses, and with brackets and braces that are closed, it may have any number of wildcards.`
  if (tooSlow !== null) throw new UsageError(`The pattern could take too long: ${tooSlow}`, { hint })
  try {
    const options = { dot: true, nonegate: true, posix: true } as const
    const { source } = picomatch.makeRe(withPlainCharacters(pattern), options)
    return new RegExp(source.replaceAll(shownBackslash, '\\\\')).source
  } catch (error) {
    throw new UsageError(`The pattern cannot be understood: ${(error as Error).message}`, { hint })
  }
}

/** What stands between the wildcards, in order; nothing of a pattern that also has alternatives or escapes, or odd brackets. */
function literalsOf(pattern: string): string[] {
  if (/[\\{}()|+@!"']|\[\^?\]|\[[^\]]*$/.test(pattern)) return []
  return pattern.split(/[*?]+|\[[^\]]*\]?/)
}

/** Without slashes at its ends: keys have none in front, and `**` may stand for nothing together with the one beside it. */
function keyOf(literal: string): Buffer | null {
  const trimmed = literal.replace(/^\/+|\/+$/g, '')
  return trimmed === '' ? null : sortKey(bytesFromText(trimmed) as BytePath)
}
