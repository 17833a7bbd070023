import {
  compressFrame,
  freeBuffer,
  IndexBatchEncoder,
  indexFrameMagic,
  wrapSkippable,
} from '@central-backup/archive'
import type { Catalog, Run } from './catalog.ts'
import { toEntry } from './version-row.ts'
import { archiveNames } from './versions.ts'

/** Rows of one batch: some 100 KiB, compressed in a few milliseconds. */
const batchRowsMax = 4000

/**
 * What stood in a run, as index frames in path order, for an agent to compare its tree with. Each call of `next` is a
 * query of its own, so that others can write to the catalog in between.
 */
export class Baseline {
  readonly #catalog: Catalog
  readonly #run: Run
  readonly #archiveOf: (id: number) => string
  readonly #encoder = new IndexBatchEncoder(null)
  #after: Buffer = Buffer.alloc(0)

  constructor(catalog: Catalog, run: Run) {
    this.#catalog = catalog
    this.#run = run
    this.#archiveOf = archiveNames(catalog)
  }

  /** The next frame, in a buffer that nothing else uses; `null` after the last. */
  next(): Buffer | null {
    const { generation, id } = this.#run
    const rows = this.#catalog.statements.baselineRows.all({
      generation,
      run: id,
      after: this.#after,
      limit: batchRowsMax,
    })
    if (rows.length === 0) return null
    for (const row of rows) {
      // The ctime tells whether they have changed.
      if (!this.#encoder.add({ ...toEntry(row, this.#archiveOf), xattrs: null })) break
      this.#after = row.path
    }
    const batch = this.#encoder.take()
    const frame = compressFrame(batch)
    freeBuffer(batch)
    return wrapSkippable(indexFrameMagic, frame)
  }
}
