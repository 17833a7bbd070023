/**
 * Globs of the documented syntax (`*`, `?`, `[…]`, `{a,b}`, `**`, backslash) as regular expressions that need no more than
 * length times length steps. Those of picomatch try every place for every wildcard: with five of them, a single name of a
 * hundred letters takes seconds, and names are chosen by whoever has an account on a host.
 */

/** What one glob may become when its braces are taken apart. */
const alternativesMax = 256

/** Longer expressions may be too large for V8 or for its stack. */
const sourceCharsMax = 32_768

/** Number of the next group: the names of groups differ within an expression that is made of many globs. */
let groups = 0

/**
 * The source of a regular expression that matches all of a path with a leading `/`, or of a name where the glob has no
 * `/`; `null` for a glob with other syntax, or one that becomes too long. A `**` at the end stands for at least one
 * name where `deep`, else for none too.
 */
export function plainGlobSource(glob: string, deep: boolean): string | null {
  const alternatives = expandBraces(glob)
  if (alternatives === null) return null
  const sources = alternatives.map((one) => sourceOf(one, deep))
  const source = sources.includes(null) ? null : `(?:${sources.join('|')})`
  return source === null || source.length > sourceCharsMax ? null : source
}

function sourceOf(glob: string, deep: boolean): string | null {
  const components = glob.split('/')
  if (components.length === 1) {
    const name = componentSource(glob)
    return name === null ? null : `^${name}$`
  }
  if (components[0] === '') components.shift()
  if (components.includes('')) return null
  // What stands before, between and behind the `**`.
  const segments: string[] = ['']
  for (const [at, component] of components.entries()) {
    if (component === '**') {
      // Two beside each other are one.
      if (at === 0 || components[at - 1] !== '**') segments.push('')
      continue
    }
    const source = componentSource(component)
    if (source === null) return null
    segments[segments.length - 1] += `\\/${source}`
  }
  const first = segments.shift()!
  const last = segments.pop()
  if (last === undefined) return `^${first}$`
  const between = segments.map((segment) => once(`${anyNames()}${segment}(?=\\/|$)`))
  const end = last !== '' ? `${anyNames()}${last}` : deep ? '\\/.+' : '(?:\\/.*)?'
  return `^${first}${between.join('')}${end}$`
}

function anyNames(): string {
  return `(?:\\/${once('[^/]+')})*?`
}

/**
 * The first way in which `source` matches, and no other. What stands between two wildcards may be taken where it comes first:
 * the second wildcard stands for whatever follows.
 */
function once(source: string): string {
  const name = `g${groups++}`
  return `(?=(?<${name}>${source}))\\k<${name}>`
}

/** One component, which is not `**`; `null` where its syntax is another one. */
function componentSource(component: string): string | null {
  // What stands before, between and behind the stars: each piece has as many characters as what it matches.
  const pieces = ['']
  let escaped = false
  for (let at = 0; at < component.length; at++) {
    const character = component[at]!
    if (escaped || !/[\\*?[\](){}|]/.test(character)) {
      pieces[pieces.length - 1] += literal(character)
      escaped = false
    } else if (character === '\\') escaped = true
    else if (character === '?') pieces[pieces.length - 1] += '[^/]'
    else if (character === '*') {
      if (component[at - 1] !== '*' || pieces.at(-1) !== '' || pieces.length === 1) pieces.push('')
    } else if (character === '[') {
      const set = /^\[([!^]?)([A-Za-z0-9_.,=@~#%:-]+)\]/.exec(component.slice(at))
      if (set === null || !hasOrderedRanges(set[2]!)) return null
      pieces[pieces.length - 1] += setSource(set[1] !== '', set[2]!)
      at += set[0].length - 1
    } else return null
  }
  if (escaped) return null
  const first = pieces.shift()!
  const last = pieces.pop()
  if (last === undefined) return first
  const between = pieces.map((piece) => once(`[^/]*?${piece}`))
  // A name is never empty.
  return `${first === '' ? '(?=[^/])' : ''}${first}${between.join('')}[^/]*?${last}`
}

function literal(character: string): string {
  return /[\^$\\.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character
}

function setSource(isNegative: boolean, set: string): string {
  return isNegative ? `[^/${set}]` : `[${set}]`
}

/** A range from `z` to `a` is a mistake, which is told elsewhere. */
function hasOrderedRanges(set: string): boolean {
  for (let at = 1; at + 1 < set.length; at++) {
    if (set[at] === '-' && set[at - 1]! > set[at + 1]!) return false
  }
  return true
}

/** All that the glob stands for; `null` where that is too much, or its braces are none of `{a,b}`. */
function expandBraces(glob: string): string[] | null {
  const open = indexOf(glob, '{', 0)
  if (open < 0) return indexOf(glob, '}', 0) < 0 ? [glob] : null
  const parts: string[] = []
  let depth = 0
  let from = open + 1
  for (let at = open + 1; at < glob.length; at++) {
    const character = glob[at]
    if (character === '\\') at++
    else if (character === '[') return null
    else if (character === '{') depth++
    else if (character === '}' && depth > 0) depth--
    else if (depth === 0 && (character === ',' || character === '}')) {
      parts.push(glob.slice(from, at))
      from = at + 1
      if (character === '}') {
        if (parts.length < 2) return null
        return combine(glob.slice(0, open), parts, glob.slice(from))
      }
    }
  }
  return null
}

function combine(before: string, parts: readonly string[], after: string): string[] | null {
  const expanded: string[] = []
  for (const part of parts) {
    const some = expandBraces(`${before}${part}${after}`)
    if (some === null || expanded.length + some.length > alternativesMax) return null
    expanded.push(...some)
  }
  return expanded
}

/** Where a character stands that no backslash precedes, and that stands in no brackets. */
function indexOf(glob: string, wanted: string, from: number): number {
  for (let at = from; at < glob.length; at++) {
    if (glob[at] === '\\') at++
    else if (glob[at] === wanted) return at
    else if (glob[at] === '[') {
      const end = glob.indexOf(']', at + 2)
      if (end > 0) at = end
    }
  }
  return -1
}
