/** The tests that the tables of the docs name are there: what they promise is shown by something. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'

const checkout = join(import.meta.dirname, '..')
const pages = ['docs/threat-model.md', 'docs/reliability.md'].filter((page) =>
  existsSync(join(checkout, page)),
)

/** Any text: `…` of a page, and what a test puts into its name. */
const anything = null
type Pattern = (string | null)[]

interface Reference {
  file: string
  names: string[]
}

interface Row {
  line: number
  text: string
  references: Reference[]
}

/** The rows of all tables of a page whose last column says which test shows it. */
function rowsOf(page: string): Row[] {
  const rows: Row[] = []
  let inTable = false
  for (const [i, text] of readFileSync(join(checkout, page), 'utf8').split('\n').entries()) {
    if (!text.startsWith('|')) inTable = false
    else if (/\|\s*(the )?tests?\s*\|\s*$/i.test(text)) inTable = true
    else if (inTable && !/^\|[-|: ]+\|$/.test(text))
      rows.push({ line: i + 1, text, references: referencesOf(text) })
  }
  return rows
}

/** Each file of tests, with the names in quotes behind it. */
function referencesOf(text: string): Reference[] {
  const parts = text.split(/`([\w./-]+\.test\.ts)`/)
  const references: Reference[] = []
  for (let i = 1; i < parts.length; i += 2)
    references.push({
      file: parts[i]!,
      names: [...parts[i + 1]!.matchAll(/["“]([^"”]+)["”]/g)].map((match) => match[1]!),
    })
  return references
}

function patternOf(text: string, wildcard: RegExp): Pattern {
  return text.split(wildcard).flatMap((part, i) => (i === 0 ? [...part] : [anything, ...part]))
}

const literal = /'((?:[^'\\\n]|\\.)*)'|"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g

/** All texts of a source, those that would match anything left out. */
function textsIn(source: string): Pattern[] {
  return [...source.matchAll(literal)].flatMap(([, single, double, template]) => {
    const text = (single ?? double ?? template)!.replaceAll(/\\(['"`$])/g, '$1')
    const pattern = template === undefined ? [...text] : patternOf(text, /\$\{[^}]*\}/)
    return pattern.filter((one) => one !== anything).length >= 5 ? [pattern] : []
  })
}

/**
 * Names of tests of a file, and what its tables of cases call themselves, also where these stand in files of tests that it
 * imports.
 */
function namesIn(file: string): Pattern[] {
  const names = textsIn(readFileSync(join(checkout, file), 'utf8'))
  for (const imported of importedBy(file, new Set([file]))) {
    const source = readFileSync(join(checkout, imported), 'utf8')
    for (const [, name] of source.matchAll(/\bname: (?:'([^'\n]*)')/g)) names.push([...name!])
  }
  return names
}

function importedBy(file: string, seen: Set<string>): string[] {
  const source = readFileSync(join(checkout, file), 'utf8')
  return [...source.matchAll(/from '(\.[^']*\.ts)'/g)].flatMap(([, path]) => {
    const imported = join(dirname(file), path!)
    if (seen.has(imported) || !/(^|\/)test\//.test(imported) || !existsSync(join(checkout, imported)))
      return []
    seen.add(imported)
    return [imported, ...importedBy(imported, seen)]
  })
}

/** Whether two patterns can stand for the same text. */
function canMeet(a: Pattern, b: Pattern): boolean {
  let row = Array.from({ length: b.length + 1 }, (_, j) => b.slice(0, j).every((one) => one === anything))
  for (const one of a) {
    const next = [one === anything && row[0]!]
    for (const [j, other] of b.entries()) {
      // A wildcard stands for nothing, or for one thing more.
      if (one === anything || other === anything) next.push(row[j + 1]! || next[j]!)
      else next.push(row[j]! && one === other)
    }
    row = next
  }
  return row.at(-1)!
}

const known = new Map<string, Pattern[]>()

function isThere(file: string, name: string): boolean {
  const names = known.get(file) ?? namesIn(file)
  known.set(file, names)
  const wanted = patternOf(name, /…/)
  return names.some((one) => canMeet(one, wanted))
}

describe('the docs name tests', () => {
  for (const page of pages) {
    test(`that are there: ${page}`, () => {
      const rows = rowsOf(page)
      assert.ok(rows.length > 10, `${rows.length} rows`)
      const missing = rows.flatMap(({ line, references }) =>
        references.flatMap(({ file, names }) => {
          if (!existsSync(join(checkout, file))) return [`${page}:${line}: there is no ${file}`]
          return names
            .filter((name) => !isThere(file, name))
            .map((name) => `${page}:${line}: ${file} has no test "${name}"`)
        }),
      )
      assert.deepEqual(missing, [])
    })

    test(`for each line, or say why there is none: ${page}`, () => {
      const silent = rowsOf(page)
        .filter(
          ({ text, references }) =>
            references.length === 0 && !/by design|no test: |the same tests?|npm run /.test(text),
        )
        .map(({ line, text }) => `${page}:${line}: ${text.slice(0, 100)}`)
      assert.deepEqual(silent, [])
    })
  }

  test('and one that is not there would be missed', () => {
    const own = 'test/documented-tests.test.ts'
    assert.ok(isThere(own, 'and one that is not there would be missed'))
    assert.ok(isThere(own, 'that are there: …'))
    assert.ok(isThere(own, 'that are there: docs/any.md'))
    assert.ok(!isThere(own, ['and one that is', 'nowhere'].join(' ')))
    assert.ok(!isThere(own, ['that were there', 'docs/any.md'].join(': ')))
  })
})
