import type { Entry, EntryType } from '../entry.ts'
import type { BytePath } from '../path.ts'

/**
 * `path` is the order of `comparePaths`, `path-descending` its reverse. `content` is the order in which the content lies
 * in archives: by archive, then offset, so that each frame is read once.
 */
export type EntryOrder = 'path' | 'path-descending' | 'content'

/**
 * What is to be restored: a selection of the entries that stood at some moment. Read several times, in several orders,
 * and trusted in nothing.
 */
export interface RestoreSource {
  /**
   * The selected entries, streamed, each path once. Folders that only lead to what was selected come too, as `ancestor`.
   * The extents name their archives. May be left in the middle, and need not allow two iterations at a time.
   */
  entries(order: EntryOrder, types?: readonly EntryType[]): Iterable<Entry>
  /** The entry at a path, selected or not; `null` where nothing stood there. Called during an iteration of `entries`. */
  entryAt(path: BytePath): Entry | null
  /**
   * What is stored of the content of a file, of a sparse one its map and data, in pieces that stay valid until the next
   * one is asked for. Throws where it cannot be read; it need not compare it with the digest.
   */
  content(entry: Entry): AsyncIterable<Buffer>
}
