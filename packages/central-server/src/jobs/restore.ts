import {
  ArchiveError,
  type RestoreOptions,
  type RestoreReport,
  type RestoreSource,
  restoreTree,
} from '@central-backup/archive'
import { StorageError } from '../errors.ts'
import { type ExitCode, exitCodes } from '../exit-codes.ts'
import { makePrivateFolder } from '../storage/new-file.ts'

/**
 * Restores below `target`, an absolute path, which is made (for this user only) where it is missing. What cannot be
 * restored is in the report. Throws `StorageError` where the target takes nothing, and the reason of the signal.
 */
export async function restore(
  source: RestoreSource,
  target: string,
  options: RestoreOptions,
): Promise<RestoreReport> {
  await makePrivateFolder(target)
  try {
    return await restoreTree(source, target, options)
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error
    throw new StorageError('storage-failed', error.message, { hint: error.hint ?? '', cause: error })
  }
}

/** What was kept because something else stands there was wished so; what is missing was not. */
export function exitCodeOfRestore({ restored, equal, damaged, failed }: RestoreReport): ExitCode {
  if (damaged.count + failed.count === 0) return exitCodes.ok.code
  const { directories: _, ...objects } = restored
  const usable = Object.values(objects).reduce((sum, count) => sum + count, equal)
  return usable === 0 ? exitCodes.failed.code : exitCodes.incomplete.code
}
