import { type BytePath, bytesFromText, plainGlobSource } from '@central-backup/archive'
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

/**
 * A pattern with glob characters (`*`, `?`, `[…]`, `{a,b}`) must match the whole name, or where it has a `/` the end of
 * the path, or all of it where it begins with `/`; any other is looked for as a part of the path. Large and small letters
 * differ. What it surely contains is taken out of it, so that a database can look for that first. Throws `UsageError` for one
 * that would take too long.
 */
export function compileSearch(pattern: string): Search {
  if (!/[*?[{]/.test(pattern)) {
    return { matches: (path) => path.includes(pattern), needle: keyOf(pattern), prefix: null }
  }
  const anyDepth = pattern.includes('/') && !pattern.startsWith('/') ? `**/${pattern}` : pattern
  const glob = new RegExp(plainGlobSource(anyDepth, false) ?? extendedGlobSource(anyDepth), 's')
  const matches = pattern.includes('/')
    ? (path: string) => glob.test(path)
    : (path: string) => glob.test(path.slice(path.lastIndexOf('/') + 1))
  const literals = literalsOf(pattern)
  const [first = ''] = literals
  const longest = literals.reduce((best, piece) => (piece.length > best.length ? piece : best), '')
  return { matches, needle: keyOf(longest), prefix: pattern.startsWith('/') ? keyOf(first) : null }
}

/** Wildcards of a pattern that is more than plain: each one multiplies the time that a path may take. */
const wildcardsMax = 3

function extendedGlobSource(pattern: string): string {
  const wildcards = pattern.replace(/\\./gs, '').match(/\*+/g)?.length ?? 0
  const hint = `Without parentheses, and with brackets and braces that are closed, it may have any number of them.`
  if (wildcards > wildcardsMax)
    throw new UsageError(`The pattern has ${wildcards} wildcards, more than ${wildcardsMax}`, { hint })
  try {
    return picomatch.makeRe(pattern, { dot: true, nonegate: true, posix: true }).source
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
