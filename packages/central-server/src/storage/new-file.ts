import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolders, syncFolder } from '@central-backup/archive'
import { AlreadyExistsError, type BackupError, StorageError } from '../errors.ts'
import { toStorageError, withStorageErrors } from './failure.ts'
import { removeIfThere } from './if-there.ts'

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
    // It may be what failed, and nothing of the file is kept.
    await file.close().catch(() => {})
    throw await withdraw([path], toStorageError(error, `write ${path}`))
  }
}

/**
 * Removes files that were begun before `error`, and returns what is to be thrown: `error`, or one that says as well which of
 * them could not be removed and so are in the way of the next attempt.
 */
export async function withdraw(paths: readonly string[], error: BackupError): Promise<BackupError> {
  const left: BackupError[] = []
  for (const path of paths) {
    await removeIfThere(path).catch((failure: BackupError) => left.push(failure))
  }
  if (left.length === 0) return error
  const code = error instanceof StorageError ? error.code : 'storage-failed'
  return new StorageError(code, [error, ...left].map(({ message }) => message).join('. '), {
    hint: `${error.hint} Remove by hand what could not be removed, as it is in the way of the next attempt.`.trim(),
    cause: error,
  })
}

/** Makes the folder and those above it that are missing, only for this user. Folders that are there stay as they are. */
export async function makePrivateFolder(path: string): Promise<void> {
  await withStorageErrors(`make the folder ${path}`, async () => {
    const first = await makeFolders(path)
    if (first === null) return
    for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
  })
}
