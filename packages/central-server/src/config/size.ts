import * as z from 'zod'

const kib = 1024

const unitBytes = new Map([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, at) => [
    [letter, kib ** (at + 1)] as const,
    [`${letter}ib`, kib ** (at + 1)] as const,
    [`${letter}b`, 1000 ** (at + 1)] as const,
  ]),
])

/**
 * Reads a size as people write it: `'2G'`, `'1.5 GiB'`, `'500 MB'`. K, M, G, T and KiB … are powers of 1024, kB … of 1000,
 * as with dd. Returns bytes, or `null` where the text is no size, or one that no file has.
 */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const factor = match === null ? undefined : unitBytes.get(match[2]!.toLowerCase())
  if (match === null || factor === undefined) return null
  const bytes = Math.round(Number(match[1]) * factor)
  return Number.isSafeInteger(bytes) ? bytes : null
}

const expectation = "a size like '2G', '500 MB' or '1.5 GiB', or a number of bytes"

/** A size in words or in bytes, turned into bytes. */
export const sizeSchema = z
  .union([z.string(), z.int(expectation).nonnegative(expectation)], expectation)
  .transform((size, context) => {
    const bytes = typeof size === 'number' ? size : parseSize(size)
    if (bytes !== null) return bytes
    context.addIssue({ code: 'custom', message: expectation })
    return z.NEVER
  })

/** A size of at least `minimum` bytes. */
export function sizeFrom(minimum: number) {
  const least = `a size of at least ${minimum} bytes`
  return sizeSchema.refine((bytes) => bytes >= minimum, least)
}

const freeExpectation = "a size like '10 GiB', or a part of the disk like '1 %'"

/** What is to stay free: a size, or per cent of the whole (less than 100). 0 is nothing. */
export const freeSpaceSchema = z
  .union([z.string(), z.number()], freeExpectation)
  .transform((value, context): { bytes: number } | { percent: number } => {
    const percent = typeof value === 'string' ? /^\s*(\d{1,2}(?:\.\d+)?)\s*%\s*$/.exec(value)?.[1] : undefined
    if (percent !== undefined) return { percent: Number(percent) }
    const bytes = typeof value === 'string' ? parseSize(value) : value
    if (bytes !== null && Number.isSafeInteger(bytes) && bytes >= 0) return { bytes }
    context.addIssue({ code: 'custom', message: freeExpectation })
    return z.NEVER
  })
