import { ArchiveError, errnoName } from '@central-backup/archive'
import { BackupError, StorageError, type StorageErrorCode } from '../errors.ts'

interface Meaning {
  code: StorageErrorCode
  what: string
  hint: string
}

const diskFull: Meaning = {
  code: 'disk-full',
  what: 'there is no space left',
  hint: 'Make space (`backup-server prune`, or a larger disk) and run again. What is there already is not harmed.',
}
const notPermitted: Meaning = {
  code: 'no-permission',
  what: 'permission was denied',
  hint: 'Run backup-server as the user who owns the repository, or give the repository to this one.',
}
const gone: Meaning = {
  code: 'not-mounted',
  what: 'the file system went away',
  hint: 'Look whether the destination is still mounted (`findmnt`), mount it again, and run again.',
}
const failing: Meaning = {
  code: 'io-error',
  what: 'the disk reported an error',
  hint: 'Look at `dmesg` and `smartctl`: the disk may be failing. Verify the archives that it holds.',
}
const damaged: Meaning = {
  code: 'io-error',
  what: 'the file system is damaged',
  hint: 'Look at `dmesg`, unmount it and have it checked (`fsck`, `xfs_repair`). Then verify the archives that it holds.',
}
const noDescriptors: Meaning = {
  code: 'too-many-open-files',
  what: 'there are too many open files',
  hint: 'Raise the limit (`ulimit -n`, LimitNOFILE= in the unit), or lower `concurrency` in settings.ts.',
}

const meanings: Readonly<Record<string, Meaning>> = {
  ENOSPC: diskFull,
  EDQUOT: { ...diskFull, what: "the user's quota is used up" },
  EROFS: {
    code: 'read-only',
    what: 'the file system is read-only',
    hint: 'A file system that became read-only by itself has met errors: look at `dmesg`. Else mount it writable.',
  },
  EACCES: notPermitted,
  EPERM: notPermitted,
  EIO: failing,
  EREMOTEIO: failing,
  EBADMSG: damaged,
  EUCLEAN: damaged,
  EFBIG: {
    code: 'file-too-large',
    what: 'the file would be too large',
    hint: 'The file system (FAT?) or a limit (`ulimit -f`) does not permit files of this size.',
  },
  EMFILE: noDescriptors,
  ENFILE: noDescriptors,
  ESTALE: gone,
  ENOTCONN: gone,
  ENODEV: gone,
  ENXIO: gone,
  ENOMEDIUM: gone,
}

/**
 * Turns an error of the operating system into one for people. `doing` continues "Cannot": `write PATH`. An error
 * that has a meaning already stays as it is.
 */
export function toStorageError(error: unknown, doing: string): BackupError {
  if (error instanceof BackupError) return error
  const { code = '', errno } = (error ?? {}) as NodeJS.ErrnoException
  const systemCode = errno !== undefined && errno < 0 ? errnoName(errno) : code
  const meaning = meanings[systemCode]
  if (meaning !== undefined) {
    const message = `Cannot ${doing}: ${meaning.what} (${systemCode})`
    return new StorageError(meaning.code, message, { hint: meaning.hint, cause: error })
  }
  const reason = systemCode || (error instanceof Error ? error.message : String(error))
  return new StorageError('storage-failed', `Cannot ${doing}: ${reason}`, { cause: error })
}

/** What a disk says of a part of a file that it cannot give, as the system tells it. */
export function isBadSector(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EIO'
}

/** Says that of a file, for people. */
export function describeBadSector(path: string): string {
  return `${path} cannot be read: the disk reported an error (EIO)`
}

/** Does `work`, and throws what `toStorageError` makes of its failure; what is wrong with an archive stays as it is. */
export async function withStorageErrors<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof ArchiveError ? error : toStorageError(error, doing)
  }
}
