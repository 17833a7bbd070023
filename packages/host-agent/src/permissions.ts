import { lstatSync, readlinkSync, realpathSync, type Stats } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Problem } from './errors.ts'

const accessibleByOthers = 0o077
const writableByOthers = 0o022
const sticky = 0o1000

/**
 * What lets others than root and the user `uid` change `file` or, where it is a `secret`, read it: its owner, its mode, and
 * those of all folders above it, since whoever may write to a folder may put another file in its place. Links are
 * followed first. Throws what Node throws where there is no such file.
 */
export function findPermissionProblems(file: string, uid: number, secret: boolean): Problem[] {
  const real = realpathSync(file)
  const stats = lstatSync(real)
  const problems: Problem[] = stats.isFile() ? [] : [problem(real, 'something else', 'a regular file')]
  problems.push(...findOwnerProblems(real, stats, uid))
  if ((stats.mode & (secret ? accessibleByOthers : writableByOthers)) !== 0) {
    const expected = secret
      ? `a file for its owner only (chmod 600 ${real})`
      : `a file that only its owner may write to (chmod go-w ${real})`
    problems.push(problem(real, `mode ${octal(stats)}`, expected))
  }
  return [...problems, ...findFolderProblems(dirname(real), uid)]
}

/**
 * What lets others than root and the user `uid` choose where the symbolic links in `path` lead, an absolute path: the folders
 * that they lie in. Throws what Node throws where there is no such file, or the links go in circles.
 */
export function findLinkProblems(path: string, uid: number): Problem[] {
  const problems: Problem[] = []
  const components = path.split('/')
  let real = '/'
  for (let links = 0; components.length > 0; ) {
    const name = components.shift()!
    if (name === '' || name === '.') continue
    const next = resolve(real, name)
    const stats = lstatSync(next)
    if (!stats.isSymbolicLink()) {
      real = next
      continue
    }
    // The kernel follows as many.
    if (++links > 40) realpathSync(path)
    problems.push(...findFolderProblems(real, uid))
    const target = readlinkSync(next)
    if (target.startsWith('/')) real = '/'
    components.unshift(...target.split('/'))
  }
  return problems
}

/**
 * What lets others than root and the user `uid` change what lies in `folder`, whose path has no links, or put another in the
 * place of it. Above `folder` itself, one like /tmp is fine, which is sticky and root's: others cannot replace what is there.
 */
export function findFolderProblems(folder: string, uid: number): Problem[] {
  const problems: Problem[] = []
  for (let current = folder; ; current = dirname(current)) {
    const stats = lstatSync(current)
    problems.push(...findOwnerProblems(current, stats, uid))
    const shared = current !== folder && (stats.mode & sticky) !== 0 && stats.uid === 0
    if (!shared && (stats.mode & writableByOthers) !== 0) {
      const expected = `a folder that only its owner may write to (chmod go-w ${current})`
      problems.push(problem(current, `mode ${octal(stats)}`, expected))
    }
    if (current === dirname(current)) return problems
  }
}

function findOwnerProblems(path: string, stats: Stats, uid: number): Problem[] {
  if (stats.uid === 0 || stats.uid === uid) return []
  const expected = uid === 0 ? 'root' : `root or user ${uid}`
  return [problem(path, `user ${stats.uid} as its owner`, `${expected} as its owner (chown ${uid} ${path})`)]
}

function problem(file: string, found: string, expected: string): Problem {
  return { file, line: null, key: null, found, expected }
}

function octal(stats: Stats): string {
  return (stats.mode & 0o7777).toString(8).padStart(4, '0')
}
