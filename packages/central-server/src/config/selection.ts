import { excludesMax, markerBytesMax, markersMax, ruledPathsMax } from '@central-backup/protocol'
import * as z from 'zod'
import { excludeSchema, pathsOf, sourcePathSchema } from './fields.ts'
import { nearestWord } from './shape.ts'
import { sizeSchema } from './size.ts'

/** What of a tree is not packed, of all paths or of one. Patterns stand beside it. */
export interface SelectionConfig {
  /** `true` leaves out what is mounted below a path. If not given: `true` for the path `/`, `false` for others. */
  oneFileSystem?: boolean
  /** `true` leaves out what lies in folders with a `CACHEDIR.TAG`. */
  excludeCaches?: boolean
  /** Leaves out what lies in folders that hold one of these files, like `'.nobackup'`. */
  excludeIfPresent?: string[]
  /** `true` leaves out what has the flag `nodump` (`chattr +d`). */
  excludeNodump?: boolean
  /** Leaves out larger files: `'2G'`, `'500 MB'`, or bytes. */
  maxFileSize?: string | number
}

/** A path with options of its own, which take the place of those of the host. */
export interface PathConfig extends SelectionConfig {
  /** An absolute path, or a pattern. */
  path: string
  /** What to leave out of it, after the patterns of the host. */
  exclude?: string[]
}

/** A `SelectionConfig` that was read: what is not there, was not said. */
export interface SelectionOptions {
  oneFileSystem?: boolean | undefined
  excludeCaches?: boolean | undefined
  excludeIfPresent?: string[] | undefined
  excludeNodump?: boolean | undefined
  maxFileBytes?: number | undefined
}

export interface SelectedPath extends SelectionOptions {
  path: string
  exclude: string[]
}

const markersExpectation = `a list of at most ${markersMax} names of files, like '.nobackup'`
const markerExpectation = `the name of a file, of 1 to ${markerBytesMax} bytes, without '/'`

const pathExpectation =
  "an absolute path or a pattern, or an object like { path: '/home', exclude: ['*.iso'] }"

const flag = z.boolean('true or false').optional()

const markerSchema = z.string(markerExpectation).refine(isFileName, markerExpectation)

/** The fields of `SelectionConfig`, for the objects that have them. */
export const selectionFields = {
  oneFileSystem: flag,
  excludeCaches: flag,
  excludeIfPresent: z.array(markerSchema, markersExpectation).max(markersMax, markersExpectation).optional(),
  excludeNodump: flag,
  maxFileSize: sizeSchema.optional(),
}

const ruledPathSchema = z.strictObject(
  { path: sourcePathSchema, exclude: excludeSchema.default([]), ...selectionFields },
  pathExpectation,
)

/** A path or an object with one. The problems of an object are told where they stand in it. */
const selectedPathSchema = z.unknown().transform((value, context): SelectedPath => {
  if (typeof value === 'string') {
    const { success, error } = sourcePathSchema.safeParse(value)
    if (success) return { path: value, exclude: [] }
    context.addIssue({ code: 'custom', message: error.issues[0]!.message })
    return z.NEVER
  }
  const { data, error } = ruledPathSchema.safeParse(value)
  if (data !== undefined) return { path: data.path, exclude: data.exclude, ...optionsOf(data) }
  for (const issue of error.issues) {
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : null
    for (const key of keys ?? []) context.addIssue({ code: 'custom', path: [key], message: knownKeys(key) })
    if (keys === null) context.addIssue({ code: 'custom', path: [...issue.path], message: issue.message })
  }
  return z.NEVER
})

/** Paths, each with what is said of it alone. */
export const selectedPathsSchema = pathsOf(selectedPathSchema)

function knownKeys(found: string): string {
  const known = Object.keys(ruledPathSchema.shape)
  const meant = nearestWord(found, known)
  return `one of ${known.join(', ')}${meant === null ? '' : `; did you mean '${meant}'?`}`
}

/** What was read of the fields of `SelectionConfig`. */
export function optionsOf(data: z.output<z.ZodObject<typeof selectionFields>>): SelectionOptions {
  const { oneFileSystem, excludeCaches, excludeIfPresent, excludeNodump, maxFileSize } = data
  const options = { oneFileSystem, excludeCaches, excludeIfPresent, excludeNodump, maxFileBytes: maxFileSize }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/** What of all together is more than an agent takes in one request, and how much that is; or `null`. */
export function selectionFault(
  exclude: readonly string[],
  paths: readonly SelectedPath[],
): [found: string, expected: string] | null {
  const ruled = paths.filter((one) => Object.keys(one).length > 2 || one.exclude.length > 0)
  if (ruled.length > ruledPathsMax) return [`${ruled.length} paths with options`, `at most ${ruledPathsMax}`]
  const patterns = paths.reduce((sum, one) => sum + one.exclude.length, exclude.length)
  if (patterns > excludesMax)
    return [`${patterns} patterns, those of its paths included`, `at most ${excludesMax}`]
  const texts = [...exclude, ...paths.flatMap((one) => [one.path, ...one.exclude])]
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  if (bytes <= selectionBytesMax) return null
  return [`${bytes} bytes of paths and patterns`, `at most ${selectionBytesMax}`]
}

/** Paths and patterns together, of what an archive says that it was made of. */
const selectionBytesMax = 240 * 1024

function isFileName(name: string): boolean {
  const length = Buffer.byteLength(name)
  return length >= 1 && length <= markerBytesMax && !/[/\0]/.test(name) && name !== '.' && name !== '..'
}
