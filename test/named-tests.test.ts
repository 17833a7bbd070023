/** The pages that name a test for each of their promises name tests that are there. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'

const checkout = join(import.meta.dirname, '..')
const pages = ['docs/threat-model.md', 'docs/reliability.md']

interface NamedTest {
  file: string
  name: string
}

/** `file` "name", "name", where a `…` stands for any text. */
function namedTests(page: string): NamedTest[] {
  const named: NamedTest[] = []
  for (const [, file, names] of page.matchAll(/`([^`]+\.test\.ts)`((?:,?\s+"[^"]+")*)/g))
    for (const [, name] of names!.matchAll(/"([^"]+)"/g)) named.push({ file: file!, name: name! })
  return named
}

/** All texts of a source that a name of a test may be made of; what is put into them is `…`. */
function textsIn(source: string): string[] {
  const literal = /'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g
  return [...source.matchAll(literal)].map(([, single, double, template]) =>
    (single ?? double ?? template!.replace(/\$\{[^}]*\}/g, '…')).replace(/\\(.)/g, '$1'),
  )
}

function toPattern(text: string): RegExp {
  const pieces = text.split('…').map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${pieces.join('.*')}$`, 's')
}

/** Those that no text of their file is the name of. */
function missingTests(page: string, sourceOf: (file: string) => string | null): NamedTest[] {
  return namedTests(page).filter(({ file, name }) => {
    const source = sourceOf(file)
    if (source === null) return true
    return !textsIn(source).some((text) => text === name || isNamed(text, name))
  })
}

function isNamed(text: string, name: string): boolean {
  // One that is all of it put together at run time would be every name.
  if (text.replaceAll('…', '').trim().length < 3) return false
  return toPattern(text).test(name) || toPattern(name).test(text)
}

/** Of a test and of what belongs to it alone: a folder of its name. */
function sourceOf(file: string): string | null {
  const path = join(checkout, file)
  if (!existsSync(path)) return null
  const beside = globSync(join(path.replace(/\.test\.ts$/, ''), '*.ts'))
  return [path, ...beside].map((one) => readFileSync(one, 'utf8')).join('\n')
}

describe('the tests that', () => {
  for (const page of pages) {
    test(`${page} names are there`, () => {
      const text = readFileSync(join(checkout, page), 'utf8')
      assert.ok(namedTests(text).length > 20)
      assert.deepEqual(missingTests(text, sourceOf), [])
    })
  }

  test('are not there are found', () => {
    const source = ["test('one thing holds', …)", 'test(`$', '{n} things hold`, …)'].join('')
    const page =
      '| a | `a.test.ts` "one thing holds", "… things hold", "two things fail"; `b.test.ts` "what holds" |'
    assert.deepEqual(
      missingTests(page, (file) => (file === 'a.test.ts' ? source : null)),
      [
        { file: 'a.test.ts', name: 'two things fail' },
        { file: 'b.test.ts', name: 'what holds' },
      ],
    )
  })
})
