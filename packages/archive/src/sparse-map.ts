import { sparseRegionsMax } from './limits.ts'
import { paddingBytes, tarBlockBytes } from './tar-header.ts'

/**
 * The map of a sparse file: where its data lies, all between being holes. In the tar stream, the map stands in front of
 * the data, as decimal lines (GNU tar's sparse format 1.0): the number of pieces, then offset and length of each, padded
 * with zeros to a whole block. A file that ends in a hole has a last piece without bytes at its end.
 */

/** Text of the map that is made at once. */
const textPieceBytes = 32 * 1024

/** Digits that a number of a map can have: those of 2^53. */
const digitsMax = 16

/** A piece of data and its place in the file. */
export interface PlacedData {
  offset: number
  bytes: Buffer
}

/** Where data lies in a file. */
export interface DataRange {
  offset: number
  length: number
}

/**
 * Regions of data in a file of `size` bytes, widened to whole tar blocks: readers differ in whether a region begins on a
 * block. Memory is bounded: where there would be more than `regionsMax` regions, the smallest holes between them count
 * as data, until half of the regions are left.
 */
export class SparseMap {
  readonly size: number
  readonly #regionsMax: number
  /** Start and end of each region, ascending. */
  #bounds = new Float64Array(32)
  #count = 0
  #dataBytes = 0

  constructor(size: number, regionsMax = sparseRegionsMax) {
    this.size = size
    this.#regionsMax = regionsMax
  }

  get regions(): number {
    return this.#count
  }

  /** Bytes of all regions. */
  get dataBytes(): number {
    return this.#dataBytes
  }

  /** Bytes of the map in the tar stream, padding included. */
  get mapBytes(): number {
    let bytes = digits(this.#pieces)
    for (let i = 0; i < this.#count; i++) {
      const start = this.#bounds[2 * i]!
      bytes += digits(start) + digits(this.#bounds[2 * i + 1]! - start)
    }
    if (this.#endsInHole) bytes += digits(this.size) + digits(0)
    return bytes + paddingBytes(bytes)
  }

  /** Adds data from `start` up to `end`. Regions come in ascending order. */
  add(start: number, end: number): void {
    const from = start - (start % tarBlockBytes)
    const to = Math.min(end + paddingBytes(end), this.size)
    if (from >= to) return
    const last = 2 * this.#count - 1
    if (this.#count > 0 && from <= this.#bounds[last]!) {
      const added = to - this.#bounds[last]!
      if (added <= 0) return
      this.#dataBytes += added
      this.#bounds[last] = to
      return
    }
    if (this.#count === this.#regionsMax) {
      this.#mergeSmallHoles()
      this.add(start, end)
      return
    }
    this.#reserve()
    this.#bounds[last + 1] = from
    this.#bounds[last + 2] = to
    this.#count++
    this.#dataBytes += to - from
  }

  /** The regions in their order, in parts of at most `lengthMax` bytes; `take` gets the next one, `null` after the last. */
  cursor(): SparseCursor {
    return new SparseCursor(this.#bounds, this.#count)
  }

  /** The map as it stands in the tar stream, in pieces. */
  *encode(): Generator<Buffer, void, void> {
    let text = `${this.#pieces}\n`
    let written = 0
    for (let i = 0; i < this.#count; i++) {
      const start = this.#bounds[2 * i]!
      text += `${start}\n${this.#bounds[2 * i + 1]! - start}\n`
      if (text.length < textPieceBytes) continue
      written += text.length
      yield Buffer.from(text, 'latin1')
      text = ''
    }
    if (this.#endsInHole) text += `${this.size}\n0\n`
    yield Buffer.from(text + '\0'.repeat(paddingBytes(written + text.length)), 'latin1')
  }

  get #endsInHole(): boolean {
    return this.#count === 0 || this.#bounds[2 * this.#count - 1]! < this.size
  }

  get #pieces(): number {
    return this.#count + (this.#endsInHole ? 1 : 0)
  }

  #reserve(): void {
    if (2 * this.#count < this.#bounds.length) return
    const grown = new Float64Array(2 * this.#bounds.length)
    grown.set(this.#bounds)
    this.#bounds = grown
  }

  /** Makes data of the smallest holes, of as many as leave half of the regions. */
  #mergeSmallHoles(): void {
    const bounds = this.#bounds
    const holes = new Float64Array(this.#count - 1)
    for (let i = 0; i < holes.length; i++) holes[i] = bounds[2 * i + 2]! - bounds[2 * i + 1]!
    holes.sort()
    let left = this.#count - Math.floor(this.#regionsMax / 2)
    const largest = holes[left - 1]!
    // Of those that are as large as the largest that goes, not all need go.
    left -= holes.indexOf(largest)
    let kept = 0
    for (let i = 1; i < this.#count; i++) {
      const hole = bounds[2 * i]! - bounds[2 * kept + 1]!
      if (hole < largest || (hole === largest && left-- > 0)) this.#dataBytes += hole
      else bounds[2 * ++kept] = bounds[2 * i]!
      bounds[2 * kept + 1] = bounds[2 * i + 1]!
    }
    this.#count = kept + 1
  }
}

/** Goes over the data of a map, in parts as small as is wanted. */
export class SparseCursor {
  readonly #bounds: Float64Array
  readonly #count: number
  #region = 0
  #at = -1

  constructor(bounds: Float64Array, count: number) {
    this.#bounds = bounds
    this.#count = count
  }

  /** The next part, of at most `lengthMax` bytes and of one region; `null` after the last. */
  take(lengthMax: number): DataRange | null {
    if (this.#region === this.#count) return null
    const offset = this.#at < 0 ? this.#bounds[2 * this.#region]! : this.#at
    const end = this.#bounds[2 * this.#region + 1]!
    const length = Math.min(lengthMax, end - offset)
    if (offset + length === end) {
      this.#region++
      this.#at = -1
    } else this.#at = offset + length
    return { offset, length }
  }
}

function digits(value: number): number {
  return String(value).length + 1
}

/**
 * Takes map and data of a sparse file as they stand in the tar stream, and tells where the data belongs. Trusts nothing:
 * the map must be of the one form that `SparseMap` writes, fit the size of the file, and leave exactly the bytes that
 * follow it. Holds no more than the map.
 */
export class SparseReader {
  readonly #size: number
  readonly #storedSize: number
  #bounds = new Float64Array(32)
  #fault: string | null = null
  /** Numbers of the map that are still to come; -1 before the first. */
  #numbersLeft = -1
  #count = 0
  #value = 0
  #digits = 0
  #start = 0
  #end = 0
  #dataBytes = 0
  #mapBytes = 0
  #cursor: SparseCursor | null = null

  /** `size`: bytes of the file, holes included; `storedSize`: bytes of map and data. */
  constructor(size: number, storedSize: number) {
    this.#size = size
    this.#storedSize = storedSize
  }

  /** What is wrong with the map, for people; `null` as long as nothing is. */
  get fault(): string | null {
    return this.#fault
  }

  /** Takes the next bytes, and returns what of it is data, as views. Nothing comes after a fault. */
  add(piece: Buffer): PlacedData[] {
    let at = 0
    while (this.#cursor === null) {
      if (at === piece.length || this.#fault !== null) return []
      this.#takeMapByte(piece[at++]!)
    }
    const placed: PlacedData[] = []
    while (at < piece.length) {
      const range = this.#cursor.take(piece.length - at)
      if (range === null) {
        this.#fail('more follows than the map of its holes says')
        break
      }
      placed.push({ offset: range.offset, bytes: piece.subarray(at, at + range.length) })
      at += range.length
    }
    return placed
  }

  #takeMapByte(byte: number): void {
    this.#mapBytes++
    if (this.#numbersLeft === 0) {
      if (byte !== 0) this.#fail('its map of holes is not followed by zeros')
    } else if (byte === 0x0a && this.#digits > 0) this.#takeNumber()
    else if (byte >= 0x30 && byte <= 0x39 && this.#digits < digitsMax && !this.#hasLeadingZero) {
      this.#value = this.#value * 10 + byte - 0x30
      this.#digits++
    } else this.#fail('its map of holes is not made of decimal numbers')
    if (this.#numbersLeft === 0 && this.#mapBytes % tarBlockBytes === 0) this.#finishMap()
  }

  get #hasLeadingZero(): boolean {
    return this.#digits > 0 && this.#value === 0
  }

  #takeNumber(): void {
    const value = this.#value
    this.#value = 0
    this.#digits = 0
    if (value > this.#size) this.#fail('its map of holes goes beyond its end')
    else if (this.#numbersLeft < 0) {
      if (value === 0 || value > sparseRegionsMax + 1)
        this.#fail(`its map of holes has ${value} pieces; 1 to ${sparseRegionsMax + 1} are possible`)
      this.#numbersLeft = 2 * value
    } else if (this.#numbersLeft-- % 2 === 0) this.#start = value
    else this.#takeRegion(this.#start, value)
  }

  #takeRegion(start: number, length: number): void {
    const end = start + length
    const isLast = this.#numbersLeft === 0
    if (start % tarBlockBytes !== 0 && length > 0) this.#fail('data in its map does not begin on a block')
    else if (this.#count > 0 && start <= this.#end)
      this.#fail('regions in its map of holes overlap, or are out of order')
    else if (isLast ? end !== this.#size : length === 0 || length % tarBlockBytes !== 0)
      this.#fail('its map of holes does not fit its size')
    if (this.#fault !== null || length === 0) return
    if (2 * this.#count === this.#bounds.length) {
      const grown = new Float64Array(2 * this.#bounds.length)
      grown.set(this.#bounds)
      this.#bounds = grown
    }
    this.#bounds[2 * this.#count] = start
    this.#bounds[2 * this.#count + 1] = end
    this.#count++
    this.#end = end
    this.#dataBytes += length
  }

  #finishMap(): void {
    if (this.#fault !== null) return
    if (this.#mapBytes + this.#dataBytes !== this.#storedSize)
      this.#fail('its map of holes does not fit what is stored')
    else this.#cursor = new SparseCursor(this.#bounds, this.#count)
  }

  #fail(message: string): void {
    this.#fault ??= message
  }
}
