/** The longest name of a file. */
const nameBytesMax = 255

/**
 * What could make a glob take too long once it is a regular expression, which tries all ways to match, and names are chosen by
 * whoever has an account on a host. Returns it for a person, or `null` where a name can be matched in at most `waysMax` ways.
 * The syntax is that of picomatch.
 */
export function whyTooSlow(glob: string, waysMax: number): string | null {
  const bare = glob.replace(/\\(.)/gs, (_, character) => (isSyntax(character) ? 'x' : character))
  for (const [group, body] of bare.matchAll(/[+*]\(([^()]*\)?)/g)) {
    if (!repeatsInOneWay(body!)) return `${group} repeats what can stand for several texts`
  }
  const wildcards = count(bare, /\*+|[+!]\(/g)
  const groups = count(bare, /[({]/g)
  const alternatives = count(bare, /[|,]/g) + groups
  // A group may also stand for nothing, and the product is the largest where all have as many alternatives.
  const ways = nameBytesMax ** wildcards * (groups === 0 ? 1 : (alternatives / groups + 1) ** groups)
  if (ways <= waysMax) return null
  const inGroups = groups === 0 ? '' : ` and ${groups} groups with ${alternatives} alternatives`
  return `${wildcards} wildcards${inGroups} are too many`
}

function isSyntax(character: string): boolean {
  return /[*?[\](){}|+@!\\]/.test(character)
}

/** Plain texts none of which another begins with: what is made of them can be taken apart in one way. */
function repeatsInOneWay(body: string): boolean {
  if (!body.endsWith(')') || /[*?[\]{}]/.test(body)) return false
  const texts = body.slice(0, -1).split('|').sort()
  return texts.every((text, at) => text !== '' && (at === 0 || !text.startsWith(texts[at - 1]!)))
}

function count(text: string, what: RegExp): number {
  return text.match(what)?.length ?? 0
}

/**
 * What stands for a backslash where picomatch and micromatch look: of two or more beside each other they lose some, and behind
 * four at the end of a glob they never end. A lone surrogate, of a range that no name's text has.
 */
export const shownBackslash = '\udc5c'

/**
 * `glob` as picomatch and micromatch take it for what it says: to them quotes, and a plus behind a bracket or a parenthesis or
 * between parentheses, are syntax, and letters behind a backslash that of regular expressions; to people who write patterns,
 * they are characters of a name. A backslash of a name becomes `shownBackslash`.
 */
export function withPlainCharacters(glob: string): string {
  return glob.replace(/\\.|"|\+(?!\()/gs, (one) => {
    if (one.length === 1) return `\\${one}`
    if (one[1] === '\\') return shownBackslash
    return /[A-Za-z0-9]/.test(one[1]!) ? one[1]! : one
  })
}
