import { readFileSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { passwordCharsMax } from '@central-backup/protocol'
import * as z from 'zod'
import type { Problem } from '../errors.ts'
import { Secret } from './secret.ts'
import { findFolderProblems, findSecrecyProblems } from './trust.ts'

/** Where the password of a host comes from: here, a file, or a variable of the environment. */
export type PasswordSource = string | { file: string } | { env: string }

export type PasswordEnvironment = Readonly<Record<string, string | undefined>>

const expectation = "a password, { file: '../secrets/NAME' } or { env: 'VARIABLE' }"

export const passwordSchema = z.union(
  [
    z.string().min(1),
    z.strictObject({ file: z.string().min(1) }),
    z.strictObject({ env: z.string().min(1) }),
  ],
  expectation,
)

/**
 * Fetches the password that the module `module` names. One newline at the end of a file does not count. A file must not
 * be readable by others than its owner; relative paths begin at the folder of the module.
 */
export function readPassword(
  source: PasswordSource,
  module: string,
  environment: PasswordEnvironment,
  uid: number,
): { secret: Secret } | { problems: Problem[] } {
  if (typeof source === 'string') return checkPassword(source, module, 'password')
  if ('env' in source) {
    const text = environment[source.env]
    if (text !== undefined) return checkPassword(text, module, `password.env (${source.env})`)
    const expected = `the environment variable ${source.env} to be set`
    return { problems: [{ file: module, line: null, key: 'password.env', found: 'it unset', expected }] }
  }
  return readPasswordFile(resolve(dirname(module), source.file), module, uid)
}

function readPasswordFile(
  file: string,
  module: string,
  uid: number,
): { secret: Secret } | { problems: Problem[] } {
  try {
    const real = realpathSync(file)
    const problems = findSecrecyProblems(real, uid)
    // Who can put a link there could have the password of another host sent to his own.
    const folder = realpathSync(dirname(file))
    if (folder !== dirname(real)) problems.push(...findFolderProblems(folder, uid))
    if (problems.length > 0) return { problems }
    return checkPassword(readFileSync(real, 'utf8').replace(/\r?\n$/, ''), file, null)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const found = code === 'ENOENT' ? `no file ${file}` : `${file}, which cannot be read (${code})`
    const expected = 'a file with the password of the host'
    return { problems: [{ file: module, line: null, key: 'password.file', found, expected }] }
  }
}

function checkPassword(
  text: string,
  file: string,
  key: string | null,
): { secret: Secret } | { problems: Problem[] } {
  if (text !== '' && text.length <= passwordCharsMax && !text.includes('\0'))
    return { secret: new Secret(text) }
  const expected = `a password of 1 to ${passwordCharsMax} characters, without NUL`
  const found = text.includes('\0')
    ? 'one with a NUL'
    : text === ''
      ? 'an empty one'
      : `one of ${text.length} characters`
  return { problems: [{ file, line: null, key, found, expected }] }
}
