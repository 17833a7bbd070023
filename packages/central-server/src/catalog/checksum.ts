import { hash } from 'node:crypto'
import type Database from 'better-sqlite3'

/**
 * Adds the function `row_checksum(value, …)` to a connection: SHA-256 over the JSON of the values, those of type BLOB in
 * hexadecimal. Triggers of the schema write it beside the rows that nothing but the catalog knows.
 */
export function addChecksumFunction(database: Database.Database): void {
  database.function('row_checksum', { varargs: true, deterministic: true }, (...values: unknown[]) =>
    hash(
      'sha256',
      JSON.stringify(
        values.map((value) => (Buffer.isBuffer(value) ? { hex: value.toString('hex') } : value)),
      ),
      'buffer',
    ),
  )
}
