import { accessSync, constants, lstatSync, realpathSync, statSync } from 'node:fs'
import type { Problem } from '../errors.ts'
import { findPermissionProblems } from '../permissions.ts'

const setIdBits = 0o6000

/**
 * What lets others than root and the user `uid` choose what is run as the command `program`, an absolute path that stands as
 * `key` in the settings `namedIn`; or why nothing can be run. The path may have no links in it: whoever owns the folder of
 * a link chooses where it leads.
 */
export function findCommandProblems(program: string, uid: number, namedIn: string, key: string): Problem[] {
  const inSettings = (found: string, expected: string) => [
    { file: namedIn, line: null, key, found, expected },
  ]
  try {
    const real = realpathSync(program)
    if (real !== program) return inSettings(`${program}, which is a link or behind one`, `${real} itself`)
    const problems = findPermissionProblems(program, uid, false)
    if (problems.length > 0) return problems
    accessSync(program, constants.X_OK)
    return []
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return inSettings(`no file ${program}`, 'a program')
    if (code === 'EACCES')
      return inSettings(`${program}, which may not be executed`, `a program (chmod u+x ${program})`)
    return inSettings(`${program}, which cannot be looked at (${code})`, 'a program')
  }
}

/** What of a command is no reason to refuse it, but one to look twice. Each is a sentence without its first word. */
export function findCommandRisks(command: readonly string[], uid: number): string[] {
  const [program, ...others] = command
  const risks: string[] = []
  if (((lstatSync(program!, { throwIfNoEntry: false })?.mode ?? 0) & setIdBits) !== 0)
    risks.push(`runs ${program}, which has a set-id bit: it runs as another user`)
  for (const argument of others) {
    if (!argument.startsWith('/') || !isFile(argument)) continue
    if (realpathSync(argument) !== argument || findPermissionProblems(argument, uid, false).length > 0)
      risks.push(
        `is given ${argument}, which others may write to, or which is behind a link: if it is run, so is what they write`,
      )
  }
  return risks
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    // An argument need not be a path.
    return false
  }
}
