import { createHash, type Hash, hash } from 'node:crypto'
import type { Entry } from '../entry.ts'
import { fileBytesMax } from '../limits.ts'
import {
  describeErrno,
  dropPages,
  errno,
  FileStatus,
  isCached,
  readAt,
  readInto,
  readTo,
  rewind,
} from '../native/libc.ts'
import type { SparseCursor, SparseMap } from '../sparse-map.ts'
import { tarBlockBytes } from '../tar-header.ts'
import type { BlockWriter } from './block-writer.ts'
import { mapData } from './map-data.ts'
import type { SharedState } from './shared-state.ts'

/** A file at least this large is not left in the page cache, unless it was there before. */
const dropPagesBytesMin = 1024 * 1024

/** Content that is read only to be compared. */
const scratchBytes = 256 * 1024

const emptyDigest = hash('sha256', '', 'buffer')

/** Ends the walk when the owner of the packer does not want it any more. */
export class PackingCancelled extends Error {}

/** What is told of a file whose content did not stand still; its entry is marked by then. */
export interface ContentObserver {
  /** It is a mixture of two states, cut or padded to the size that it had. */
  changed(entry: Entry, message: string): void
  /** What could not be read is zeros. */
  unreadable(entry: Entry, message: string): void
}

/** Reads the content of open files: into the tar stream, or only to compare it. */
export class FileContent {
  readonly #blocks: BlockWriter
  readonly #state: SharedState
  readonly #observer: ContentObserver
  readonly #after = new FileStatus()
  readonly #digest = Buffer.alloc(32)
  #scratch: Buffer | null = null

  constructor(blocks: BlockWriter, state: SharedState, observer: ContentObserver) {
    this.#blocks = blocks
    this.#state = state
    this.#observer = observer
  }

  /**
   * The map of a file that has holes, whose entry then gets its `storedSize`; `null` for a file that is stored as it is:
   * it has none, the file system cannot tell, or map and data would not be less. Only a file that takes less room than its
   * size is asked about. To be called before anything is read.
   */
  mapHoles(entry: Entry, fd: number, allocatedBytes: number): SparseMap | null {
    if (allocatedBytes >= entry.size || entry.size <= tarBlockBytes || entry.size > fileBytesMax) return null
    // A server that sees no progress takes the agent for stuck: a region counts as the least that it will have in the map.
    const map = mapData(fd, entry.size, (regions) => this.#count(regions))
    rewind(fd)
    const storedSize = map === null ? entry.size : map.mapBytes + map.dataBytes
    if (storedSize >= entry.size) return null
    entry.storedSize = storedSize
    return map
  }

  /**
   * Whether the content is still what it was before, so that it can stay where it is: the data, and where the holes are.
   * Reads the file, and has it at its start again where the content is another.
   */
  isThatOf(before: Entry | null, entry: Entry, fd: number, map: SparseMap | null): before is Entry {
    if (before?.type !== 'file' || before.digest === null || before.changedWhileRead) return false
    if (before.size !== entry.size || before.storedSize !== entry.storedSize || entry.size === 0) return false
    const running = createHash('sha256')
    const whole = map === null ? this.#hashFile(running, fd, entry.size) : this.#hashSparse(running, fd, map)
    if (whole && running.digest().equals(before.digest)) return true
    rewind(fd)
    return false
  }

  /**
   * Reads what is to be stored into the stream: exactly `entry.size` bytes, or the map and the data that it names. What is
   * not there any more is zeros. Returns the SHA-256 of it, valid until the next call.
   */
  copy(entry: Entry, fd: number, map: SparseMap | null): Uint8Array {
    if (entry.size === 0) return emptyDigest
    if (map !== null) return this.#copySparse(entry, fd, map)
    const blocks = this.#blocks
    const large = entry.size >= dropPagesBytesMin
    const dropAfterwards = large && !isCached(fd)
    // The usual small file: one read, and hashed in one call.
    const fits = entry.size <= blocks.block.length - blocks.position
    const running = fits ? null : createHash('sha256')
    let digest: Uint8Array | null = null
    for (let left = entry.size; left > 0; ) {
      const { block, position } = blocks
      const length = Math.min(left, block.length - position)
      this.#fill(entry, fd, length)
      const piece = block.subarray(position, position + length)
      if (running === null) digest = this.#hashPiece(piece)
      else running.update(piece)
      left -= length
      this.#count(length)
      blocks.advance(length)
      if (dropAfterwards) dropPages(fd, entry.size - left)
    }
    return digest ?? running!.digest()
  }

  /** Compares the file with what it was before it was read, and marks the entry where its content may be of two states. */
  noticeChange(entry: Entry, fd: number): void {
    const status = this.#after
    if (entry.changedWhileRead || status.ofDescriptor(fd) < 0) return
    const { mtimeSeconds, mtimeNanoseconds, size } = status
    // Not the ctime: a chmod or a new link changes it, and no content.
    const sameContent =
      size === entry.size &&
      mtimeSeconds === entry.mtimeSeconds &&
      mtimeNanoseconds === entry.mtimeNanoseconds
    if (sameContent) return
    entry.changedWhileRead = true
    const message =
      size > entry.size
        ? 'the file grew while it was read; it was cut at its first size'
        : 'the file was written to while it was read'
    this.#observer.changed(entry, message)
  }

  #copySparse(entry: Entry, fd: number, map: SparseMap): Uint8Array {
    const blocks = this.#blocks
    const running = createHash('sha256')
    for (const text of map.encode()) {
      running.update(text)
      blocks.write(text)
      this.#count(text.length)
    }
    const dropAfterwards = map.dataBytes >= dropPagesBytesMin && !isCached(fd)
    const cursor = map.cursor()
    for (let left = map.dataBytes; left > 0; ) {
      const { block, position } = blocks
      const length = Math.min(left, block.length - position)
      const end = this.#fillSparse(entry, fd, cursor, block, position, length)
      running.update(block.subarray(position, position + length))
      left -= length
      this.#count(length)
      blocks.advance(length)
      if (dropAfterwards) dropPages(fd, end)
    }
    return running.digest()
  }

  /** Adds the file to `running`, to its end or as far as `size`. False where it ends early or cannot be read. */
  #hashFile(running: Hash, fd: number, size: number): boolean {
    const scratch = this.#scratchBuffer()
    for (let left = size; left > 0; ) {
      const read = readInto(fd, scratch, 0, Math.min(left, scratchBytes))
      if (read === -errno.EINTR) continue
      if (read <= 0) return false
      running.update(scratch.subarray(0, read))
      left -= read
      // A server that sees no progress takes the agent for stuck.
      this.#count(read)
    }
    return true
  }

  /** As `#hashFile`, the map and its data. */
  #hashSparse(running: Hash, fd: number, map: SparseMap): boolean {
    const scratch = this.#scratchBuffer()
    for (const text of map.encode()) running.update(text)
    const cursor = map.cursor()
    for (let range = cursor.take(scratchBytes); range !== null; range = cursor.take(scratchBytes)) {
      for (let at = 0; at < range.length; ) {
        const read = readAt(fd, scratch, at, range.length - at, range.offset + at)
        if (read === -errno.EINTR) continue
        if (read <= 0) return false
        at += read
      }
      running.update(scratch.subarray(0, range.length))
      this.#count(range.length)
    }
    return true
  }

  #scratchBuffer(): Buffer {
    this.#scratch ??= Buffer.allocUnsafeSlow(scratchBytes)
    return this.#scratch
  }

  /** A string on its way, as a buffer of its own for each of so many digests would cost more than the hashing. */
  #hashPiece(piece: Buffer): Uint8Array {
    this.#digest.latin1Write(hash('sha256', piece, 'binary'))
    return this.#digest
  }

  /**
   * Fills `length` bytes of the block, which has room for them, from the file. Where it ends early or fails, the rest is
   * zeros and reported.
   */
  #fill(entry: Entry, fd: number, length: number): void {
    const { block, position, address } = this.#blocks
    for (let filled = 0; filled < length; ) {
      const read = readTo(fd, address + filled, length - filled)
      if (read === -errno.EINTR) continue
      if (read <= 0) {
        block.fill(0, position + filled, position + length)
        this.#reportShort(entry, read)
        return
      }
      filled += read
    }
  }

  /** As `#fill`, from one region of data after the other. Returns where in the file the last byte stood. */
  #fillSparse(
    entry: Entry,
    fd: number,
    cursor: SparseCursor,
    block: Buffer,
    position: number,
    length: number,
  ): number {
    let end = 0
    for (let filled = 0; filled < length; ) {
      const range = cursor.take(length - filled)!
      end = range.offset + range.length
      for (let at = 0; at < range.length; ) {
        const read = readAt(fd, block, position + filled + at, range.length - at, range.offset + at)
        if (read === -errno.EINTR) continue
        if (read <= 0) {
          block.fill(0, position + filled + at, position + filled + range.length)
          this.#reportShort(entry, read)
          break
        }
        at += read
      }
      filled += range.length
    }
    return end
  }

  #reportShort(entry: Entry, read: number): void {
    if (entry.changedWhileRead) return
    entry.changedWhileRead = true
    if (read < 0) {
      const message = `cannot read the file: ${describeErrno(read)}; the rest was filled with zeros`
      this.#observer.unreadable(entry, message)
    } else {
      const message = 'the file became shorter while it was read; the rest was filled with zeros'
      this.#observer.changed(entry, message)
    }
  }

  #count(bytes: number): void {
    this.#state.addContent(bytes)
    if (this.#state.isCancelled) throw new PackingCancelled()
  }
}
