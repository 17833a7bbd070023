import { isUtf8 } from 'node:buffer'
import { ArchiveError } from './errors.ts'

/**
 * The part of MessagePack that index batches are made of: nil, integers, `bin`, `str`, arrays and maps, and nothing
 * else. A general decoder makes arrays as long as five hostile bytes say and has extensions of its own; this reader
 * is told what must come next and what its maximum is, so that it allocates only what is really there. The writer
 * makes no garbage. docs/decisions/0004 has the measurements.
 */

const uint64High = 2 ** 32

/** Writes into a buffer that grows. `reserve` first, then write at most as much as was reserved. */
export class MsgpackWriter {
  #buffer: Buffer
  #at = 0

  constructor(capacityBytes: number) {
    this.#buffer = Buffer.allocUnsafeSlow(capacityBytes)
  }

  get length(): number {
    return this.#at
  }

  /** What was written so far; a view, valid until the next write. */
  get written(): Buffer {
    return this.#buffer.subarray(0, this.#at)
  }

  clear(): void {
    this.#at = 0
  }

  reserve(size: number): void {
    if (this.#at + size <= this.#buffer.length) return
    const grown = Buffer.allocUnsafeSlow(2 * (this.#at + size))
    this.#buffer.copy(grown, 0, 0, this.#at)
    this.#buffer = grown
  }

  nil(): void {
    this.#buffer[this.#at++] = 0xc0
  }

  /** Any safe integer, in as few bytes as MessagePack has for it. 1 to 9 bytes. */
  integer(value: number): void {
    const buffer = this.#buffer
    if (value < 0) {
      this.#negative(value)
    } else if (value < 0x80) {
      buffer[this.#at++] = value
    } else if (value < 0x10000) {
      if (value < 0x100) buffer[this.#at++] = 0xcc
      else {
        buffer[this.#at++] = 0xcd
        buffer[this.#at++] = value >> 8
      }
      buffer[this.#at++] = value
    } else if (value < uint64High) {
      buffer[this.#at++] = 0xce
      this.#uint32(value)
    } else {
      buffer[this.#at++] = 0xcf
      this.#uint32(Math.floor(value / uint64High))
      this.#uint32(value % uint64High)
    }
  }

  /** An unsigned number of 64 bits. 1 to 9 bytes. */
  unsigned64(value: number | bigint): void {
    if (typeof value === 'number' || value <= Number.MAX_SAFE_INTEGER) {
      this.integer(Number(value))
    } else {
      this.#buffer[this.#at] = 0xcf
      this.#buffer.writeBigUInt64BE(value, this.#at + 1)
      this.#at += 9
    }
  }

  /** A `bin` of a string of which each character is a byte. 2 to 5 bytes more than its length. */
  byteString(value: string): void {
    this.#binHeader(value.length)
    // The call into the runtime is worth it for long strings only.
    if (value.length > 32) {
      this.#at += this.#buffer.write(value, this.#at, 'latin1')
    } else {
      for (let i = 0; i < value.length; i++) this.#buffer[this.#at++] = value.charCodeAt(i)
    }
  }

  /** A `bin`. 2 to 5 bytes more than its length. */
  bytes(value: Uint8Array): void {
    this.#binHeader(value.length)
    this.#buffer.set(value, this.#at)
    this.#at += value.length
  }

  /** A `str` in UTF-8. At most 5 bytes more than three for each character. */
  text(value: string): void {
    const size = Buffer.byteLength(value)
    if (size < 0x20) this.#buffer[this.#at++] = 0xa0 | size
    else this.#header(0xd9, size)
    this.#at += this.#buffer.write(value, this.#at)
  }

  /** Begins an array. 1 to 5 bytes. */
  array(length: number): void {
    if (length < 16) this.#buffer[this.#at++] = 0x90 | length
    else this.#header(0xdb, length)
  }

  /** Begins a map of at most 15 keys. 1 byte. */
  map(length: number): void {
    this.#buffer[this.#at++] = 0x80 | length
  }

  /** MessagePack that was written before. */
  raw(bytes: Uint8Array): void {
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #negative(value: number): void {
    if (value >= -32) {
      this.#buffer[this.#at++] = value & 0xff
    } else {
      this.#buffer[this.#at] = 0xd3
      this.#buffer.writeBigInt64BE(BigInt(value), this.#at + 1)
      this.#at += 9
    }
  }

  #binHeader(length: number): void {
    this.#header(0xc4, length)
  }

  /** `type` is the one for lengths of 8 bits; those for 16 and 32 follow it. Arrays have none for 8. */
  #header(type: number, length: number): void {
    if (length < 0x100 && type !== 0xdb) {
      this.#buffer[this.#at++] = type
    } else if (length < 0x10000) {
      this.#buffer[this.#at++] = type + 1
      this.#buffer[this.#at++] = length >> 8
    } else {
      this.#buffer[this.#at++] = type + 2
      this.#uint32(length)
      return
    }
    this.#buffer[this.#at++] = length
  }

  #uint32(value: number): void {
    const buffer = this.#buffer
    buffer[this.#at++] = value >>> 24
    buffer[this.#at++] = value >>> 16
    buffer[this.#at++] = value >>> 8
    buffer[this.#at++] = value
  }
}

/**
 * Reads what it is told to expect, and throws an `ArchiveError` (`index-invalid`) that names `what` and the byte for
 * everything else. Takes integers and lengths in any width that MessagePack has for them.
 */
export class MsgpackReader {
  readonly #buffer: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#buffer.length
  }

  /** Skips a nil; false where something else comes next. */
  nil(): boolean {
    if (this.#buffer[this.#at] !== 0xc0) return false
    this.#at++
    return true
  }

  /** An integer from 0 to `max`, which is a safe integer. */
  unsigned(max: number, what: string): number {
    const start = this.#at
    const value = this.integer(what)
    if (value < 0 || value > max) throw this.#wrong(start, what, `a number from 0 to ${max}`)
    return value
  }

  /** Any safe integer. */
  integer(what: string): number {
    const first = this.#byte(what)
    if (first < 0x80) return first
    if (first >= 0xe0) return first - 0x100
    return first >= 0xd0 ? this.#wideSigned(first, what) : this.#wideUnsigned(first, what)
  }

  /** An unsigned number of 64 bits: a bigint only where a number would not be exact. */
  unsigned64(what: string): number | bigint {
    if (this.#buffer[this.#at] === 0xcf && this.#at + 9 <= this.#buffer.length) {
      const value = this.#buffer.readBigUInt64BE(this.#at + 1)
      if (value > Number.MAX_SAFE_INTEGER) {
        this.#at += 9
        return value
      }
    }
    return this.unsigned(Number.MAX_SAFE_INTEGER, what)
  }

  /** A `bin` as a string with one character a byte. */
  byteString(lengthMax: number, what: string): string {
    const length = this.#length(0xc4, lengthMax, what)
    this.#at += length
    return this.#buffer.latin1Slice(this.#at - length, this.#at)
  }

  /** As `byteString`; where it is the same as `last`, it is that string, and none is made. */
  byteStringLike(last: string, lengthMax: number, what: string): string {
    const length = this.#length(0xc4, lengthMax, what)
    const start = this.#at
    this.#at += length
    if (length !== last.length) return this.#buffer.latin1Slice(start, this.#at)
    for (let i = 0; i < length; i++) {
      if (this.#buffer[start + i] !== last.charCodeAt(i)) return this.#buffer.latin1Slice(start, this.#at)
    }
    return last
  }

  /** A `bin`, as a view of the input. */
  bytes(lengthMax: number, what: string): Buffer {
    const length = this.#length(0xc4, lengthMax, what)
    this.#at += length
    return this.#buffer.subarray(this.#at - length, this.#at)
  }

  /** A `str` of well-formed UTF-8. */
  text(bytesMax: number, what: string): string {
    const start = this.#at
    const first = this.#buffer[start] ?? 0
    let length = first & 0x1f
    if (first >= 0xa0 && first < 0xc0) {
      this.#at++
      if (length > bytesMax) throw this.#wrong(start, what, `at most ${bytesMax} bytes`)
      this.#need(length, what)
    } else {
      length = this.#length(0xd9, bytesMax, what)
    }
    const bytes = this.#buffer.subarray(this.#at, this.#at + length)
    if (!isUtf8(bytes)) throw this.#wrong(start, what, 'well-formed UTF-8')
    this.#at += length
    return bytes.toString()
  }

  /** Begins an array; returns its length. */
  array(lengthMax: number, what: string): number {
    const start = this.#at
    const first = this.#byte(what)
    let length = first & 0x0f
    if (first === 0xdc || first === 0xdd) length = this.#bigEndian(first === 0xdc ? 2 : 4, what)
    else if (first >> 4 !== 9) throw this.#wrong(start, what, 'an array')
    if (length > lengthMax) throw this.#wrong(start, what, `an array of at most ${lengthMax}`)
    // Each element has at least one byte, so that no length can promise more than is there.
    this.#need(length, what)
    return length
  }

  /** Begins a map; returns the number of its keys. */
  map(what: string): number {
    const start = this.#at
    const first = this.#byte(what)
    if (first === 0xde || first === 0xdf) return this.#bigEndian(first === 0xde ? 2 : 4, what)
    if (first >> 4 !== 8) throw this.#wrong(start, what, 'a map')
    return first & 0x0f
  }

  /** Skips the `str` `key`; false where something else comes next. Keys are at most 31 ASCII characters long. */
  key(key: string): boolean {
    const buffer = this.#buffer
    const start = this.#at
    if (buffer[start] !== (0xa0 | key.length)) return false
    for (let i = 0; i < key.length; i++) if (buffer[start + 1 + i] !== key.charCodeAt(i)) return false
    this.#at = start + 1 + key.length
    return true
  }

  /** An error that points at the next byte. */
  error(message: string): ArchiveError {
    const hint = 'The archive is damaged, or was made by something else.'
    const where = `the index is not valid at byte ${this.#at} of a batch`
    return new ArchiveError('index-invalid', `${where}: ${message}`, { hint })
  }

  #wideUnsigned(first: number, what: string): number {
    const start = this.#at - 1
    if (first < 0xcc || first > 0xcf) throw this.#wrong(start, what, 'an integer')
    if (first < 0xcf) return this.#bigEndian(1 << (first - 0xcc), what)
    const high = this.#bigEndian(4, what)
    const value = high * uint64High + this.#bigEndian(4, what)
    if (!Number.isSafeInteger(value)) throw this.#wrong(start, what, 'a number of at most 53 bits')
    return value
  }

  #wideSigned(first: number, what: string): number {
    const start = this.#at - 1
    if (first > 0xd3) throw this.#wrong(start, what, 'an integer')
    const size = 1 << (first - 0xd0)
    this.#need(size, what)
    this.#at += size
    if (size < 8) return this.#buffer.readIntBE(start + 1, size)
    const value = Number(this.#buffer.readBigInt64BE(start + 1))
    if (!Number.isSafeInteger(value)) throw this.#wrong(start, what, 'a number of at most 53 bits')
    return value
  }

  /** Length of a `bin` or `str`, whose `type` is the one for 8 bits, checked against what is left. */
  #length(type: number, lengthMax: number, what: string): number {
    const start = this.#at
    const first = this.#byte(what)
    if (first < type || first > type + 2) throw this.#wrong(start, what, type === 0xc4 ? 'bytes' : 'text')
    const length = this.#bigEndian(1 << (first - type), what)
    if (length > lengthMax) throw this.#wrong(start, what, `at most ${lengthMax} bytes`)
    this.#need(length, what)
    return length
  }

  #bigEndian(size: number, what: string): number {
    this.#need(size, what)
    let value = 0
    for (let i = 0; i < size; i++) value = value * 256 + this.#buffer[this.#at++]!
    return value
  }

  #byte(what: string): number {
    const value = this.#buffer[this.#at]
    if (value === undefined) throw this.error(`${what}: it is cut off`)
    this.#at++
    return value
  }

  #need(size: number, what: string): void {
    if (this.#at + size > this.#buffer.length) throw this.error(`${what}: it is cut off`)
  }

  #wrong(at: number, what: string, expected: string): ArchiveError {
    const found = this.#buffer[at]
    this.#at = at
    const shown = found === undefined ? 'nothing' : `0x${found.toString(16).padStart(2, '0')}`
    return this.error(`${what}: ${expected} expected, ${shown} found`)
  }
}
