import type { BytePath } from '../path.ts'
import { compileExclusion, type Exclusion } from './exclusion.ts'

/** What of the folders below a root is left out. Whatever is not given leaves out nothing. */
export interface RootRules {
  /** Patterns of `compileExclusion`, after those that hold for all roots. */
  exclude?: readonly string[]
  /** Leaves out what is mounted below. */
  oneFileSystem?: boolean
  /** Leaves out what lies in folders with a CACHEDIR.TAG. */
  excludeCaches?: boolean
  /** Leaves out what lies in folders that hold something of one of these names. */
  excludeIfPresent?: readonly BytePath[]
  /** Leaves out what has the flag `nodump`. */
  excludeNodump?: boolean
  /** Leaves out larger files. */
  maxFileBytes?: number
}

/** Where a walk begins. Paths have no links in their parents: whoever selects them has resolved those. */
export interface Root {
  path: BytePath
  /** False for a link that leads to another root: only the link itself is taken, whatever stands there by then. */
  recursive: boolean
  /** One object for all roots with the same rules, so that they are compiled once. */
  rules?: RootRules
}

/** What to pack. */
export interface Selection {
  roots: readonly Root[]
  /** Patterns of `compileExclusion`, for all roots. */
  exclude: readonly string[]
  /** Patterns that come after all others, so that none of these takes back what they leave out. */
  excludeLast?: readonly string[]
}

/** `RootRules`, compiled. */
export interface Rules {
  exclusion: Exclusion
  oneFileSystem: boolean
  excludeCaches: boolean
  excludeIfPresent: readonly BytePath[]
  excludeNodump: boolean
  maxFileBytes: number
}

/** The rules of each root. Throws a `TypeError` that names the pattern where one cannot be understood. */
export class RuleBook {
  readonly #before: readonly string[]
  readonly #last: readonly string[]
  readonly #compiled = new Map<RootRules | null, Rules>()
  /** By their patterns, which many rules have in common. */
  readonly #exclusions = new Map<readonly string[] | null, Exclusion>()

  constructor({ roots, exclude, excludeLast = [] }: Selection) {
    this.#before = exclude
    this.#last = excludeLast
    this.#exclusions.set(null, compileExclusion([...exclude, ...excludeLast]))
    for (const root of roots) this.of(root)
  }

  of({ rules = null }: { rules?: RootRules | null }): Rules {
    const known = this.#compiled.get(rules)
    if (known !== undefined) return known
    const { oneFileSystem = false, excludeCaches = false, excludeIfPresent = [] } = rules ?? {}
    const { excludeNodump = false, maxFileBytes = Number.POSITIVE_INFINITY } = rules ?? {}
    const exclusion = this.#exclusionOf(rules?.exclude ?? [])
    const compiled = {
      exclusion,
      oneFileSystem,
      excludeCaches,
      excludeIfPresent,
      excludeNodump,
      maxFileBytes,
    }
    this.#compiled.set(rules, compiled)
    return compiled
  }

  #exclusionOf(patterns: readonly string[]): Exclusion {
    const key = patterns.length === 0 ? null : patterns
    const known = this.#exclusions.get(key)
    if (known !== undefined) return known
    const exclusion = compileExclusion([...this.#before, ...patterns, ...this.#last])
    this.#exclusions.set(key, exclusion)
    return exclusion
  }
}
