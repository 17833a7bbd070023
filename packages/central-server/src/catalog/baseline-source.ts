import {
  compressFrame,
  freeBuffer,
  IndexBatchEncoder,
  indexFrameMagic,
  wrapSkippable,
} from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import { openReferences, type References } from './references.ts'
import { toEntry, type VersionRow } from './version-row.ts'

/** Rows of one batch: some 100 KiB, compressed in a few milliseconds. */
const batchRowsMax = 4000
/** Rows of one query: so few that they are gone with the next collection of young objects. */
const queryRowsMax = 250

/**
 * What stood in a run, as index frames in path order, for an agent to compare its tree with. Each call of `next` makes
 * queries of its own, so that others can write to the catalog in between.
 */
export class Baseline {
  readonly #catalog: Catalog
  readonly #run: Run
  readonly #references: References
  readonly #encoder = new IndexBatchEncoder(null)
  #after: Buffer = Buffer.alloc(0)

  constructor(catalog: Catalog, run: Run) {
    this.#catalog = catalog
    this.#run = run
    this.#references = openReferences(catalog)
  }

  /** The next frame, in a buffer that nothing else uses; `null` after the last. */
  next(): Buffer | null {
    let rows = 0
    while (rows < batchRowsMax) {
      const added = this.#addRows()
      rows += added
      if (added < queryRowsMax) break
    }
    if (rows === 0) return null
    const batch = this.#encoder.take()
    const frame = compressFrame(batch)
    freeBuffer(batch)
    return wrapSkippable(indexFrameMagic, frame)
  }

  /** Returns how many rows were added: fewer than `queryRowsMax` where there are no more, or the batch is full. */
  #addRows(): number {
    const { generation, id } = this.#run
    const rows = this.#catalog.statements.baselineRows.all({
      generation,
      run: id,
      after: this.#after,
      limit: queryRowsMax,
    })
    const refused = rows.findIndex((row) => !this.#add(row))
    return refused < 0 ? rows.length : refused
  }

  #add(row: VersionRow): boolean {
    const entry = toEntry(row, this.#references)
    // The ctime tells whether they have changed.
    entry.xattrs = null
    if (!this.#encoder.add(entry)) return false
    this.#after = row.path
    return true
  }
}
