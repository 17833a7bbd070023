import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { type BytePath, bytesFromText, comparePaths } from '@central-backup/archive'
import fc from 'fast-check'
import { PackingFolder } from '../../archive/test/packing-folder.ts'
import { selectPaths } from '../src/select/select.ts'
import { selectInThread } from '../src/select/select-in-thread.ts'
import { check, makeTree, packedOf, problemsOf, rootsOf, select } from './select-in-tree.ts'

test('a path is its own root, and slashes that are too many do not matter', () => {
  using folder = makeTree(['a/b/c', 'd'])
  check(folder, 'a', ['a'])
  check(folder, 'a/b/c', ['a/b/c'])
  check(folder, ['a//b/./c', 'd/'], ['a/b/c', 'd'])
  check(folder, ['a', 'a', 'a/'], ['a'])
})

test('stars, question marks and brackets match within a component, hidden names too', () => {
  using folder = makeTree([
    'www/a/public/x',
    'www/b/public/y',
    'www/.c/public/z',
    'www/d/private/w',
    'www/public',
  ])
  check(folder, 'www/*/public', ['www/a/public', 'www/b/public', 'www/.c/public'])
  check(folder, 'www/?/public', ['www/a/public', 'www/b/public'])
  check(folder, 'www/[ab]/p*', ['www/a/public', 'www/b/public'])
  check(folder, 'www/[!a]/p*', ['www/b/public', 'www/d/private'])
  check(folder, 'www/[a-b]*', ['www/a', 'www/b'])
  check(folder, 'www/.*', ['www/.c'])
  check(folder, '*', ['www'])
})

test('braces are alternatives, each as if it were written by itself', () => {
  using folder = makeTree(['etc/hosts', 'etc/passwd', 'var/log/x', 'var/lib/y', 'log.1', 'log.2', 'log.9'])
  check(folder, '{etc,var/log}', ['etc', 'var/log'])
  check(folder, 'etc/{hosts,passwd,shadow}', ['etc/hosts', 'etc/passwd'])
  check(folder, '{etc,var}/*', ['etc/hosts', 'etc/passwd', 'var/log', 'var/lib'])
  check(folder, 'log.{1..3}', ['log.1', 'log.2'])
  check(folder, '{etc,etc/{hosts,passwd}}', ['etc', 'etc/hosts', 'etc/passwd'])
  // What is no folder has nothing below it, and what is no brace is a name.
  check(folder, '{log.1,etc}/hosts', ['etc/hosts'])
  assert.deepEqual(problemsOf(folder, select(folder, '{etc}')), ['path-not-found {etc}'])
})

test('two stars match at any depth, and folders are taken once with all that is in them', () => {
  using folder = makeTree(['a/x.conf', 'a/b/x.conf', 'a/b/c/.x.conf', 'a/b/c/y', 'x.conf'])
  check(folder, 'a/**/*.conf', ['a/x.conf', 'a/b/x.conf', 'a/b/c/.x.conf'])
  check(folder, '**/b', ['a/b'])
  check(folder, '**/[by]', ['a/b', 'a/b/c/y'])
  check(folder, '**/x.conf', ['x.conf', 'a/x.conf', 'a/b/x.conf'])
})

test('two stars at the end mean all that is in a folder, and do not become a root for each', () => {
  const files = Array.from({ length: 300 }, (_, i) => `a/${i % 10}/${i % 30}/${i}`)
  using folder = makeTree(files)
  const ten = Array.from({ length: 10 }, (_, i) => `a/${i}`)
  for (const pattern of ['a/**', 'a/**/*', 'a/**/**', 'a/*']) check(folder, pattern, ten)
  const packed = packedOf(folder, select(folder, 'a/**'))
  assert.equal(packed.filter((path) => files.includes(path)).length, 300)
})

test('a pattern that ends in a slash matches folders only', () => {
  using folder = makeTree(['a/folder/x', 'a/file'])
  folder.symlink('a/link', 'folder')
  check(folder, 'a/*/', ['a/folder'])
  check(folder, 'a/*', ['a/folder', 'a/file', 'a/link'])
  check(folder, 'a/{folder,file}/x', ['a/folder/x'])
})

test('a path with glob characters that exists as it is written is taken literally', () => {
  const names = ['[a]', '*', 'a?', '{b,c}', '!(d)', 'back\\slash', '**', '+(e)', '(f|g)', 'h[i']
  using folder = makeTree([...names, 'a', 'ab', 'b', 'd', 'e', 'f'])
  for (const name of names) check(folder, name, [name])
  for (const name of names) check(folder, `./${name}`, [name])
  check(folder, ['{[a],b}'], ['[a]', 'b'])
  // A pattern that is not there as it is written is a pattern.
  check(folder, '[ab]', ['a', 'b'])
})

test('a backslash takes a character as it is', () => {
  using folder = makeTree(['*', 'ab', 'dir[1]/x1', 'dir[1]/x2', 'dir1/x3'])
  check(folder, '\\*', ['*'])
  check(folder, 'dir\\[1]/x*', ['dir[1]/x1', 'dir[1]/x2'])
  check(folder, 'dir\\[1\\]/x1', ['dir[1]/x1'])
  check(folder, 'a\\b', ['ab'])
})

test('names with quotes, dashes, exclamation marks, backslashes and newlines are matched like others', () => {
  const names = ['"q"', "'q'", '-rf', '!no', 'a\\b', 'line\nbreak', 'car\rriage', 'para\u2029graph', ' ', '#']
  using folder = makeTree(names.map((name) => `d/${name}/file.txt`))
  check(
    folder,
    'd/*/file.txt',
    names.map((name) => `d/${name}/file.txt`),
  )
  check(
    folder,
    '**/*.txt',
    names.map((name) => `d/${name}/file.txt`),
  )
  check(
    folder,
    'd/**',
    names.map((name) => `d/${name}`),
  )
  for (const [pattern, name] of [
    ['d/!n*', '!no'],
    ['d/"*"', '"q"'],
    ['d/-*', '-rf'],
    ['d/line?break', 'line\nbreak'],
    ['d/line\n*', 'line\nbreak'],
    ['d/para?*', 'para\u2029graph'],
    ['d/a\\\\*', 'a\\b'],
  ] as const) {
    check(folder, pattern, [`d/${name}`])
  }
})

test('names that are not UTF-8 are matched and not lost', () => {
  using folder = makeTree(['d/caf\udce9/x', 'd/\udcff\udcfe', 'd/café/x', 'd/plain'])
  check(folder, 'd/*', ['d/caf\udce9', 'd/\udcff\udcfe', 'd/café', 'd/plain'])
  check(folder, 'd/*/x', ['d/caf\udce9/x', 'd/café/x'])
  check(folder, 'd/caf?', ['d/caf\udce9', 'd/café'])
  check(folder, 'd/caf\udce9/*', ['d/caf\udce9/x'])
  check(folder, 'd/**/\udcff*', ['d/\udcff\udcfe'])
  check(folder, 'd/caf\udce9', ['d/caf\udce9'])
})

test('a pattern that matches nothing is told, and nothing is missing for that', () => {
  using folder = makeTree(['a/b'])
  for (const pattern of [
    '*.conf',
    'a/*/c',
    'gone/*',
    'a/b/*',
    '{x,y}',
    'a/**/z',
    'gone/{x,y}/*',
    '*/',
    'a/b/**/',
  ]) {
    const selected = select(folder, pattern)
    if (pattern === '*/') continue
    assert.deepEqual(selected.roots, [], pattern)
    assert.deepEqual(
      selected.problems.map(({ code }) => code),
      ['pattern-matched-nothing'],
      pattern,
    )
    assert.equal(selected.missing, 0)
  }
})

test('a path that does not exist is missing, and the others are selected all the same', () => {
  using folder = makeTree(['a/b'])
  const selected = select(folder, ['gone', 'a', 'a/b/c', 'a/gone/'])
  assert.deepEqual(rootsOf(folder, selected), ['a'])
  assert.deepEqual(problemsOf(folder, selected), [
    'path-not-found gone',
    'path-not-found a/b/c',
    'path-not-found a/gone',
  ])
  assert.equal(selected.missing, 3)
})

test('paths that are not absolute, or climb, are refused and missing', () => {
  using folder = makeTree(['a/b'])
  const request = (path: string) => ({
    paths: [{ path: bytesFromText(path) }],
    exclude: [],
    allowed: ['' as BytePath],
  })
  const climbing = ['a/../b', 'a/..', 'a/\\.\\./x*', '*/../x', 'a/\\.\\.'].map(
    (path) => `${folder.path}/${path}`,
  )
  for (const path of ['etc', '', './etc', '../etc', '*', '/etc\0', '/a\0*', ...climbing]) {
    const { roots, problems, missing } = selectPaths(request(path), () => {})
    assert.deepEqual(roots, [], path)
    assert.deepEqual(
      problems.map(({ code }) => code),
      ['path-invalid'],
      path,
    )
    assert.equal(missing, 1)
  }
})

test('braces that cannot be expanded are told, with the reason', () => {
  using folder = makeTree(['a'])
  for (const pattern of ['{1..1000000}', `{a,${'b'.repeat(12_000)}}`]) {
    const { problems, missing } = select(folder, ['a', pattern])
    assert.deepEqual([problems[0]!.code, problems.length, missing], ['path-invalid', 1, 1])
    assert.match(problems[0]!.message, /braces cannot be expanded: .*(limit|length)/)
  }
})

test('patterns that would take too long are told, with the reason, and the other paths are packed', () => {
  using folder = makeTree(['a', 'aab', 'a+b'])
  const reasons: [string, RegExp][] = [
    ['*a*a*a*b', /4 wildcards are too many/],
    ['*\\a*\\a*\\a*\\ab', /4 wildcards are too many/],
    ['?(a)'.repeat(30), /30 groups with 30 alternatives are too many/],
    ['**/a/**/b/**/c/**/d', /\*\* stands in it 4 times/],
    ['+(*a)b', /repeats/],
    ['*(a|aa)b', /repeats/],
    ['+(+(a))b', /repeats/],
    [`*${'a'.repeat(4096)}`, /more than 4096 characters/],
  ]
  for (const [pattern, reason] of reasons) {
    const selected = select(folder, [pattern, 'a'])
    assert.deepEqual(rootsOf(folder, selected), ['a'], pattern)
    assert.deepEqual([selected.problems.map(({ code }) => code), selected.missing], [['path-invalid'], 1])
    assert.match(selected.problems[0]!.message, reason)
    assert.deepEqual(problemsOf(folder, selected), [`path-invalid ${pattern}`])
  }
  check(folder, '+(a)b', ['aab'])
  check(folder, '*(a)b', ['aab'])
  check(folder, '@(a|aa)?b', ['a+b', 'aab'])
  check(folder, '[a]+?', ['a+b'])
  check(folder, '@(x|a)+b', ['a+b'])
})

test('a backslash takes the next character as it is, however many there are', () => {
  using folder = makeTree(['a\\\\\\b', 'a\\b/x', 'd', '1'])
  check(folder, '[a]\\\\\\\\\\\\*', ['a\\\\\\b'])
  check(folder, 'a\\\\b/*', ['a\\b/x'])
  check(folder, '*b/x', ['a\\b/x'])
  check(folder, '*\\d', ['d'])
  assert.deepEqual(problemsOf(folder, select(folder, '[x]\\\\\\\\\\\\')), [
    'pattern-matched-nothing [x]\\\\\\\\\\\\',
  ])
})

test('braces that would fill the memory fail the selection, and not the program', {
  timeout: 60_000,
}, async () => {
  const request = {
    paths: [{ path: bytesFromText(`/${'{a,b,c,d,e,f,g,h}'.repeat(12)}`) }],
    exclude: [],
    allowed: ['' as BytePath],
  }
  const selecting = selectInThread(request, 60_000, new AbortController().signal)
  await assert.rejects(selecting, { code: 'select-failed', message: /memory/ })
})

const pythonScript = `
import glob, json, sys
root, patterns = json.load(sys.stdin)
print(json.dumps([glob.glob(p, root_dir=root, recursive=True, include_hidden=True) for p in patterns]))
`

/** What Python's glob finds for each pattern, or `null` where there is no Python that can be asked. */
function askPython(folder: PackingFolder, patterns: readonly string[]): string[][] | null {
  const { status, stdout } = spawnSync('python3', ['-c', pythonScript], {
    input: JSON.stringify([folder.path, patterns]),
    encoding: 'utf8',
  })
  return status === 0 ? (JSON.parse(stdout) as string[][]) : null
}

test("patterns without braces select what Python's glob finds, and all that is below it", (t) => {
  const component = fc.constantFrom('a', 'b', 'ab', '.a', 'a.b', 'ba', '-', 'a b')
  const file = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'))
  const piece = fc.constantFrom('a', 'b', '*', '?', '**', '[ab]', '[!a]', '*a', 'a*', '.*', '[a-b]?', '*b*')
  const pattern = fc.array(piece, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'))
  const trees = fc.sample(fc.array(file, { minLength: 3, maxLength: 12 }), { numRuns: 6, seed: 20_261_121 })
  const patterns = [...new Set(fc.sample(pattern, { numRuns: 300, seed: 20_261_121 }))]
  for (const files of trees) {
    using folder = new PackingFolder()
    for (const one of files) {
      try {
        folder.file(one)
      } catch {
        // It is a folder already, or below a file.
      }
    }
    const answers = askPython(folder, patterns)
    if (answers === null) return t.skip('there is no Python 3.11 or later to compare with')
    for (const [i, one] of patterns.entries()) {
      const found = answers[i]!.map((name) => name.replace(/\/+$/, '')).filter((name) => name !== '')
      const roots = found.map((name) => ({ path: folder.pathOf(name), recursive: true }))
      const wanted = packedOf(folder, { roots, unselected: [], problems: [], missing: 0 })
      // Python counts the folder itself for what `**` matches; it is in the archive anyway.
      const ours = packedOf(folder, select(folder, one))
      const missing = wanted.filter((path) => !ours.includes(path))
      const folders = missing.filter((path) => !ours.some((other) => other.startsWith(`${path}/`)))
      const isEmpty = (path: string) =>
        !one.endsWith('**') || packedOf(folder, select(folder, path)).length > 1
      assert.deepEqual(folders.filter(isEmpty), [], `${one}: Python has more`)
      assert.deepEqual(
        ours.filter((path) => !wanted.includes(path)),
        [],
        `${one}: we have more`,
      )
    }
  }
})

test('the answer comes in the order that was asked for, each root once', () => {
  using folder = makeTree(['a', 'b', 'c'])
  const { roots } = select(folder, ['c', 'a', '*', 'b'])
  const paths = roots.map(({ path }) => path)
  assert.equal(new Set(paths).size, 3)
  assert.deepEqual(
    [...paths].sort(comparePaths),
    ['a', 'b', 'c'].map((name) => folder.pathOf(name)),
  )
})
