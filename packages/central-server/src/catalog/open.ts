import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  unlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import Database from 'better-sqlite3'
import { toStorageError } from '../storage/failure.ts'
import { addChecksumFunction } from './checksum.ts'
import { catalogDamaged } from './failure.ts'

const lockTimeoutMs = 15_000

/** In the place of a file name: a database of one process that lies in SQLite's folder for temporary files, without a name. */
export const temporaryFile = ''

export interface OpenDatabase {
  database: Database.Database
  /** Why nothing can be written; `null` where it can. */
  obstacle: Error | null
  close(): void
}

/**
 * Opens the database `file`, and makes it where it is missing, only for this user. A disk that is full or read-only must
 * not keep people from seeing what they have, and SQLite's shared memory needs a file: on a full disk the database is
 * opened without it, for this process alone; where no file can be made at all, a copy is opened that cannot be written to.
 */
export function openDatabase(file: string): OpenDatabase {
  if (file === temporaryFile) return openTemporary()
  makePrivateFile(file)
  requireKnownFormat(file)
  try {
    return openInPlace(file, 'NORMAL')
  } catch (error) {
    const code = error instanceof Database.SqliteError ? error.code : ''
    if (code === 'SQLITE_FULL' || code === 'SQLITE_IOERR_SHMSIZE') return openInPlace(file, 'EXCLUSIVE')
    if (code === 'SQLITE_CANTOPEN' || code === 'SQLITE_READONLY')
      return openCopy(file, findObstacle(file) ?? (error as Error))
    throw error
  }
}

function openInPlace(file: string, lockingMode: 'NORMAL' | 'EXCLUSIVE'): OpenDatabase {
  const database = new Database(file, { timeout: lockTimeoutMs })
  try {
    addChecksumFunction(database)
    database.pragma(`locking_mode = ${lockingMode}`)
    database.pragma('journal_mode = WAL')
    // What must survive a power loss is written by `Catalog.durableTransaction`.
    database.pragma('synchronous = NORMAL')
    database.pragma('foreign_keys = ON')
    return { database, obstacle: null, close: () => database.close() }
  } catch (error) {
    database.close()
    throw error
  }
}

function openTemporary(): OpenDatabase {
  const database = new Database(temporaryFile)
  addChecksumFunction(database)
  database.pragma('journal_mode = MEMORY')
  database.pragma('synchronous = OFF')
  return { database, obstacle: null, close: () => database.close() }
}

/** The log of what was written last (`-wal`), where a process left it, belongs to the database. */
function openCopy(file: string, obstacle: Error): OpenDatabase {
  const folder = mkdtempSync(join(tmpdir(), 'central-backup-catalog-'))
  const removeFolder = () => rmSync(folder, { recursive: true, force: true })
  try {
    const copy = join(folder, basename(file))
    copyFileSync(file, copy, constants.COPYFILE_FICLONE)
    if (existsSync(`${file}-wal`)) copyFileSync(`${file}-wal`, `${copy}-wal`)
    const { database } = openInPlace(copy, 'EXCLUSIVE')
    database.pragma('query_only = ON')
    const close = () => {
      database.close()
      removeFolder()
    }
    return { database, obstacle, close }
  } catch (error) {
    removeFolder()
    throw error instanceof Database.SqliteError ? error : toStorageError(error, `copy ${file}`)
  }
}

/** What keeps files from being made beside the database: a read-only disk, or one that has no room for another file. */
function findObstacle(file: string): Error | null {
  const probe = `${file}.probe-${process.pid}`
  try {
    closeSync(openSync(probe, 'wx', 0o600))
    unlinkSync(probe)
    return null
  } catch (error) {
    return toStorageError(error, `write beside the catalog ${file}`)
  }
}

/** A format that SQLite may not write looks like a disk that is read-only. In its header, 2 is a database with a log. */
function requireKnownFormat(file: string): void {
  const header = Buffer.alloc(20)
  try {
    const descriptor = openSync(file, 'r')
    try {
      if (readSync(descriptor, header, 0, header.length, 0) < header.length) return
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    throw toStorageError(error, `read ${file}`)
  }
  const [toWrite, toRead] = header.subarray(18)
  if (toWrite! > 2 || toRead! > 2)
    throw catalogDamaged(file, `its format is ${toWrite}, ${toRead}, which SQLite does not have`)
}

/** SQLite gives the files that it makes beside the database the mode of the database. */
function makePrivateFile(file: string): void {
  try {
    if (!existsSync(file)) closeSync(openSync(file, 'a', 0o600))
  } catch (error) {
    throw toStorageError(error, `create ${file}`)
  }
}
