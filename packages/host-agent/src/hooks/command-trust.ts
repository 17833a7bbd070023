import { accessSync, constants, statSync } from 'node:fs'
import type { Problem } from '../errors.ts'
import { findLinkProblems, findPermissionProblems } from '../permissions.ts'

const setIdBits = 0o6000

/**
 * What lets others than root and the user `uid` choose what is run as the command `program`, an absolute path that stands as
 * `key` in the settings `namedIn`; or why nothing can be run. Where links in the path lead is part of that.
 */
export function findCommandProblems(program: string, uid: number, namedIn: string, key: string): Problem[] {
  const inSettings = (found: string, expected: string) => [
    { file: namedIn, line: null, key, found, expected },
  ]
  try {
    const problems = [...findLinkProblems(program, uid), ...findPermissionProblems(program, uid, false)]
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
  if (((statSync(program!, { throwIfNoEntry: false })?.mode ?? 0) & setIdBits) !== 0)
    risks.push(`runs ${program}, which has a set-id bit: it runs as another user`)
  for (const argument of others) {
    if (!argument.startsWith('/') || !isFile(argument)) continue
    if (findLinkProblems(argument, uid).length + findPermissionProblems(argument, uid, false).length > 0)
      risks.push(
        `is given ${argument}, which others may write to or put something else in the place of: if it is run, so is that`,
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
