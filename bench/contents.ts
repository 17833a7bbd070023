/** What files of generated trees hold: always the same bytes for the same seed, and no two files the same. */
import { createCipheriv } from 'node:crypto'
import { Random } from '../test/harness/random.ts'

/**
 * `text` compresses to about a quarter, as documentation and sources do; `compressed` does not compress, as images and
 * packed manual pages; `records` to about a half, as programs and tables do.
 */
export type ContentKind = 'text' | 'compressed' | 'records'

const vocabularyWords = 8192
const phraseShare = 0.08
const phraseBytes = 80
const recordBytes = 32
const recordNoiseBytes = 12

interface Vocabulary {
  /** All words, each with what follows it, one after the other. */
  bytes: Buffer
  /** Where each word begins; the last number is where the last word ends. */
  starts: Uint32Array
}

const vocabulary = makeVocabulary()

/** Fills the whole of `target`. The same `kind`, `seed` and length make the same bytes. */
export function fillContent(target: Buffer, kind: ContentKind, seed: readonly [number, number]): void {
  if (kind === 'text') fillText(target, seed)
  else if (kind === 'compressed') fillNoise(target, seed)
  else fillRecords(target, seed)
}

function makeVocabulary(): Vocabulary {
  const random = new Random(1)
  const syllables = Array.from({ length: 300 }, () =>
    Array.from({ length: 1 + random.below(3) }, () => String.fromCharCode(97 + random.below(26))).join(''),
  )
  const ends = [' ', ' ', ' ', ' ', ' ', ' ', ', ', '.\n', '(', ') ', ' = ', ';\n']
  const words = Array.from({ length: vocabularyWords }, () => {
    const word = Array.from({ length: 1 + random.below(4) }, () => random.of(syllables)).join('')
    return Buffer.from(word + random.of(ends))
  })
  const starts = new Uint32Array(vocabularyWords + 1)
  for (const [index, word] of words.entries()) starts[index + 1] = starts[index]! + word.length
  return { bytes: Buffer.concat(words), starts }
}

function fillText(target: Buffer, seed: readonly [number, number]): void {
  const random = new Random(Math.imul(seed[0], 0x9e3779b1) ^ seed[1])
  const { bytes, starts } = vocabulary
  for (let at = 0; at < target.length; ) {
    // Few words are frequent and most are rare, and phrases come again, as in languages.
    if (at > phraseBytes && random.chance(phraseShare)) {
      const from = random.below(at - phraseBytes)
      at += target.copy(target, at, from, from + phraseBytes)
    } else {
      const word = Math.floor(vocabularyWords * random.next() ** 4)
      at += bytes.copy(target, at, starts[word]!, starts[word + 1]!)
    }
  }
}

function fillNoise(target: Buffer, seed: readonly [number, number]): void {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed[0] >>> 0, 0)
  key.writeUInt32LE(seed[1] >>> 0, 4)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  cipher.update(Buffer.alloc(target.length)).copy(target)
}

function fillRecords(target: Buffer, seed: readonly [number, number]): void {
  fillNoise(target, seed)
  for (let at = recordNoiseBytes; at < target.length; at += recordBytes) {
    target.fill(0, at, Math.min(target.length, at + recordBytes - recordNoiseBytes))
    if (at + 4 <= target.length) target.writeUInt32LE(at / recordBytes, at)
  }
}
