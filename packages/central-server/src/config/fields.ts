import { isIP } from 'node:net'
import { compileExclusion } from '@central-backup/archive'
import * as z from 'zod'

/** The fields that settings and host modules have in common. Their messages say what is expected. */

export function integer(minimum: number, maximum: number) {
  const expectation = `an integer from ${minimum} to ${maximum}`
  return z.int(expectation).min(minimum, expectation).max(maximum, expectation)
}

export const portSchema = integer(1, 65535)

/** Levels of zstd that a host can be asked for; above 19 they need memory out of proportion. */
export const compressionLevelSchema = integer(1, 19)

export const pathSchema = z.string('a path').min(1, 'a path').refine(hasNoNul, 'a path without a NUL')

const addressExpectation = "an IP address or a host name, without a port (that is 'port')"

export const addressSchema = z.string(addressExpectation).refine(isAddress, addressExpectation)

/** Whether `text` is an IPv4 or IPv6 address (without brackets) or may be a DNS name. */
export function isAddress(text: string): boolean {
  if (isIP(text) !== 0) return true
  if (text.length > 253 || /^[\d.]+$/.test(text)) return false
  return text.split('.').every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label))
}

export const patternCountMax = 1000
export const patternLengthMax = 4096

const patternExpectation = `a pattern of 1 to ${patternLengthMax} characters`
const listExpectation = `a list of at most ${patternCountMax} patterns`

const patternSchema = z
  .string(patternExpectation)
  .min(1, patternExpectation)
  .max(patternLengthMax, patternExpectation)
  .refine(hasNoNul, 'a pattern without a NUL')

/** Patterns of what is left out. */
export const excludeSchema = z
  .array(patternSchema.superRefine(refuseBadPattern), listExpectation)
  .max(patternCountMax, listExpectation)

const pathsExpectation = `a list of 1 to ${patternCountMax} absolute paths or patterns`

/** A path of what is backed up, or a pattern for such paths. */
export const sourcePathSchema = patternSchema
  .refine((path) => path.startsWith('/'), "an absolute path, like '/etc'")
  .refine((path) => !path.split('/').includes('..'), "a path without '..'")

/** A list of what is backed up, each an output of `element`. */
export function pathsOf<Element extends z.ZodType>(element: Element) {
  return z.array(element, pathsExpectation).min(1, pathsExpectation).max(patternCountMax, pathsExpectation)
}

/** Paths of what is backed up, or patterns for them. */
export const pathsSchema = pathsOf(sourcePathSchema)

/** What the agent would refuse anyway is told here, with the place where it stands. */
function refuseBadPattern(pattern: string, context: z.RefinementCtx): void {
  // Its length was told before.
  if (pattern.length > patternLengthMax) return
  try {
    compileExclusion([pattern])
  } catch (error) {
    context.addIssue({
      code: 'custom',
      message: `a pattern that can be understood: ${(error as Error).message}`,
    })
  }
}

function hasNoNul(text: string): boolean {
  return !text.includes('\0')
}
