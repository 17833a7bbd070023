import { createPrivateKey } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder } from '@central-backup/archive'
import { type Problem, SettingsError } from '../errors.ts'
import { createHostKey } from '../host-key.ts'
import { isThere, refuseExistingSetup, writePrivateFiles } from '../init.ts'
import { findPermissionProblems } from '../permissions.ts'

/** Where the key of an enrolment is that is not done: beside the settings. */
export function pendingKeyFile(settingsFile: string): string {
  return join(dirname(settingsFile), 'enrolment.key')
}

/**
 * The key that an enrolment is about, in a file of its own until both sides know that it is done. As long as the file is
 * there, the settings beside it are those of an enrolment that may have been cut off: the next one may replace them,
 * and has the same key, by which the server knows the host again.
 */
export class PendingKey {
  /** PKCS#8, PEM. */
  readonly key: string
  /** Whether an earlier enrolment has left it. */
  readonly isResumed: boolean
  readonly #file: string

  private constructor(file: string, key: string, isResumed: boolean) {
    this.#file = file
    this.key = key
    this.isResumed = isResumed
  }

  /**
   * The key that an earlier enrolment has left, or a new one, on disk. Throws `AlreadyExistsError` where this host is set
   * up already, unless that is to be replaced (`force`); `SettingsError` where the file cannot be used or others had
   * access to it; `WriteError`.
   */
  static async take(settingsFile: string, uid: number, force: boolean): Promise<PendingKey> {
    const file = pendingKeyFile(settingsFile)
    const left = await readLeft(file, uid)
    if (left !== null) return new PendingKey(file, left, true)
    if (!force) await refuseExistingSetup(settingsFile)
    const key = createHostKey()
    await writePrivateFiles(dirname(file), [{ path: file, content: key }])
    return new PendingKey(file, key, false)
  }

  /** The enrolment is done, or nothing has come of it. */
  async remove(): Promise<void> {
    // Where it has gone already, another enrolment that went on beside this one is done.
    await rm(this.#file, { force: true })
    await syncFolder(dirname(this.#file))
  }
}

async function readLeft(file: string, uid: number): Promise<string | null> {
  if (!(await isThere(file))) return null
  const expected = 'a P-256 key, for this user only'
  const problem = (found: string): Problem => ({ file, line: null, key: null, found, expected })
  let problems: Problem[]
  let key = ''
  try {
    problems = findPermissionProblems(file, uid, true)
    if (problems.length === 0) key = await readFile(file, 'latin1')
    if (problems.length === 0 && !isKey(key)) problems.push(problem('something else'))
  } catch (error) {
    problems = [problem(`what cannot be read (${(error as NodeJS.ErrnoException).code})`)]
  }
  if (problems.length === 0) return key
  throw new SettingsError('The key of an enrolment that was not finished cannot be used', problems, {
    hint: `Delete it, and run this again with --force: rm ${file}`,
  })
}

function isKey(text: string): boolean {
  try {
    return createPrivateKey(text).asymmetricKeyDetails?.namedCurve === 'prime256v1'
  } catch {
    return false
  }
}
