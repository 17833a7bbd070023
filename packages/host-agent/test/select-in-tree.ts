import assert from 'node:assert/strict'
import { type BytePath, bytesFromText } from '@central-backup/archive'
import { walk } from '../../archive/src/pack/walk.ts'
import { PackingFolder } from '../../archive/test/packing-folder.ts'
import { type Selected, selectPaths } from '../src/select/select.ts'

export interface Options {
  exclude?: readonly string[]
  /** Folders that the policy allows, by their names in the folder; all of it if not given. */
  allowed?: readonly string[]
  approach?: (path: BytePath) => void
}

/** Selects by paths and patterns that begin in the folder. */
export function select(
  folder: PackingFolder,
  paths: string | readonly string[],
  options: Options = {},
): Selected {
  const { exclude = [], allowed = [''], approach = () => {} } = options
  return selectPaths(
    {
      // Not joined: what is odd about a pattern must stay.
      paths: [paths].flat().map((path) => ({ path: bytesFromText(`${folder.path}/${path}`) })),
      exclude,
      allowed: allowed.map((one) => folder.pathOf(one)),
    },
    approach,
  )
}

/** Roots by their names in the folder, sorted; those that are taken as links only in parentheses. */
export function rootsOf(folder: PackingFolder, { roots }: Selected): string[] {
  return roots
    .map(({ path, recursive }) => (recursive ? folder.nameOf(path) : `(${folder.nameOf(path)})`))
    .sort()
}

export function problemsOf(folder: PackingFolder, { problems }: Selected): string[] {
  return problems.map(({ code, path }) => `${code} ${folder.nameOf(path)}`)
}

/** What a backup of the selection would hold below the folder, ancestors left out. */
export function packedOf(
  folder: PackingFolder,
  selected: Selected,
  exclude: readonly string[] = [],
): string[] {
  const paths: string[] = []
  walk(
    { roots: selected.roots, exclude },
    {
      approach: () => {},
      visit: ({ path, ancestor }) => {
        if (!ancestor) paths.push(folder.nameOf(path))
      },
      problem: () => {},
      leftOut: () => {},
    },
  )
  return paths.sort()
}

export function makeTree(files: readonly string[]): PackingFolder {
  const folder = new PackingFolder()
  for (const file of files) {
    if (file.endsWith('/')) folder.folder(file)
    else folder.file(file)
  }
  return folder
}

/** Fails unless the pattern selects these roots, without a word. */
export function check(
  folder: PackingFolder,
  pattern: string | readonly string[],
  roots: readonly string[],
): void {
  const selected = select(folder, pattern)
  assert.deepEqual(rootsOf(folder, selected), [...roots].sort(), `${pattern}`)
  assert.deepEqual(problemsOf(folder, selected), [], `${pattern}`)
  assert.equal(selected.missing, 0)
}
