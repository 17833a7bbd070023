import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { syncFolder } from '@central-backup/archive'
import { BusyError } from '../errors.ts'
import { withStorageErrors } from './failure.ts'
import { readIfThere, removeIfThere, unlessMissing } from './if-there.ts'

const createNew = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** Nobody needs longer from the first to the last step of an update: what is older was left by a crash. */
const updateMsMax = 60_000
const lookMs = 100
const patienceMs = 10_000

/**
 * Puts a file with this content and mode in the place of `path`, be there one or none: after a crash or a power loss it is
 * the old one or the new one, whole. A link that lies there is replaced, not followed. Throws `StorageError`.
 */
export async function replaceFile(path: string, content: string, mode: number): Promise<void> {
  const beside = `${path}.${process.pid}.new`
  await withStorageErrors(`write ${path}`, async () => {
    await removeIfThere(beside)
    const file = await open(beside, createNew, mode)
    await finish(file, beside, path, async () => content, mode)
  })
}

/**
 * The same for content that is made of what is there, `null` for nothing: one process at a time, so that none undoes what
 * another has done. Throws `BusyError` where another one does not come to an end, and what `change` throws.
 */
export async function updateFile(
  path: string,
  change: (before: string | null) => Promise<string>,
  mode: number,
): Promise<void> {
  const beside = `${path}.new`
  await withStorageErrors(`write ${path}`, async () => {
    const file = await openAlone(beside, mode)
    await finish(file, beside, path, async () => change(await readIfThere(path)), mode)
  })
}

async function finish(
  file: FileHandle,
  beside: string,
  path: string,
  makeContent: () => Promise<string>,
  mode: number,
): Promise<void> {
  try {
    await file.chmod(mode)
    await file.writeFile(await makeContent())
    await file.sync()
    await file.close()
    await rename(beside, path)
  } catch (error) {
    // Either may be what failed; what is left beside is taken over or replaced by the next who writes.
    await file.close().catch(() => {})
    await unlink(beside).catch(() => {})
    throw error
  }
  await syncFolder(dirname(path))
}

async function openAlone(beside: string, mode: number): Promise<FileHandle> {
  for (let waitedMs = 0; ; waitedMs += lookMs) {
    try {
      return await open(beside, createNew, mode)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const found = await unlessMissing(lstat(beside))
    if (found !== null && Date.now() - found.mtimeMs > updateMsMax) await removeIfThere(beside)
    else if (waitedMs >= patienceMs) {
      throw new BusyError(`Another backup-server is writing ${beside}`, {
        hint: 'Wait for it to end. What a crash has left is taken over after a minute.',
      })
    } else await delay(lookMs)
  }
}
