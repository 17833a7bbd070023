import {
  ArchiveError,
  comparePaths,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  type EntryOrder,
  type EntryType,
  indexBatchBytesMax,
  indexFrameMagic,
  quotePath,
  unwrapSkippable,
} from '@central-backup/archive'
import { ProtocolError, restoreEntriesMax } from '@central-backup/protocol'

/** Entries of an index frame that a server sends for a restore. Throws a `ProtocolError` for what breaks a rule. */
export function decodeEntries(frame: Buffer): Entry[] {
  try {
    const content = decompressFrame(unwrapSkippable(indexFrameMagic, frame), indexBatchBytesMax)
    const { entries, ...rest } = decodeIndexBatch(content, 'archive', 'any')
    const { header, gone, membersEnd, end } = rest
    if (header !== null || gone.length > 0 || membersEnd !== null || end !== null)
      throw malformed('more than entries')
    if (entries.length === 0) throw malformed('a batch without entries')
    return entries
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error
    throw new ProtocolError('message-malformed', `the server sent no entries: ${error.message}`, {
      cause: error,
    })
  }
}

/** Checks that the batches of one pass hold what was asked for: types, and the order where it is one of paths. */
export class EntryStream {
  readonly #order: EntryOrder
  readonly #types: ReadonlySet<EntryType> | null
  #last: Entry | null = null
  #count = 0

  constructor(order: EntryOrder, types: readonly EntryType[] | undefined) {
    this.#order = order
    this.#types = types === undefined ? null : new Set(types)
  }

  /** Throws a `ProtocolError`. */
  accept(batch: readonly Entry[]): void {
    this.#count += batch.length
    if (this.#count > restoreEntriesMax) throw malformed(`more than ${restoreEntriesMax} entries`)
    for (const entry of batch) {
      if (this.#types?.has(entry.type) === false)
        throw malformed(`a ${entry.type}, which was not asked for: ${quotePath(entry.path)}`)
      if (this.#last !== null && !this.#follows(entry, this.#last))
        throw malformed(
          `entries out of order: ${quotePath(entry.path)} follows ${quotePath(this.#last.path)}`,
        )
      this.#last = entry
    }
  }

  #follows(entry: Entry, last: Entry): boolean {
    if (this.#order === 'content') return true
    const order = comparePaths(entry.path, last.path)
    return this.#order === 'path' ? order > 0 : order < 0
  }
}

function malformed(what: string): ProtocolError {
  return new ProtocolError('message-malformed', `the server sent ${what}`)
}
