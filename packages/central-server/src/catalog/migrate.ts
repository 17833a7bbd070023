import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { CatalogError } from '../errors.ts'
import { catalogFailed } from './failure.ts'

export interface Migration {
  /** The schema's version once it was applied: 1 for the first. */
  version: number
  name: string
  sql: string
}

/** The migrations in `folder`, `NNNN-name.sql`, in order. Their numbers have no gaps. */
export function readMigrations(folder: string = join(import.meta.dirname, 'migrations')): Migration[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file, index) => {
      const version = Number(/^(\d{4})-/.exec(file)?.[1])
      if (version !== index + 1) throw new Error(`${join(folder, file)} is not migration ${index + 1}`)
      return { version, name: file, sql: readFileSync(join(folder, file), 'utf8') }
    })
}

/**
 * Brings the schema up to the last of `migrations`, in one transaction, so that it is either there or untouched, and so
 * that two processes that start together do not both do it. Refuses a schema that is newer.
 */
export function migrate(database: Database.Database, migrations: readonly Migration[], file: string): void {
  const newest = migrations.length
  if (schemaVersion(database) === newest) return
  const apply = database.transaction(() => {
    const current = schemaVersion(database)
    if (current > newest) {
      throw new CatalogError(
        'catalog-too-new',
        `${file} has schema ${current}; this backup-server knows up to ${newest}`,
        {
          hint: 'It was made by a newer backup-server. Use that one, or rebuild: move the file away and run `catalog rebuild`.',
        },
      )
    }
    for (const { sql } of migrations.slice(current)) execute(database, sql, file)
    database.pragma(`user_version = ${newest}`)
  })
  apply.immediate()
}

/** What is there already, although the version says that it is not, is damage; else the migration is at fault. */
function execute(database: Database.Database, sql: string, file: string): void {
  try {
    database.exec(sql)
  } catch (error) {
    const failed = error instanceof Database.SqliteError && error.code === 'SQLITE_ERROR'
    throw failed && !/already exists|duplicate column/.test(error.message)
      ? catalogFailed(file, error)
      : error
  }
}

function schemaVersion(database: Database.Database): number {
  return database.pragma('user_version', { simple: true }) as number
}
