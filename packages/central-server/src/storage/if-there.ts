import { lstat, readdir, readFile, unlink } from 'node:fs/promises'
import { withStorageErrors } from './failure.ts'

/** Files that may be missing: only what is not there counts as that. Else a `StorageError` says what is wrong. */

/** Whether something has this path, a dangling link included. */
export async function isThere(path: string): Promise<boolean> {
  const status = await withStorageErrors(`look at ${path}`, () => unlessMissing(lstat(path)))
  return status !== null
}

/** The text of a file; `null` where there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  return withStorageErrors(`read ${path}`, () => unlessMissing(readFile(path, 'utf8')))
}

/** What is in a folder; nothing where there is none. */
export async function namesIfThere(folder: string): Promise<string[]> {
  return withStorageErrors(`list ${folder}`, async () => (await unlessMissing(readdir(folder))) ?? [])
}

export async function removeIfThere(path: string): Promise<void> {
  await withStorageErrors(`remove ${path}`, () => unlessMissing(unlink(path)))
}

/** What the system says of a file; `null` where it says that there is none. Throws its other errors. */
export async function unlessMissing<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
