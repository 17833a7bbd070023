/**
 * Control payloads: one msgpack map of strict form. msgpackr alone decodes more than the protocol has (records,
 * extensions, byte 0xc1), and 1 MiB of empty arrays becomes 55 MB of objects; so the bytes are walked first, without
 * building anything, and only what is plain and small is given to it.
 */

import { isUtf8 } from 'node:buffer'
import { Packr, Unpackr } from 'msgpackr'
import { ProtocolError } from './errors.ts'
import { payloadDepthMax, payloadElementsMax } from './limits.ts'

const packer = new Packr({ useRecords: false, variableMapSize: true })
/** Integers that no number holds exactly come out as unsafe numbers, which every schema refuses. */
const unpacker = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

/** The msgpack of a map. Fields that are `undefined` are left out; integers are never written as floats. */
export function encodePayload(fields: object): Buffer {
  return packer.pack(wireValue(fields))
}

/** msgpackr writes numbers beyond 32 bits as floats, but bigints as 64-bit integers; `undefined` as an extension. */
function wireValue(value: unknown): unknown {
  if (typeof value === 'number') return value > 0xffffffff || value < -0x80000000 ? BigInt(value) : value
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return value
  if (Array.isArray(value)) return value.map(wireValue)
  const present = Object.entries(value).filter(([, field]) => field !== undefined)
  return Object.fromEntries(present.map(([key, field]) => [key, wireValue(field)]))
}

/**
 * The fields of a payload, not yet checked against a message's shape. Its Buffers alias `payload`. Throws
 * `message-malformed` for anything but one map of nil, booleans, integers, UTF-8 strings, bin, arrays and maps with
 * distinct string keys, within `payloadDepthMax` and `payloadElementsMax`, that fills the payload to its last byte.
 */
export function decodePayload(payload: Buffer): Record<string, unknown> {
  const scan = new PayloadScan(payload)
  const isMap = scan.value(0) === 'map'
  if (scan.at !== payload.length) throw malformed('bytes follow its last value')
  if (!isMap) throw malformed('it is no map')
  try {
    return unpacker.unpack(payload) as Record<string, unknown>
  } catch (error) {
    throw new ProtocolError('message-malformed', 'a payload cannot be decoded', { cause: error })
  }
}

function malformed(what: string): ProtocolError {
  return new ProtocolError('message-malformed', `a payload is not well-formed: ${what}`)
}

type Shape = 'scalar' | 'str' | 'array' | 'map'

/** A cursor over msgpack that checks and counts, and keeps nothing but the keys of the maps it is in. */
class PayloadScan {
  at = 0
  readonly #bytes: Buffer
  #elements = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Steps over one value and all that is in it. */
  value(depth: number): Shape {
    this.#elements += 1
    if (this.#elements > payloadElementsMax) throw malformed(`it has more than ${payloadElementsMax} values`)
    const tag = this.#uint(1)
    if (tag <= 0x7f || tag >= 0xe0) return 'scalar'
    if (tag <= 0x8f) return this.#map(tag & 0x0f, depth)
    if (tag <= 0x9f) return this.#array(tag & 0x0f, depth)
    if (tag <= 0xbf) return this.#str(tag & 0x1f)
    return this.#tagged(tag, depth)
  }

  #tagged(tag: number, depth: number): Shape {
    switch (tag) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return 'scalar'
      case 0xc4: // bin 8, 16, 32
      case 0xc5:
      case 0xc6:
        return this.#skip(this.#uint(1 << (tag - 0xc4)))
      case 0xcc: // uint 8, 16, 32, 64
      case 0xcd:
      case 0xce:
      case 0xcf:
        return this.#skip(1 << (tag - 0xcc))
      case 0xd0: // int 8, 16, 32, 64
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return this.#skip(1 << (tag - 0xd0))
      case 0xd9: // str 8, 16, 32
      case 0xda:
      case 0xdb:
        return this.#str(this.#uint(1 << (tag - 0xd9)))
      case 0xdc: // array 16, 32
      case 0xdd:
        return this.#array(this.#uint(2 << (tag - 0xdc)), depth)
      case 0xde: // map 16, 32
      case 0xdf:
        return this.#map(this.#uint(2 << (tag - 0xde)), depth)
      default: // floats, extensions and 0xc1
        throw malformed(`byte 0x${tag.toString(16)} stands where a value begins`)
    }
  }

  #array(length: number, depth: number): Shape {
    if (depth >= payloadDepthMax) throw malformed(`it is nested deeper than ${payloadDepthMax}`)
    for (let index = 0; index < length; index++) this.value(depth + 1)
    return 'array'
  }

  #map(length: number, depth: number): Shape {
    if (depth >= payloadDepthMax) throw malformed(`it is nested deeper than ${payloadDepthMax}`)
    const keys = new Set<string>()
    for (let index = 0; index < length; index++) {
      const from = this.at
      if (this.value(depth + 1) !== 'str') throw malformed('a key is no string')
      const key = this.#bytes.toString('latin1', from, this.at)
      if (keys.has(key)) throw malformed('a key stands twice in one map')
      keys.add(key)
      this.value(depth + 1)
    }
    return 'map'
  }

  #str(length: number): Shape {
    const from = this.at
    this.#skip(length)
    if (!isUtf8(this.#bytes.subarray(from, this.at))) throw malformed('a string is not UTF-8')
    return 'str'
  }

  #skip(length: number): Shape {
    if (length > this.#bytes.length - this.at) throw malformed('it ends in the middle of a value')
    this.at += length
    return 'scalar'
  }

  #uint(length: number): number {
    const from = this.at
    this.#skip(length)
    return this.#bytes.readUIntBE(from, length)
  }
}
