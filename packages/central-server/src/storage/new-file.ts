import { constants } from 'node:fs'
import { lstat, mkdir, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncFolder } from '@central-backup/archive'
import { AlreadyExistsError } from '../errors.ts'
import { toStorageError, withStorageErrors } from './failure.ts'

const createNew = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/**
 * Makes the file `path` with exactly this mode and content, so that it survives a power loss (file and folder are
 * fsynced). Never overwrites: throws `AlreadyExistsError` where there is something, a dangling link included. What was
 * begun is removed when it fails.
 */
export async function writeNewFile(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const file = await open(path, createNew, mode).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw toStorageError(error, `create ${path}`)
    throw new AlreadyExistsError(`${path} is there already`, {
      hint: 'It was left as it is. Move it away if it is not needed any more.',
    })
  })
  try {
    await file.chmod(mode)
    await file.writeFile(content)
    await file.sync()
    await file.close()
    await syncFolder(dirname(path))
  } catch (error) {
    await file.close().catch(() => {})
    await unlink(path).catch(() => {})
    throw toStorageError(error, `write ${path}`)
  }
}

/** Whether something has this path, a dangling link included. Throws `StorageError` where that cannot be told. */
export async function isThere(path: string): Promise<boolean> {
  return withStorageErrors(`look at ${path}`, async () => {
    try {
      await lstat(path)
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
  })
}

/** Makes the folder and those above it that are missing, only for this user. Folders that are there stay as they are. */
export async function makePrivateFolder(path: string): Promise<void> {
  await withStorageErrors(`make the folder ${path}`, async () => {
    const first = await mkdir(path, { recursive: true, mode: 0o700 })
    if (first === undefined) return
    for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
  })
}
