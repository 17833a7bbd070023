/**
 * Values that a module may export, as inputs: JSON, in which an object of the one key `$` stands for what JSON has no word
 * for.
 */
import fc from 'fast-check'

const marks: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  NaN: () => Number.NaN,
  Infinity: () => Number.POSITIVE_INFINITY,
  '-0': () => -0,
  bigint: () => 2n ** 64n,
  symbol: () => Symbol('s'),
  function: () => () => 'text',
  date: () => new Date(0),
  map: () => new Map([['a', 1]]),
  regexp: () => /a/,
  null: () => Object.create(null),
  frozen: () => Object.freeze(['/etc']),
  error: () => new Error('an error'),
  class: () => new (class Host {})(),
  surrogate: () => '\ud800',
  long: () => 'x'.repeat(100_000),
}

export function encodeValue(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value) ?? 'null')
}

/** `undefined` for what is no JSON. */
export function decodeValue(input: Buffer): { value: unknown } | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(input.toString('utf8'))
  } catch {
    return undefined
  }
  return { value: revive(parsed) }
}

function revive(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revive)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
  const [first] = entries
  if (entries.length === 1 && first![0] === '$') return marks[String(first![1])]?.()
  // Also for __proto__, which an assignment would take for something else.
  return Object.fromEntries(entries.map(([key, one]) => [key, revive(one)]))
}

const anyText = fc.oneof(
  fc.constantFrom('', '/', '..', 'always', '7 days', '2G', '*.tmp', '[', '__proto__', 'a\nb', '\u001b[31m'),
  fc.string({ unit: 'binary', maxLength: 12 }),
)
const strange = fc.constantFrom(...Object.keys(marks)).map((name) => ({ $: name }))
const anyValue = fc.oneof(
  anyText,
  fc.constant(null),
  fc.boolean(),
  fc.oneof(fc.constantFrom(0, 1, -1, 1.5, 65_535, 65_536, 1e308), fc.maxSafeInteger()),
  strange,
  fc.array(fc.oneof(anyText, strange), { maxLength: 3 }),
  fc.dictionary(anyText, fc.oneof(anyText, strange), { maxKeys: 3 }),
)

/** `value`, in which here and there another value stands, a key is missing or one too many. */
export function variedValue(value: unknown, depth = 0): fc.Arbitrary<unknown> {
  const isObject = typeof value === 'object' && value !== null
  const parts = !isObject
    ? fc.constant(value)
    : Array.isArray(value)
      ? fc.tuple(...value.map((one) => variedValue(one, depth + 1)))
      : fc
          .tuple(
            fc.tuple(
              ...Object.entries(value).map(([key, one]) =>
                fc.tuple(fc.constant(key), variedValue(one, depth + 1), fc.nat(11)),
              ),
            ),
            fc.nat(9),
            anyText,
            anyValue,
          )
          .map(([fields, more, key, extra]) => {
            const kept = fields.flatMap(([name, one, missing]) => (missing === 0 ? [] : [[name, one]]))
            return Object.fromEntries(more === 0 ? [...kept, [key, extra]] : kept)
          })
  return fc.oneof({ weight: depth === 0 ? 40 : 12, arbitrary: parts }, { weight: 1, arbitrary: anyValue })
}
