import { type BytePath, compileExclusion, type Root } from '../src/index.ts'
import { type Found, type WalkProblem, walk } from '../src/pack/walk.ts'
import type { PackingFolder } from './packing-folder.ts'

export interface Walked {
  /** What was visited, in order. */
  paths: BytePath[]
  ancestors: BytePath[]
  problems: { kind: WalkProblem; path: BytePath; message: string }[]
}

export interface WalkOptions {
  exclude?: readonly string[]
  /** Called when a path is told, before anything else is done with it. */
  onApproach?(path: BytePath): void
  /** Called when the walk has found something, before it goes into it. */
  onVisit?(found: Found): void
}

export function walkAll(roots: readonly Root[], options: WalkOptions = {}): Walked {
  const walked: Walked = { paths: [], ancestors: [], problems: [] }
  walk(roots, compileExclusion(options.exclude ?? []), {
    approach: (path) => options.onApproach?.(path),
    visit(found) {
      walked.paths.push(found.path)
      if (found.ancestor) walked.ancestors.push(found.path)
      options.onVisit?.(found)
    },
    problem: (kind, path, message) => walked.problems.push({ kind, path, message }),
  })
  return walked
}

/** What was visited in the folder, as names in it. */
export function namesIn(folder: PackingFolder, paths: readonly BytePath[]): string[] {
  return paths.filter((path) => path.startsWith(`${folder.pathOf()}/`)).map((path) => folder.nameOf(path))
}
