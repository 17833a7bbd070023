import type { BytePath } from '../path.ts'
import {
  checkExcludePattern,
  compileGlobs,
  type GlobSet,
  leadingGlobs,
  patternOf,
  shownPattern,
} from './exclude-pattern.ts'

/**
 * What the patterns say of an object: the number of the group that decides, or `noVerdict`. It holds for all that is
 * below the object too, until a later group says otherwise.
 */
export type Verdict = number

/** No pattern matches: the object is kept. */
export const noVerdict: Verdict = -1

/** Neighbouring patterns that all leave out or all take back: which of them matches makes no difference. */
interface Group {
  takesBack: boolean
  patterns: readonly string[]
  globs: GlobSet
  /** Folders below which a pattern that takes back may match; `null` for all. Unused where the group leaves out. */
  leading: GlobSet | null
}

/**
 * Decides what a run leaves out, by patterns in their order. The exact rules are in docs/operating.md:
 *
 * - a pattern without `/` (but for one at its end) matches a name at any depth;
 * - one that begins with `/` matches a whole path;
 * - any other matches the end of a path, from one of its components on;
 * - one that ends in `/` matches directories only;
 * - `*`, `?`, `[…]`, `{a,b}` stay within a component, `**` crosses them; a backslash takes the next character as it is;
 * - one that begins with `!` takes back what it matches.
 *
 * The last pattern that matches an object, or a folder above it, decides. Paths are without their leading `/`; `name` is
 * the last component.
 */
export class Exclusion {
  readonly #groups: readonly Group[]
  readonly #single = new Map<string, GlobSet>()

  /** Throws a `TypeError` that names the pattern where one cannot be understood. */
  constructor(patterns: readonly string[]) {
    for (const pattern of patterns) checkExcludePattern(pattern)
    this.#groups = groupsOf(patterns)
  }

  /** What the patterns say of an object in a folder of which they say `above`. */
  judge(path: BytePath, name: BytePath, isDirectory: boolean, above: Verdict = noVerdict): Verdict {
    for (let number = this.#groups.length - 1; number > above; number--) {
      if (this.#groups[number]!.globs.matches(path, name, isDirectory)) return number
    }
    return above
  }

  leavesOut(verdict: Verdict): boolean {
    return verdict !== noVerdict && !this.#groups[verdict]!.takesBack
  }

  /** Whether something below a folder that is left out with `verdict` may be taken back: only then is it looked into. */
  mayTakeBackBelow(folder: BytePath, name: BytePath, verdict: Verdict): boolean {
    for (let number = verdict + 1; number < this.#groups.length; number++) {
      const { takesBack, leading } = this.#groups[number]!
      if (takesBack && (leading === null || leading.matches(folder, name, true))) return true
    }
    return false
  }

  /** Whether an object is left out that lies in a folder of which nothing is said. */
  excludes(path: BytePath, name: BytePath, isDirectory: boolean): boolean {
    return this.leavesOut(this.judge(path, name, isDirectory))
  }

  /** The pattern that left an object out, for people, and so cut where it is very long: the last that matches it. */
  patternFor(path: BytePath, name: BytePath, isDirectory: boolean, verdict: Verdict): string {
    const { patterns } = this.#groups[verdict]!
    const found = patterns.findLast((one) => this.#alone(one).matches(path, name, isDirectory))
    return shownPattern(found ?? patterns.at(-1)!)
  }

  /** Compiled once, as it is asked for each object that is left out. */
  #alone(pattern: string): GlobSet {
    const before = this.#single.get(pattern)
    if (before !== undefined) return before
    const globs = compileGlobs([pattern])
    this.#single.set(pattern, globs)
    return globs
  }
}

/** Throws a `TypeError` that names the pattern where one cannot be understood. */
export function compileExclusion(patterns: readonly string[]): Exclusion {
  return new Exclusion(patterns)
}

function groupsOf(patterns: readonly string[]): Group[] {
  const groups: Group[] = []
  for (let start = 0; start < patterns.length; ) {
    const { takesBack } = patternOf(patterns[start]!)
    let end = start + 1
    while (end < patterns.length && patternOf(patterns[end]!).takesBack === takesBack) end++
    const members = patterns.slice(start, end)
    const leading = takesBack ? leadingGlobs(members) : []
    groups.push({
      takesBack,
      patterns: members,
      globs: compileGlobs(members),
      leading: leading === null ? null : compileGlobs(leading),
    })
    start = end
  }
  return groups
}
