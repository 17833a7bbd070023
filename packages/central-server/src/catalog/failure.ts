import Database from 'better-sqlite3'
import { BackupError, CatalogError, StorageError } from '../errors.ts'

const rebuildHint =
  'The archives hold all that is in it: move the file away (with its -wal and -shm) and run `backup-server catalog rebuild`.'

/** Turns an error of SQLite into one for people. Other errors stay as they are. */
export function toCatalogError(error: unknown, file: string): unknown {
  if (error instanceof BackupError || !(error instanceof Database.SqliteError)) return error
  const details = { cause: error }
  const [primary] = /^SQLITE_[A-Z]+/.exec(error.code) ?? ['']
  switch (primary) {
    case 'SQLITE_FULL':
      return new StorageError('disk-full', `Cannot write the catalog ${file}: there is no space left`, {
        ...details,
        hint: 'Make space (`backup-server prune`, or a larger disk) and run again.',
      })
    case 'SQLITE_READONLY':
      return new StorageError('read-only', `Cannot write the catalog ${file}: it is read-only`, {
        ...details,
        hint: 'Look at how the file system is mounted, and at the owner of the file.',
      })
    case 'SQLITE_IOERR':
      return new StorageError('io-error', `Cannot read or write the catalog ${file} (${error.code})`, {
        ...details,
        hint: 'Look at `dmesg` and at the free space of the disk.',
      })
    case 'SQLITE_CORRUPT':
    case 'SQLITE_NOTADB':
      return new CatalogError('catalog-damaged', `The catalog ${file} is damaged: ${error.message}`, {
        ...details,
        hint: rebuildHint,
      })
    case 'SQLITE_BUSY':
      return new CatalogError(
        'catalog-busy',
        `The catalog ${file} was locked for too long by another process`,
        {
          ...details,
          hint: 'Look who has it open (`fuser`), and run again.',
        },
      )
    default:
      return new CatalogError(
        'catalog-failed',
        `The catalog ${file} failed: ${error.message} (${error.code})`,
        details,
      )
  }
}

/** Does `work`, and throws what `toCatalogError` makes of its failure. */
export function withCatalogErrors<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw toCatalogError(error, file)
  }
}
