import { pathBytesMax } from '@central-backup/archive'
import type { Catalog } from './catalog.ts'
import type { KeyRange } from './statements.ts'

/** Rows that are changed in one transaction: some tens of milliseconds. */
const rangeRowsMax = 10_000

/** Behind all keys: no byte of a key is followed by more of them than a path may have. */
const endOfKeys = Buffer.alloc(pathBytesMax + 1, 0xff)

/**
 * All rows of a generation in ranges of some thousand, each to be changed in a transaction of its own, so that nobody
 * waits for long. All versions of a path are in one range.
 */
export function* keyRanges({ statements }: Catalog, generation: number): Generator<KeyRange, void, void> {
  for (let from: Buffer = Buffer.alloc(0); ; ) {
    const after = statements.keyAfterRows.get({ generation, from, rows: rangeRowsMax })
    // A single path may have more versions than that.
    const end = after?.equals(from) ? statements.keyAfter.get({ generation, from }) : after
    yield { generation, from, end: end ?? endOfKeys }
    if (end === undefined) return
    from = end
  }
}
