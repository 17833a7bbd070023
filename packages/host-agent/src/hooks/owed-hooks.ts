import { constants } from 'node:fs'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { makeFolders, syncFolder } from '@central-backup/archive'
import { hookNamePattern, hooksMax } from '@central-backup/protocol'
import * as z from 'zod'
import { findPermissionProblems } from '../permissions.ts'

/** Hooks that have to be run though the agent was killed, and what they are told of the run that was under way. */
export interface OwedHooks {
  hooks: readonly string[]
  variables: Readonly<Record<string, string>>
}

const fileName = 'owed-hooks.json'
const noteBytesMax = 64 * 1024

const schema = z.strictObject({
  hooks: z.array(z.string().regex(hookNamePattern)).max(hooksMax),
  variables: z.record(z.string().regex(/^CENTRAL_BACKUP_[A-Z_]{1,32}$/), z.string().max(256)),
})

/**
 * The note in the agent's state folder that says which hooks have to be run after a run, written before the first one
 * before it and removed when all is done: so that a snapshot is not left behind by an agent that was killed.
 */
export class OwedHooksNote {
  readonly #file: string

  constructor(stateDirectory: string) {
    this.#file = join(stateDirectory, fileName)
  }

  /** Is on the disk when it resolves. Throws errors of the operating system. */
  async write(owed: OwedHooks): Promise<void> {
    const folder = dirname(this.#file)
    await makeFolders(folder)
    const temporary = `${this.#file}.new`
    await rm(temporary, { force: true })
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
    try {
      await file.writeFile(JSON.stringify(owed))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, this.#file)
    await syncFolder(folder)
  }

  /** Throws errors of the operating system. */
  async remove(): Promise<void> {
    await rm(this.#file, { force: true })
  }

  /**
   * `null` where nothing is owed. Throws errors of the operating system, and an `Error` where others than the user `uid`
   * and root can have written the note, or it is none.
   */
  async read(uid: number = process.geteuid!()): Promise<OwedHooks | null> {
    let text: string
    try {
      const [problem] = findPermissionProblems(this.#file, uid, true)
      if (problem !== undefined)
        throw new Error(`${problem.file} has ${problem.found}: others may have written ${this.#file}`)
      text = await readFile(this.#file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    if (text.length > noteBytesMax) throw new Error(`${this.#file} is too large`)
    try {
      return schema.parse(JSON.parse(text))
    } catch (cause) {
      throw new Error(`${this.#file} cannot be read`, { cause })
    }
  }
}
