/**
 * Paths and names as Linux has them: byte strings without NUL, in no particular encoding.
 *
 * Inside the program they are `BytePath`: a JavaScript string with one character per byte (latin1). It costs one
 * byte a character, concatenates and compares natively, and no name is ever lost in a decoder. Text for people, JSON
 * and config modules is made at the edge by `textFromBytes`; `bytesFromText` is its exact inverse.
 */

declare const bytes: unique symbol

/** A path or a name, one character (U+0000 to U+00FF) per byte. */
export type BytePath = string & { readonly [bytes]: true }

export function bytePathFromBuffer(buffer: Uint8Array): BytePath {
  return Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).toString('latin1') as BytePath
}

export function bufferFromBytePath(path: BytePath): Buffer {
  return Buffer.from(path, 'latin1')
}

/**
 * Text of a byte path: UTF-8 where it is UTF-8; each byte that is not becomes a lone surrogate U+DC80 to U+DCFF, as
 * in Python's "surrogateescape" (PEP 383), so that no two paths have the same text.
 */
export function textFromBytes(path: BytePath): string {
  if (/^[\x00-\x7f]*$/.test(path)) return path
  const buffer = bufferFromBytePath(path)
  const decoded = buffer.toString()
  if (!decoded.includes('\ufffd') || Buffer.from(decoded, 'utf8').equals(buffer)) return decoded
  let text = ''
  for (let at = 0; at < buffer.length; ) {
    const length = utf8SequenceLength(buffer, at)
    text +=
      length === 0 ? String.fromCharCode(0xdc00 + buffer[at]!) : buffer.toString('utf8', at, at + length)
    at += length || 1
  }
  return text
}

/** The inverse of `textFromBytes`. A lone surrogate that it never makes is encoded as U+FFFD, as Node does. */
export function bytesFromText(text: string): BytePath {
  if (/^[\x00-\x7f]*$/.test(text)) return text as BytePath
  let path = ''
  for (const character of text) {
    const code = character.codePointAt(0)!
    if (code >= 0xdc80 && code <= 0xdcff) path += String.fromCharCode(code - 0xdc00)
    else path += Buffer.from(character, 'utf8').toString('latin1')
  }
  return path as BytePath
}

const quotedBytesMax = 300

/**
 * A path for a message: absolute, quoted, with everything escaped that is not to be seen or could forge a line, and
 * cut where it is longer than anybody would read.
 */
export function quotePath(path: BytePath): string {
  const text = textFromBytes(path.slice(0, quotedBytesMax) as BytePath)
  const quoted = JSON.stringify(`/${text}`).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`
  })
  return path.length > quotedBytesMax ? `${quoted}…` : quoted
}

/** Length of the well-formed UTF-8 sequence at `at`, 0 where there is none (table 3-7 of the Unicode standard). */
function utf8SequenceLength(buffer: Buffer, at: number): number {
  const first = buffer[at]!
  if (first < 0x80) return 1
  const length =
    first >= 0xc2 && first <= 0xdf
      ? 2
      : first >= 0xe0 && first <= 0xef
        ? 3
        : first >= 0xf0 && first <= 0xf4
          ? 4
          : 0
  if (length === 0 || at + length > buffer.length) return 0
  const second = buffer[at + 1]!
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
  if (second < low || second > high) return 0
  for (let i = 2; i < length; i++) if ((buffer[at + i]! & 0xc0) !== 0x80) return 0
  return length
}

export function joinPath(directory: BytePath, name: BytePath): BytePath {
  return (directory === '' ? name : `${directory}/${name}`) as BytePath
}

/**
 * The order of a depth-first walk with names compared as bytes: `memcmp` with `/` replaced by NUL.
 * Returns a negative number, zero or a positive number.
 */
export function comparePaths(a: BytePath, b: BytePath): number {
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return (x === 0x2f ? 0 : x) - (y === 0x2f ? 0 : y)
  }
  return a.length - b.length
}

/** True for `ancestor` itself and for what lies below it. `''` is the root directory. */
export function isWithin(path: BytePath, ancestor: BytePath): boolean {
  if (ancestor === '') return true
  return path.startsWith(ancestor) && (path.length === ancestor.length || path[ancestor.length] === '/')
}

const slash = 0x2f
const dot = 0x2e

/**
 * Whether a path may stand in an archive: relative, not empty, without `.`, `..` or empty components, without NUL,
 * and at most `pathBytesMax` long. The root directory itself never has an entry.
 */
export function isSafePath(path: BytePath): boolean {
  const { length } = path
  if (length > pathBytesMax) return false
  // Of every row that is read, so character by character, and without making a list of the components.
  for (let start = 0, at = 0; at <= length; at++) {
    const code = at < length ? path.charCodeAt(at) : slash
    if (code === 0) return false
    if (code !== slash) continue
    if (at === start) return false
    if (at - start <= 2 && path.charCodeAt(start) === dot && path.charCodeAt(at - 1) === dot) return false
    start = at + 1
  }
  return true
}

/**
 * Longest path in an archive: four times what Linux takes in one call. It limits the depth of a tree by nothing, and each level
 * costs its whole path in the index, so that it is what a folder within a folder within a folder costs at most (0037).
 */
export const pathBytesMax = 16 * 1024

/** Longest target of a symbolic link: Linux's PATH_MAX. Targets of hard links are paths. */
export const linkTargetBytesMax = 4096
