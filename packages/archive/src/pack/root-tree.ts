import { type BytePath, isSafePath, quotePath } from '../path.ts'
import type { Root } from './rules.ts'

/** A component of a root's path, and those below it. */
export interface Branch {
  root: Root | null
  children: Map<BytePath, Branch>
}

/** The roots as a tree of the components of their paths. Of several on one path, a recursive one and the last counts. */
export function branchesOf(roots: readonly Root[]): Branch {
  const top: Branch = { root: null, children: new Map() }
  for (const one of roots) {
    if (one.path !== '' && !isSafePath(one.path))
      throw new TypeError(`${quotePath(one.path)} is no path of a root`)
    let branch = top
    for (const name of one.path === '' ? [] : (one.path.split('/') as BytePath[])) {
      const below = branch.children.get(name) ?? { root: null, children: new Map() }
      branch.children.set(name, below)
      branch = below
    }
    if (branch.root === null || one.recursive) branch.root = one
  }
  return top
}
