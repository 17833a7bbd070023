import Database from 'better-sqlite3'
import { BackupError, CatalogError, StorageError } from '../errors.ts'

const rebuildHint =
  'The archives hold what is in it: `backup-server catalog rebuild` makes it anew, and keeps the old file beside it.'

/** The catalog is not what was written. `what` is for people, and says what of it. */
export function catalogDamaged(file: string, what: string, cause?: unknown): CatalogError {
  return new CatalogError('catalog-damaged', `The catalog ${file} is damaged: ${what}`, {
    cause,
    hint: rebuildHint,
  })
}

/** SQLite refused something for a reason that is neither of the disk nor of the file. */
export function catalogFailed(file: string, error: InstanceType<typeof Database.SqliteError>): CatalogError {
  return new CatalogError('catalog-failed', `The catalog ${file} failed: ${error.message} (${error.code})`, {
    cause: error,
  })
}

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
    case 'SQLITE_CONSTRAINT':
    case 'SQLITE_MISMATCH':
      return catalogDamaged(file, error.message, error)
    case 'SQLITE_BUSY':
      return new CatalogError(
        'catalog-busy',
        `The catalog ${file} was locked for too long by another process`,
        {
          ...details,
          hint: 'Look who has it open (`fuser`), and run again.',
        },
      )
    case 'SQLITE_ERROR':
      // What this program asks is right where the schema and the JSON in rows are what it has written.
      if (!error.message.includes('transaction')) return catalogDamaged(file, error.message, error)
      return catalogFailed(file, error)
    default:
      return catalogFailed(file, error)
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

/** Values that are not what a column holds come out of a damaged page, whatever the schema says. */
export function requireKey(key: unknown, file: string): void {
  if (!Buffer.isBuffer(key)) throw catalogDamaged(file, 'a version has no path')
}

type Call = (...values: unknown[]) => unknown

/**
 * Makes the calls of a statement throw what `toCatalogError` makes of their failures, and where a row has a path that
 * cannot be one. Returns the statement.
 */
export function guardStatement<T extends Database.Statement>(statement: T, file: string): T {
  const calls = statement as unknown as Record<'run' | 'get' | 'all' | 'iterate', Call>
  const check = (row: unknown) => {
    if (typeof row === 'object' && row !== null && 'path' in row) requireKey(row.path, file)
  }
  const guard = (name: 'run' | 'get' | 'all', checkResult: (result: unknown) => void) => {
    const call = calls[name]
    calls[name] = (...values) => {
      try {
        const result = call.apply(statement, values)
        checkResult(result)
        return result
      } catch (error) {
        throw toCatalogError(error, file)
      }
    }
  }
  guard('run', () => {})
  guard('get', check)
  guard('all', (rows) => {
    for (const row of rows as unknown[]) check(row)
  })
  const iterate = calls.iterate
  calls.iterate = (...values) =>
    iterateRows(file, () => iterate.apply(statement, values) as Iterable<unknown>, check)
  return statement
}

function* iterateRows(
  file: string,
  rows: () => Iterable<unknown>,
  check: (row: unknown) => void,
): IterableIterator<unknown> {
  try {
    for (const row of rows()) {
      check(row)
      yield row
    }
  } catch (error) {
    throw toCatalogError(error, file)
  }
}
