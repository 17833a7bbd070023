import type * as z from 'zod'
import type { Problem } from '../errors.ts'

/**
 * Checks `value`, which stands in `file`, against `schema`. The messages of the schema say what is *expected*; what was
 * *found* is added here. Values below a key named in `secretKeys` are never repeated.
 */
export function checkShape<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  file: string,
  secretKeys: readonly string[] = [],
): { data: z.output<Schema>; problems: [] } | { data: null; problems: Problem[] } {
  const result = parseUnlessItThrows(schema, value)
  if (result instanceof Error) {
    const found = `what cannot be read (${describeValue(result.message)})`
    return { data: null, problems: [{ file, line: null, key: null, found, expected: 'plain values' }] }
  }
  if (result.success) return { data: result.data, problems: [] }
  const problems = result.error.issues.flatMap((issue): Problem[] => {
    if (issue.code === 'unrecognized_keys') {
      const known = knownKeys(schema, issue.path)
      return issue.keys.map((key) => unknownKeyProblem(file, [...issue.path, key], known))
    }
    const secret = secretKeys.includes(String(issue.path[0]))
    const found = describeValue(valueAt(value, issue.path), secret)
    return [{ file, line: null, key: formatKey(issue.path), found, expected: issue.message }]
  })
  return { data: null, problems }
}

/** A module is code: its getters may throw, and its objects may be none that can be compared with numbers. */
function parseUnlessItThrows<Schema extends z.ZodType>(schema: Schema, value: unknown) {
  try {
    return schema.safeParse(value)
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** A value as a person would recognise it, cut to 60 characters; of a secret only its type. */
export function describeValue(value: unknown, secret = false): string {
  if (value === undefined) return 'nothing'
  if (value === null || typeof value === 'boolean' || typeof value === 'number')
    return secret ? typeof value : String(value)
  if (typeof value === 'string') {
    if (secret) return value === '' ? 'an empty string' : 'a string'
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** The word of `known` that was probably meant by `word`, or `null`. */
export function nearestWord(word: string, known: readonly string[]): string | null {
  const near = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance)
  return near[0]?.candidate ?? null
}

function unknownKeyProblem(file: string, path: readonly PropertyKey[], known: readonly string[]): Problem {
  const meant = nearestWord(String(path.at(-1)), known)
  const expected =
    meant === null ? `one of ${known.join(', ')}` : `one of ${known.join(', ')}; did you mean '${meant}'?`
  return { file, line: null, key: formatKey(path), found: 'an unknown key', expected }
}

function formatKey(path: readonly PropertyKey[]): string | null {
  if (path.length === 0) return null
  return path
    .map((part, depth) =>
      typeof part === 'number' ? `[${part}]` : depth === 0 ? String(part) : `.${String(part)}`,
    )
    .join('')
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (current, key) =>
      current === null || current === undefined ? undefined : (current as Record<PropertyKey, unknown>)[key],
    value,
  )
}

/** The keys of the object schema that stands at `path`. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  interface Definition {
    innerType?: { def: Definition }
    element?: { def: Definition }
    shape?: Record<PropertyKey, { def: Definition }>
  }
  const unwrap = (definition: Definition): Definition =>
    definition.innerType === undefined ? definition : unwrap(definition.innerType.def)
  let current = unwrap(schema.def as Definition)
  for (const key of path) {
    const next = typeof key === 'number' ? current.element : current.shape?.[key]
    if (next === undefined) return []
    current = unwrap(next.def)
  }
  return Object.keys(current.shape ?? {})
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1))
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      if (swapped) cost = Math.min(cost, beforeLast[column - 2]! + 1)
      current.push(cost)
    }
    beforeLast = last
    last = current
  }
  return last[b.length]!
}
