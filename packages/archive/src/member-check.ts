import { createHash } from 'node:crypto'
import { type ArchiveHeader, type Entry, storedBytes } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { quotePath } from './path.ts'
import type { ArchiveReader } from './reader.ts'
import { hasMember, headerBytesMax } from './repack.ts'
import { fillerBytesMax, fillTar } from './tar-filler.ts'
import { encodeEntryHeader, endOfArchive, paddingBytes, tarBlockBytes } from './tar-header.ts'

/** Types of members that say more of the one that follows: pax records, and long targets and names of GNU tar. */
const extensions = 'xKL'

/**
 * Compares the tar stream of an archive with its index, byte for byte but for the content of files: each member begins
 * where the one before it ends, and has the very header that its entry makes. So nothing lies in the stream that the
 * index does not name, and every reader of tar finds the members that our programs find. In an archive that has taken over
 * others, members without content may stand behind all others, in any order: of each, 16 bytes are held.
 *
 * `begin` with the header of the index, `add` for every entry in order, `finish`. All throw an `ArchiveError`
 * (`members-differ`) at the first difference, and what the reader throws; then the check is of no use any more.
 */
export class MemberCheck {
  readonly #reader: ArchiveReader
  /** Where the next member begins. */
  #at = 0
  #mayHaveFiller = false
  #mayBeLate = false
  /** Digests of the headers of members that did not stand where their entries do. */
  readonly #late = new Set<string>()

  constructor(reader: ArchiveReader) {
    this.#reader = reader
  }

  begin({ repack }: ArchiveHeader): void {
    this.#mayHaveFiller = repack !== null
    this.#mayBeLate = repack !== null && repack.absorbed.length > 0
  }

  async add(entry: Entry): Promise<void> {
    if (!hasMember(entry)) return
    const what = quotePath(entry.path)
    const header = Buffer.from(encodeEntryHeader(entry))
    const content = entry.extents[0]?.offset
    if (content !== undefined) await this.#skipTo(content - header.length, what)
    else if (this.#mayBeLate && !(await this.#stands(header))) {
      this.#late.add(digestOf(header))
      return
    }
    await this.#expect(header, `the header of ${what}`)
    for (const { offset, length } of entry.extents) {
      if (offset !== this.#at) throw this.#differ(`the content of ${what} should go on`)
      this.#at += length
    }
    await this.#expect(Buffer.alloc(paddingBytes(storedBytes(entry))), `zeros behind ${what}`)
  }

  async finish(): Promise<void> {
    while (this.#late.size > 0) {
      const header = await this.#readHeader()
      if (!this.#late.delete(digestOf(header)))
        throw this.#differ('a member should stand that its index names')
      this.#at += header.length
    }
    await this.#expect(endOfArchive, 'the end of the tar stream')
    if (this.#at !== this.#reader.tarBytes) throw this.#differ('the tar stream should have ended')
  }

  async #skipTo(begin: number, what: string): Promise<void> {
    if (this.#at < begin && this.#mayHaveFiller) await this.#expectFiller(begin)
    if (this.#at !== begin) throw this.#differ(`${what} should begin, which is at byte ${begin} by the index`)
  }

  /** What is left of members that an archive lacks since it was packed anew. */
  async #expectFiller(end: number): Promise<void> {
    while (this.#at < end) {
      const block = Buffer.concat(await this.#read(Math.min(tarBlockBytes, end - this.#at)))
      const bytes = tarBlockBytes + Number.parseInt(block.toString('latin1', 124, 135), 8)
      if (!(bytes <= Math.min(fillerBytesMax, end - this.#at)) || bytes % tarBlockBytes !== 0)
        throw this.#differ('filler should stand')
      const filler = Buffer.allocUnsafe(bytes)
      fillTar(filler, 0, bytes)
      await this.#expect(filler, 'filler')
    }
  }

  /** The blocks of a member up to its content: those that extend its header, and its own. */
  async #readHeader(): Promise<Buffer> {
    const blocks: Buffer[] = []
    for (let begin = this.#at, isOwn = false; !isOwn; ) {
      const block = Buffer.concat(await this.#read(tarBlockBytes, begin))
      isOwn = !extensions.includes(block.toString('latin1', 156, 157))
      const size = isOwn ? 0 : Number.parseInt(block.toString('latin1', 124, 135), 8)
      if (!(size <= headerBytesMax)) throw this.#differ('a member should stand')
      const records = await this.#read(size + paddingBytes(size), begin + tarBlockBytes)
      blocks.push(block, ...records)
      begin += tarBlockBytes + size + paddingBytes(size)
    }
    return Buffer.concat(blocks)
  }

  async #stands(bytes: Buffer): Promise<boolean> {
    if (this.#at + bytes.length > this.#reader.tarBytes) return false
    return Buffer.concat(await this.#read(bytes.length)).equals(bytes)
  }

  async #expect(bytes: Buffer, what: string): Promise<void> {
    if (this.#at + bytes.length > this.#reader.tarBytes) throw this.#differ(`${what} should stand`)
    let compared = 0
    for (const piece of await this.#read(bytes.length)) {
      if (!piece.equals(bytes.subarray(compared, compared + piece.length)))
        throw this.#differ(`${what} should stand`)
      compared += piece.length
    }
    this.#at += bytes.length
  }

  async #read(length: number, begin = this.#at): Promise<Buffer[]> {
    const pieces: Buffer[] = []
    if (length === 0) return pieces
    if (begin + length > this.#reader.tarBytes) throw this.#differ('more should stand')
    for await (const piece of this.#reader.readTar(begin, length)) pieces.push(piece)
    return pieces
  }

  #differ(expected: string): ArchiveError {
    return new ArchiveError(
      'members-differ',
      `its tar stream is not the one that its index describes: at byte ${this.#at}, ${expected}`,
      {
        hint: 'tar finds something else in it than restore does. Trust neither before you know who made it.',
      },
    )
  }
}

function digestOf(header: Buffer): string {
  return createHash('sha256').update(header).digest().toString('latin1', 0, 16)
}
