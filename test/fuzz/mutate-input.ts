/** Changes of inputs, as accidents and attackers make them. */
import type { Random } from '../harness/random.ts'

const interestingBytes = [
  0, 1, 0x09, 0x0a, 0x20, 0x2f, 0x7f, 0x80, 0xc0, 0xc1, 0xc6, 0xcf, 0xd9, 0xdd, 0xdf, 0xff,
]
/** What lengths and numbers are set to. */
const extremes = [
  ...[0n, 1n, 0x7fn, 0x80n, 0xffn, 0x100n, 0x7fffn, 0xffffn, 0x10000n, 0x7fffffffn, 0x80000000n],
  ...[0xffffffffn, 0x100000000n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n],
]
/** No input becomes larger by mutation. */
const inputBytesMax = 4 * 1024 * 1024
const doublingsMax = 12

type Change = (input: Buffer, random: Random, others: readonly Buffer[], tokens: readonly Buffer[]) => Buffer

const changes: readonly Change[] = [
  // A bit is turned over.
  (input, random) => {
    const at = random.below(input.length)
    input[at]! ^= 1 << random.below(8)
    return input
  },
  // A byte is another one.
  (input, random) => {
    input[random.below(input.length)] = random.chance(0.6) ? random.of(interestingBytes) : random.below(256)
    return input
  },
  // A number is an extreme, in either order of bytes.
  (input, random) => {
    const size = random.of([1, 2, 4, 8])
    const at = random.below(input.length)
    const value = Buffer.alloc(8)
    value.writeBigUInt64BE(random.of(extremes))
    const bytes = value.subarray(8 - size)
    if (random.chance(0.5)) bytes.reverse()
    bytes.copy(input, at)
    return input
  },
  // A piece is left out.
  (input, random) => {
    const at = random.below(input.length)
    const length = pieceLength(random, input.length - at)
    return Buffer.concat([input.subarray(0, at), input.subarray(at + length)])
  },
  // A piece stands twice, or many times.
  (input, random) => {
    const at = random.below(input.length)
    const piece = input.subarray(at, at + pieceLength(random, input.length - at))
    const times = random.chance(0.7) ? 1 : random.below(2 ** random.below(doublingsMax))
    return Buffer.concat([input.subarray(0, at), ...Array(times).fill(piece), input.subarray(at)])
  },
  // A piece moves elsewhere.
  (input, random) => {
    const from = random.below(input.length)
    input.copyWithin(random.below(input.length), from, from + pieceLength(random, input.length - from))
    return input
  },
  // The end is cut off.
  (input, random) => input.subarray(0, random.below(input.length)),
  // Bytes come in between.
  (input, random) => {
    const at = random.below(input.length + 1)
    const piece = random.chance(0.5)
      ? random.bytes(1 + random.below(8))
      : Buffer.alloc(1 + random.below(64), random.of(interestingBytes))
    return Buffer.concat([input.subarray(0, at), piece, input.subarray(at)])
  },
  // It goes on as another input does.
  (input, random, others) => {
    const other = random.of(others)
    const at = random.below(other.length + 1)
    return Buffer.concat([input.subarray(0, random.below(input.length + 1)), other.subarray(at)])
  },
]

/** A word of the language comes in between, or takes the place of a piece. */
const insertToken: Change = (input, random, _, tokens) => {
  const at = random.below(input.length + 1)
  const replaced = random.chance(0.4) ? pieceLength(random, input.length - at) : 0
  return Buffer.concat([input.subarray(0, at), random.of(tokens), input.subarray(at + replaced)])
}

/** A changed copy of `input`. */
export function mutateInput(
  input: Buffer,
  random: Random,
  others: readonly Buffer[],
  tokens: readonly Buffer[],
): Buffer {
  let mutated: Buffer = Buffer.from(input)
  const count = 1 + random.below(random.chance(0.8) ? 3 : 12)
  for (let change = 0; change < count; change++) {
    const withToken = tokens.length > 0 && random.chance(0.4)
    if (withToken) mutated = insertToken(mutated, random, others, tokens)
    else if (mutated.length === 0) mutated = random.bytes(1 + random.below(4))
    else mutated = Buffer.from(random.of(changes)(mutated, random, others, tokens))
    if (mutated.length > inputBytesMax) mutated = mutated.subarray(0, inputBytesMax)
  }
  return mutated
}

/** Bytes that have nothing to do with any valid input. */
export function rawInput(random: Random, tokens: readonly Buffer[]): Buffer {
  const length = random.below(random.chance(0.8) ? 40 : 600)
  const dice = random.next()
  if (dice < 0.4 && tokens.length > 0) {
    return Buffer.concat(Array.from({ length: 1 + random.below(12) }, () => random.of(tokens)))
  }
  const bytes = random.bytes(length)
  // Printable ASCII, which text is mostly made of.
  if (dice < 0.7) for (let at = 0; at < length; at++) bytes[at] = 0x20 + (bytes[at]! % 0x5f)
  return bytes
}

function pieceLength(random: Random, max: number): number {
  return max === 0 ? 0 : 1 + random.below(random.chance(0.7) ? Math.min(max, 8) : max)
}
