import { lstatSync, type Stats } from 'node:fs'
import { dirname } from 'node:path'
import type { Problem } from '../errors.ts'

const writableByOthers = 0o022
const accessibleByOthers = 0o077
const sticky = 0o1000

/**
 * Whether only root and the user `uid` can change what stands in `file`, which is what makes it safe to run as code or
 * to read as a setting. `file` must be a real path (no symbolic links in it). Returns every problem: of the file
 * itself, and of each folder that holds it, since whoever may write to a folder may put another file in its place.
 */
export function findTrustProblems(file: string, uid: number): Problem[] {
  return [...findFileProblems(file, uid), ...findFolderProblems(dirname(file), uid)]
}

/** As `findTrustProblems`, for a file that nobody else may even read. */
export function findSecrecyProblems(file: string, uid: number): Problem[] {
  const problems = findTrustProblems(file, uid)
  const stats = lstatSync(file)
  if (stats.isFile() && (stats.mode & accessibleByOthers & ~writableByOthers) !== 0) {
    problems.push(
      problem(file, `mode ${octal(stats)}`, `a secret that only its owner may read (chmod 600 ${file})`),
    )
  }
  return problems
}

/** The file's own part of `findTrustProblems`. */
export function findFileProblems(file: string, uid: number): Problem[] {
  const stats = lstatSync(file)
  if (!stats.isFile()) return [problem(file, describeType(stats), 'a regular file')]
  return [...findOwnerProblems(file, stats, uid), ...findModeProblems(file, stats)]
}

/**
 * The folders' part of `findTrustProblems`: `folder` itself and all above it. Above it, a folder like /tmp is fine,
 * which is sticky and root's: others may add to it but not replace what is there.
 */
export function findFolderProblems(folder: string, uid: number): Problem[] {
  const problems: Problem[] = []
  for (let current = folder; ; current = dirname(current)) {
    const stats = lstatSync(current)
    if (!stats.isDirectory()) problems.push(problem(current, describeType(stats), 'a folder'))
    problems.push(...findOwnerProblems(current, stats, uid))
    const shared = current !== folder && (stats.mode & sticky) !== 0 && stats.uid === 0
    if (!shared) problems.push(...findModeProblems(current, stats))
    if (current === dirname(current)) return problems
  }
}

function findOwnerProblems(path: string, stats: Stats, uid: number): Problem[] {
  if (stats.uid === 0 || stats.uid === uid) return []
  const expected = uid === 0 ? 'root as its owner' : `root or user ${uid} as its owner`
  return [problem(path, `user ${stats.uid} as its owner`, `${expected} (chown ${uid} ${path})`)]
}

function findModeProblems(path: string, stats: Stats): Problem[] {
  if ((stats.mode & writableByOthers) === 0) return []
  return [
    problem(
      path,
      `mode ${octal(stats)}`,
      `nobody but its owner to be able to write to it (chmod go-w ${path})`,
    ),
  ]
}

function problem(file: string, found: string, expected: string): Problem {
  return { file, line: null, key: null, found, expected }
}

function octal(stats: Stats): string {
  return (stats.mode & 0o7777).toString(8).padStart(4, '0')
}

function describeType(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder'
  if (stats.isSymbolicLink()) return 'a symbolic link'
  return stats.isFile() ? 'a file' : 'a special file'
}
