import type { ArchiveEnd, ArchiveHeader, Entry, Gone } from '../entry.ts'
import { IndexBatchEncoder } from '../index-batch.ts'

/** A batch is worth a frame of its own from this size on; smaller ones wait for the next block. */
const batchBytesMin = 128 * 1024

/** Smaller ones do not wait for longer, or a broken run would lose what they tell of. */
const blocksWaitedMax = 2

/** A batch is sent at this size also where no block is full. Leaves room for the largest entry in every batch. */
const batchBytesWanted = 512 * 1024

/**
 * Gathers the entries of an archive into index batches, each of which may only be sent after the blocks that hold the
 * content of its entries.
 */
export class IndexWriter {
  readonly #send: (batch: Buffer) => void
  readonly #encoder: IndexBatchEncoder
  #blocksWaited = 0

  /** `send` gets each batch in a buffer that nothing else uses. */
  constructor(header: ArchiveHeader, send: (batch: Buffer) => void) {
    this.#send = send
    this.#encoder = new IndexBatchEncoder(header)
  }

  /** Takes an entry whose member, if it has one, was written to the tar stream, which has `tarBytes` by now. */
  add(entry: Entry, tarBytes: number): void {
    if (!this.#encoder.add(entry)) throw new Error('an index batch has no room for the next entry')
    this.#encoder.reach(tarBytes)
  }

  /** Takes a path that stood in the run before and does not any more. */
  addGone(gone: Gone): void {
    if (!this.#encoder.addGone(gone))
      throw new Error('an index batch has no room for the next path that is gone')
  }

  /** The entries take so much that the block should be sent before it is full, and then this. */
  get isFull(): boolean {
    return this.#encoder.sizeBytes >= batchBytesWanted
  }

  /** Call after a block was sent: all entries so far lie in blocks that were sent. */
  blockSent(): void {
    this.#blocksWaited++
    if (this.#encoder.sizeBytes >= batchBytesMin || this.#blocksWaited >= blocksWaitedMax) this.send()
  }

  /** Sends what there is. All entries so far must lie in blocks that were sent. */
  send(): void {
    if (this.#encoder.isEmpty) return
    this.#send(this.#encoder.take())
    this.#blocksWaited = 0
  }

  /** Sends the last batch. */
  finish(end: ArchiveEnd): void {
    this.#send(this.#encoder.take(end))
  }
}
