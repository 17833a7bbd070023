/** What is fuzzed: a parser, inputs that it may take, and what must be true of any input. */
import { isDeepStrictEqual } from 'node:util'
import type fc from 'fast-check'

export interface FuzzTarget {
  /** Also the folder of its inputs in test/corpus. */
  name: string
  /** Inputs that the parser takes, or nearly. They are mutated, unless `mutations` is `none`. */
  inputs: fc.Arbitrary<Uint8Array>
  /** `bytes`: bits, bytes, lengths and pieces; `text`: pieces and `tokens` too; `none`: the inputs as they come. */
  mutations: 'bytes' | 'text' | 'none'
  /** Words of the language, which are put in between. */
  tokens?: readonly string[]
  /** CPU time that one input may take; 1000 if not given. */
  cpuMsMax?: number
  /**
   * Gives the input to the parser. Returns whether that took it, and throws where anything is not as it must be: an error
   * of another class than the parser's own, or a property that does not hold.
   */
  check(input: Buffer): boolean | Promise<boolean>
  /** Removes what the target has made. */
  dispose?(): void
}

/** What `action` returns; `undefined` where it refuses with an error of this class. Other errors are thrown on. */
export function attempt<T>(
  refusal: abstract new (...args: never[]) => Error,
  action: () => T,
): T | undefined {
  try {
    return action()
  } catch (error) {
    if (error instanceof refusal) return undefined
    throw error
  }
}

/** As `assert.deepEqual`, without the work of telling the difference until there is one. */
export function requireEqual(found: unknown, expected: unknown, what: string): void {
  if (isDeepStrictEqual(found, expected)) return
  throw new Error(`${what}: found ${show(found)}, expected ${show(expected)}`)
}

export function require(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

function show(value: unknown): string {
  const text = JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? `${one}n` : one)) ?? String(value)
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

/** Text whose bytes an input is: what is not UTF-8 becomes U+FFFD. */
export function textOf(input: Buffer): string {
  return input.toString('utf8')
}
