import { randomUUID } from 'node:crypto'
import { StorageError } from '../errors.ts'
import { Catalog } from './catalog.ts'
import { heartbeatMs, isLiving, type LeaseOptions, ownerColumns } from './lease.ts'
import { identifyProcess } from './process-identity.ts'
import type { LeaseRow } from './statements.ts'

/**
 * Keeps runs and archives of hosts where they are, until it is disposed of: taken before a run is chosen. Any number of
 * processes may read, and a run goes on beside them. Where the catalog takes nothing, as on a full or read-only disk, it
 * holds nothing: then nobody can prune either. Throws `CatalogError`.
 */
export function holdForReading(
  catalog: Catalog,
  hosts: readonly string[],
  options: LeaseOptions = {},
): ReadLease {
  if (!catalog.writable || catalog.isAlone) return new ReadLease(null, [])
  const acquiredAtMs = catalog.now()
  const owner = ownerColumns(options.self ?? identifyProcess())
  const token = randomUUID()
  const rows = hosts.map((host) => ({
    ...{ host, token, ...owner, acquired_at_ms: acquiredAtMs, heartbeat_at_ms: acquiredAtMs },
  }))
  // A connection of its own: on that of the reader nothing can be written while it goes through rows.
  const own = new Catalog(catalog.file, { now: catalog.now, watched: { hosts: [] } })
  const lease = new ReadLease(own, rows)
  try {
    lease.heartbeat()
    return lease
  } catch (error) {
    lease.release()
    if (error instanceof StorageError) return new ReadLease(null, [])
    throw error
  }
}

export class ReadLease implements Disposable {
  readonly #catalog: Catalog | null
  readonly #rows: readonly LeaseRow[]
  readonly #timer: NodeJS.Timeout

  /** For `holdForReading`. Closes `catalog` in the end. */
  constructor(catalog: Catalog | null, rows: readonly LeaseRow[]) {
    this.#catalog = catalog
    this.#rows = rows
    this.#timer = setInterval(() => this.#beat(), heartbeatMs)
    this.#timer.unref()
  }

  /** Shows a sign of life. */
  heartbeat(): void {
    const catalog = this.#catalog
    if (catalog === null) return
    catalog.transaction(() => {
      for (const row of this.#rows)
        catalog.statements.renewReader.run({ ...row, heartbeat_at_ms: catalog.now() })
    })
  }

  /** Never throws: what cannot be deleted ends by itself when this process does. */
  release(): void {
    clearInterval(this.#timer)
    const catalog = this.#catalog
    if (catalog === null || !catalog.database.open) return
    try {
      const [row] = this.#rows
      if (row !== undefined) catalog.transaction(() => catalog.statements.deleteReader.run(row.token))
    } catch {
      // The disk may be full or gone, and the work is over all the same.
    }
    catalog.close()
  }

  [Symbol.dispose](): void {
    this.release()
  }

  #beat(): void {
    try {
      this.heartbeat()
    } catch {
      // A disk that is full or a database that is locked is no reason to end a restore; the next beat may get through.
    }
  }
}

/** Who reads archives of a host, for people; `null` where nobody does. Forgets who is dead: to be called in a transaction. */
export function findReader(catalog: Catalog, host: string, options: LeaseOptions = {}): string | null {
  const { statements, now } = catalog
  let found: string | null = null
  for (const row of statements.readers.all(host)) {
    if (!isLiving(row, now(), options)) statements.deleteReader.run(row.token)
    else found ??= `process ${row.pid} reads its archives since ${new Date(row.acquired_at_ms).toISOString()}`
  }
  return found
}
