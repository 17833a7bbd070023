import type { BytePath, LeftOutReason, Root, RootRules } from '../src/index.ts'
import type { Boundary } from '../src/pack/boundary.ts'
import type { Found, Visitor, WalkProblem } from '../src/pack/visitor.ts'
import { walk } from '../src/pack/walk.ts'
import type { PackingFolder } from './packing-folder.ts'

export interface Walked {
  /** What was visited, in order. */
  paths: BytePath[]
  ancestors: BytePath[]
  problems: { kind: WalkProblem | LeftOutReason; path: BytePath; message: string }[]
}

export interface WalkOptions {
  exclude?: readonly string[]
  /** Of all roots that have none of their own. */
  rules?: RootRules
  boundary?: Boundary
  /** Called when a path is told, before anything else is done with it. */
  onApproach?(path: BytePath): void
  /** Called when the walk has found something, before it goes into it. */
  onVisit?(found: Found): void
}

export function walkAll(roots: readonly Root[], options: WalkOptions = {}): Walked {
  const walked: Walked = { paths: [], ancestors: [], problems: [] }
  const { exclude = [], rules, boundary } = options
  const ruled = roots.map((root) => (rules === undefined ? root : { rules, ...root }))
  const visitor: Visitor = {
    approach: (path) => options.onApproach?.(path),
    visit(found) {
      walked.paths.push(found.path)
      if (found.ancestor) walked.ancestors.push(found.path)
      options.onVisit?.(found)
    },
    problem: (kind, path, message) => walked.problems.push({ kind, path, message }),
    leftOut: (path, kind, detail) => walked.problems.push({ kind, path, message: detail() }),
  }
  walk({ roots: ruled, exclude }, visitor, boundary)
  return walked
}

/** What was visited in the folder, as names in it. */
export function namesIn(folder: PackingFolder, paths: readonly BytePath[]): string[] {
  return paths.filter((path) => path.startsWith(`${folder.pathOf()}/`)).map((path) => folder.nameOf(path))
}
