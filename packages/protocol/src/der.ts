/**
 * A reader of DER (ITU-T X.690), as much of it as a revocation list needs: definite lengths in their shortest form, tags
 * below 31. What is not so is an error, as two readers could see different things in it.
 */

/** The bytes are not DER, or not of the form that is expected. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

export const derTags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  /** `[0] EXPLICIT`. */
  explicit0: 0xa0,
} as const

export interface DerValue {
  tag: number
  content: Buffer
  /** With tag and length. */
  whole: Buffer
}

/** Reads one value after the other. The buffers that it returns are parts of the given one. */
export class DerReader {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get ended(): boolean {
    return this.#offset === this.#bytes.length
  }

  /** The tag of the next value; `undefined` at the end. */
  get nextTag(): number | undefined {
    return this.#bytes[this.#offset]
  }

  /** The next value, which must have one of `tags`. Throws `DerError`. */
  next(...tags: number[]): DerValue {
    const start = this.#offset
    const tag = this.#byte()
    if (!tags.includes(tag)) throw new DerError(`tag ${tag} where ${tags.join(' or ')} was expected`)
    const length = this.#length()
    const contentStart = this.#offset
    if (length > this.#bytes.length - contentStart) throw new DerError('a value is longer than what holds it')
    this.#offset += length
    return {
      tag,
      content: this.#bytes.subarray(contentStart, this.#offset),
      whole: this.#bytes.subarray(start, this.#offset),
    }
  }

  /** As `next`, where the value has the tag; else `undefined`. */
  optional(tag: number): DerValue | undefined {
    return this.nextTag === tag ? this.next(tag) : undefined
  }

  /** Throws `DerError` where something follows. */
  end(): void {
    if (!this.ended) throw new DerError('something follows where nothing was expected')
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset]
    if (byte === undefined) throw new DerError('it ends too early')
    this.#offset++
    return byte
  }

  #length(): number {
    const first = this.#byte()
    if (first < 0x80) return first
    const count = first & 0x7f
    if (count === 0 || count > 4) throw new DerError('a length of an unknown form')
    let length = 0
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte()
    if (length < 0x80 || length < 256 ** (count - 1))
      throw new DerError('a length that is not in its shortest form')
    return length
  }
}

/** The content of a positive INTEGER without the zero that may stand before it. Throws `DerError`. */
export function positiveInteger({ content }: DerValue): Buffer {
  const [first, second] = content
  if (first === undefined || first >= 0x80) throw new DerError('a number that is not positive')
  if (first !== 0 || second === undefined) return content
  if (second < 0x80) throw new DerError('a number that is not in its shortest form')
  return content.subarray(1)
}
