import * as z from 'zod'

const secondMs = 1000
const minuteMs = 60 * secondMs
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs

const unitMs = new Map([
  ['ms', 1],
  ...['s', 'sec', 'second'].map((word) => [word, secondMs] as const),
  ...['m', 'min', 'minute'].map((word) => [word, minuteMs] as const),
  ...['h', 'hour'].map((word) => [word, hourMs] as const),
  ...['d', 'day'].map((word) => [word, dayMs] as const),
  ...['w', 'week'].map((word) => [word, 7 * dayMs] as const),
])

/** The longest duration that is taken, so that adding it to a date stays a date: 100 years. */
export const durationMsMax = 100 * 365.25 * dayMs

/**
 * Reads a duration as people write it: `'26 hours'`, `'90m'`, `'1.5 h'`, `'2 days 12 hours'`. Returns milliseconds,
 * or `null` where the text is no duration, has a unit that is not known, is zero, or is longer than `durationMsMax`.
 */
export function parseDuration(text: string): number | null {
  const normal = text.trim().toLowerCase()
  const part = /(\d+(?:\.\d+)?)\s*([a-z]+)\s*/y
  let totalMs = 0
  while (part.lastIndex < normal.length) {
    const match = part.exec(normal)
    if (match === null) return null
    const word = match[2]!
    const factorMs = unitMs.get(word) ?? unitMs.get(word.replace(/s$/, ''))
    if (factorMs === undefined) return null
    totalMs += Number(match[1]) * factorMs
  }
  return totalMs >= 1 && totalMs <= durationMsMax ? Math.round(totalMs) : null
}

const expectation = "a duration like '90 seconds', '30m', '26 hours' or '2 days'"

/** A duration in words, turned into milliseconds. */
export const durationSchema = z.string(expectation).transform((text, context) => {
  const ms = parseDuration(text)
  if (ms !== null) return ms
  context.addIssue({ code: 'custom', message: expectation })
  return z.NEVER
})
