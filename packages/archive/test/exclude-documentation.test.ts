import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type BytePath, bytesFromText, compileExclusion, noVerdict } from '../src/index.ts'

/** The tables of docs/operating.md that say what patterns leave out, and what they do not. */

const text = readFileSync(join(import.meta.dirname, '../../../docs/operating.md'), 'utf8')
const section = text.slice(text.indexOf('### Excludes\n'), text.indexOf('**What is subject to excludes:**'))
const rows = section
  .split('\n')
  .filter((line) => /^\| `/.test(line))
  .map((line) => line.split(' | ').map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code!)))

/** A path as the documentation writes it: absolute, a folder where it ends in `/`. */
function isLeftOut(patterns: readonly string[], example: string): boolean {
  const exclusion = compileExclusion(patterns)
  const names = example.split('/').filter(Boolean).map(bytesFromText)
  let verdict = noVerdict
  for (const [at, name] of names.entries()) {
    const isDirectory = at + 1 < names.length || example.endsWith('/')
    verdict = exclusion.judge(names.slice(0, at + 1).join('/') as BytePath, name, isDirectory, verdict)
  }
  return exclusion.leavesOut(verdict)
}

test('the documentation has examples of single patterns and of several', () => {
  assert.ok(rows.length >= 15, `${rows.length} rows`)
  assert.ok(rows.some(([patterns]) => patterns!.some((one) => one.startsWith('!'))))
})

for (const [patterns, leftOut, kept] of rows) {
  // Of single patterns, a row may have two that mean the same; where one takes back, they are one list.
  const isList = patterns!.some((one) => one.startsWith('!'))
  const lists = isList ? [patterns!] : patterns!.filter((one) => one !== '/').map((one) => [one])
  for (const list of lists) {
    test(`${list.join(' ')} leaves out what the documentation says, and not what it does not`, () => {
      assert.ok(leftOut!.length > 0 && kept!.length > 0)
      for (const example of leftOut!) assert.ok(isLeftOut(list, example), example)
      for (const example of kept!) assert.ok(!isLeftOut(list, example), example)
    })
  }
}
