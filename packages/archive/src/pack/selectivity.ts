import type { Entry } from '../entry.ts'
import { type BytePath, isWithin } from '../path.ts'
import { noVerdict } from './exclusion.ts'
import { type Branch, branchesOf } from './root-tree.ts'
import { RuleBook, type Rules, type Selection } from './rules.ts'

/** Tells of what is not there any more whether it would be packed if it were. */
export class Selectivity {
  readonly #book: RuleBook
  readonly #top: Branch

  constructor(selection: Selection) {
    this.#book = new RuleBook(selection)
    this.#top = branchesOf(selection.roots)
  }

  /**
   * Whether a root leads to the path of an entry, and no pattern leaves it out on the way. `left` is a path above it that
   * the walk has left out, or itself: only a root below that leads there.
   */
  selects({ path, type }: Pick<Entry, 'path' | 'type'>, left: BytePath | null): boolean {
    const names = path.split('/') as BytePath[]
    let branch: Branch | null = this.#top
    let rules: Rules | null = branch.root?.recursive === true ? this.#book.of(branch.root) : null
    let verdict = noVerdict
    let innermost = '' as BytePath
    for (const [at, name] of names.entries()) {
      branch = branch?.children.get(name) ?? null
      const above = names.slice(0, at + 1).join('/') as BytePath
      const last = at === names.length - 1
      if (branch?.root != null) {
        if (branch.root.recursive) rules = this.#book.of(branch.root)
        else if (last) return true
        verdict = noVerdict
        innermost = above
      } else if (rules !== null)
        verdict = rules.exclusion.judge(above, name, !last || type === 'directory', verdict)
    }
    if (rules === null || rules.exclusion.leavesOut(verdict)) return false
    return left === null || (innermost !== left && isWithin(innermost, left))
  }
}
