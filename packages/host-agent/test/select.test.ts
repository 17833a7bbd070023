import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type BytePath, bytesFromText, comparePaths, compileExclusion } from '@central-backup/archive'
import fc from 'fast-check'
import { walk } from '../../archive/src/pack/walk.ts'
import { PackingFolder, withoutRights } from '../../archive/test/packing-folder.ts'
import { type Selected, selectPaths } from '../src/select/select.ts'
import { selectInThread } from '../src/select/select-in-thread.ts'

interface Options {
  exclude?: readonly string[]
  /** Folders that the policy allows, by their names in the folder; all of it if not given. */
  allowed?: readonly string[]
  approach?: (path: BytePath) => void
}

/** Selects by paths and patterns that begin in the folder. */
function select(folder: PackingFolder, paths: string | readonly string[], options: Options = {}): Selected {
  const { exclude = [], allowed = [''], approach = () => {} } = options
  return selectPaths(
    {
      // Not joined: what is odd about a pattern must stay.
      paths: [paths].flat().map((path) => bytesFromText(`${folder.path}/${path}`)),
      exclude,
      allowed: allowed.map((one) => folder.pathOf(one)),
    },
    approach,
  )
}

/** Roots by their names in the folder, sorted; those that are taken as links only in parentheses. */
function rootsOf(folder: PackingFolder, { roots }: Selected): string[] {
  return roots
    .map(({ path, recursive }) => (recursive ? folder.nameOf(path) : `(${folder.nameOf(path)})`))
    .sort()
}

function problemsOf(folder: PackingFolder, { problems }: Selected): string[] {
  return problems.map(({ code, path }) => `${code} ${folder.nameOf(path)}`)
}

/** What a backup of the selection would hold below the folder, ancestors left out. */
function packedOf(folder: PackingFolder, selected: Selected, exclude: readonly string[] = []): string[] {
  const paths: string[] = []
  walk(selected.roots, compileExclusion(exclude), {
    approach: () => {},
    visit: ({ path, ancestor }) => {
      if (!ancestor) paths.push(folder.nameOf(path))
    },
    problem: () => {},
  })
  return paths.sort()
}

function makeTree(files: readonly string[]): PackingFolder {
  const folder = new PackingFolder()
  for (const file of files) {
    if (file.endsWith('/')) folder.folder(file)
    else folder.file(file)
  }
  return folder
}

/** Fails unless the pattern selects these roots, without a word. */
function check(folder: PackingFolder, pattern: string | readonly string[], roots: readonly string[]): void {
  const selected = select(folder, pattern)
  assert.deepEqual(rootsOf(folder, selected), [...roots].sort(), `${pattern}`)
  assert.deepEqual(problemsOf(folder, selected), [], `${pattern}`)
  assert.equal(selected.missing, 0)
}

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
  const request = (path: string) => ({ paths: [bytesFromText(path)], exclude: [], allowed: ['' as BytePath] })
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
  for (const pattern of ['{1..1000000}', `{a,${'b'.repeat(20_000)}}`]) {
    const { problems, missing } = select(folder, ['a', pattern])
    assert.deepEqual([problems[0]!.code, problems.length, missing], ['path-invalid', 1, 1])
    assert.match(problems[0]!.message, /braces cannot be expanded: .*(limit|length)/)
  }
})

test('braces that would fill the memory fail the selection, and not the program', {
  timeout: 60_000,
}, async () => {
  const request = {
    paths: [bytesFromText(`/${'{a,b,c,d,e,f,g,h}'.repeat(12)}`)],
    exclude: [],
    allowed: ['' as BytePath],
  }
  const selecting = selectInThread(request, 60_000, new AbortController().signal)
  await assert.rejects(selecting, { code: 'select-failed', message: /memory/ })
})

test('a path through a link packs the link and what stands behind it', () => {
  using folder = makeTree(['disk/data/www/x', 'plain'])
  folder.symlink('srv', 'disk/data')
  folder.symlink('disk/self', '../disk')
  check(folder, 'srv/www', ['(srv)', 'disk/data/www'])
  check(folder, 'disk/self/self/data', ['(disk/self)', 'disk/data'])
  check(folder, 'srv/*', ['(srv)', 'disk/data/www'])
  check(folder, '{srv,disk/self/data}/www', ['(disk/self)', '(srv)', 'disk/data/www'])
  assert.deepEqual(packedOf(folder, select(folder, 'srv/www')), ['disk/data/www', 'disk/data/www/x', 'srv'])
})

test('a link that is named is packed as a link, which is told; with a slash at its end it is followed', () => {
  using folder = makeTree(['target/x'])
  folder.symlink('link', 'target')
  const named = select(folder, 'link')
  assert.deepEqual(rootsOf(folder, named), ['link'])
  assert.deepEqual(problemsOf(folder, named), ['path-is-link link'])
  assert.match(named.problems[0]!.message, /write .*link\/ to follow it/)
  assert.equal(named.missing, 0)
  assert.deepEqual(packedOf(folder, named), ['link'])
  check(folder, 'link/', ['(link)', 'target'])
  assert.deepEqual(packedOf(folder, select(folder, 'link/')), ['link', 'target', 'target/x'])
})

test('links that lead nowhere, or in circles, are missing where they have to be followed', () => {
  using folder = makeTree([])
  folder.symlink('broken', 'nowhere')
  folder.symlink('a', 'b')
  folder.symlink('b', 'a')
  assert.deepEqual(rootsOf(folder, select(folder, ['broken', 'a'])), ['a', 'broken'])
  const followed = select(folder, ['broken/', 'broken/x', 'a/', 'a/x', 'a/*'])
  assert.deepEqual(followed.roots, [])
  assert.deepEqual(problemsOf(folder, followed), [
    'path-not-found broken',
    'path-not-found broken/x',
    'path-unreadable a',
    'path-unreadable a/x',
    'path-unreadable a/*',
  ])
  assert.equal(followed.missing, 5)
})

test('patterns match links but go through none', () => {
  using folder = makeTree(['real/x', 'tree/a/x'])
  folder.symlink('tree/link', '../real')
  check(folder, 'tree/*', ['tree/a', 'tree/link'])
  check(folder, 'tree/*/x', ['tree/a/x'])
  check(folder, 'tree/**/x', ['tree/a/x'])
})

test('excludes apply to what a pattern matches and to all that leads to it, but not to paths that are named', () => {
  using folder = makeTree(['d/cache/x', 'd/keep/x', 'd/keep/cache/x', 'd/a.tmp', 'd/tmp', 'd/log/tmp/x'])
  const exclude = ['cache', '*.tmp', 'tmp/']
  const roots = (paths: string | string[]) => rootsOf(folder, select(folder, paths, { exclude }))
  assert.deepEqual(roots('d/*'), ['d/keep', 'd/log', 'd/tmp'])
  assert.deepEqual(roots('d/*/x'), ['d/keep/x'])
  assert.deepEqual(roots('d/**/x'), ['d/keep/x'])
  assert.deepEqual(roots('d/log/*'), [])
  assert.deepEqual(roots(['d/cache', 'd/a.tmp']), ['d/a.tmp', 'd/cache'])
  assert.deepEqual(roots('d/cache/*'), ['d/cache/x'])
  assert.deepEqual(roots('d/{cache,keep}'), ['d/cache', 'd/keep'])
  // A pattern all of whose matches are excluded has matched.
  assert.deepEqual(select(folder, 'd/*.tmp', { exclude }).problems, [])
})

test('an exclude pattern that cannot be understood is refused by its name', () => {
  using folder = makeTree(['a'])
  for (const pattern of ['[z-a]', '**', '!a', '', '{a,b']) {
    assert.throws(
      () => select(folder, 'a', { exclude: ['fine', pattern] }),
      (error: Error) => {
        assert.equal(error.name, 'TypeError')
        assert.ok(error.message.includes(`'${pattern}'`), error.message)
        return true
      },
    )
  }
})

test('folders that cannot be read while a pattern is expanded are told, and make something missing', () => {
  using folder = makeTree(['a/x', 'closed/x', 'b/x'])
  chmodSync(folder.path, 0o755)
  chmodSync(folder.at('closed'), 0)
  const selected = withoutRights(() => select(folder, ['*/x', 'closed/x']))
  assert.deepEqual(rootsOf(folder, selected), ['a/x', 'b/x'])
  assert.deepEqual(problemsOf(folder, selected), ['path-unreadable closed', 'path-unreadable closed/x'])
  assert.equal(selected.missing, 2)
})

/** Requests that look into `outside` in every way there is, from a policy that allows `inside` only. */
const forbidden = [
  'outside',
  'outside/',
  'outside/x',
  'outside/x/y',
  'outside/*',
  'outside/**/x',
  'outside/{x,y}',
  '{outside,other}/x',
  'o*/x',
  '*/x',
  '**/x',
  'inside/link/x',
  'inside/link/x/y',
  'inside/link/',
  'inside/link/*',
  'inside/link/**',
  'inside/{link,folder}/x',
  'inside/{link,folder}/*',
  'inside/l\\ink/*',
  'inside/l[i]nk/*',
  'inside/li*/x',
  'inside/*/x',
  'inside/**/x',
  'inside/chain/x',
  'inside/absolute/x',
  'inside/absolute/*',
  'inside/to-x',
  'inside/to-x/',
  'inside/folder/up/outside/x',
  'inside/{../outside,folder}/x',
  'inside/{../outside/x,folder}',
  'inside/\\.\\./outside/*',
]

test('outside of what the policy allows nothing is looked at, and the answer is the same whatever is there', () => {
  const answers = ['file', 'folder', 'nothing'].map((what) => {
    using folder = makeTree(['inside/folder/y'])
    folder.folder('outside')
    if (what === 'file') folder.file('outside/x')
    if (what === 'folder') folder.file('outside/x/y')
    folder.symlink('inside/link', '../outside')
    folder.symlink('inside/chain', 'link')
    folder.symlink('inside/absolute', join(folder.path, 'outside'))
    folder.symlink('inside/to-x', '../outside/x')
    folder.symlink('inside/folder/up', '../..')
    return forbidden.map((path) => {
      const looked: string[] = []
      const selected = select(folder, path, {
        allowed: ['inside'],
        approach: (one) => looked.push(folder.nameOf(one)),
      })
      const packed = packedOf(folder, selected)
      assert.ok(!packed.some((one) => one.startsWith('outside')), path)
      assert.ok(!looked.slice(1).some((one) => !one.startsWith('inside')), `${path}: ${looked}`)
      const told = selected.problems.map(({ code, message }) =>
        `${code} ${message}`.replaceAll(folder.path, ''),
      )
      return [path, rootsOf(folder, selected), told, selected.missing, packed]
    })
  })
  assert.deepEqual(answers[1], answers[0])
  assert.deepEqual(answers[2], answers[0])
})

test('what the policy does not allow is missing, and what it allows beside it is selected', () => {
  using folder = makeTree(['a/x', 'b/x', 'ab/x'])
  const selected = select(folder, ['a', 'b/x', 'ab', '{a,b}/x', 'b/*'], { allowed: ['a'] })
  assert.deepEqual(rootsOf(folder, selected), ['a', 'a/x'])
  assert.deepEqual(problemsOf(folder, selected), [
    'path-not-allowed b/x',
    'path-not-allowed ab',
    'path-not-allowed b/x',
    'path-not-allowed b/*',
  ])
  assert.equal(selected.missing, 4)
})

test('links within what the policy allows are followed, and those that leave it are packed as links', () => {
  using folder = makeTree(['in/data/x', 'out/x'])
  folder.symlink('in/near', 'data')
  folder.symlink('in/far', '../out')
  const allowed = ['in']
  assert.deepEqual(rootsOf(folder, select(folder, 'in/near/x', { allowed })), ['(in/near)', 'in/data/x'])
  assert.deepEqual(rootsOf(folder, select(folder, 'in/*', { allowed })), ['in/data', 'in/far', 'in/near'])
  assert.deepEqual(rootsOf(folder, select(folder, 'in/far', { allowed })), ['in/far'])
  assert.deepEqual(problemsOf(folder, select(folder, 'in/far/', { allowed })), ['path-not-allowed in/far'])
})

test('a policy that allows nothing selects nothing', () => {
  using folder = makeTree(['a'])
  const selected = select(folder, ['a', '*', '{a,b}'], { allowed: [] })
  assert.deepEqual(selected.roots, [])
  assert.ok(selected.problems.every(({ code }) => code === 'path-not-allowed'))
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
      const wanted = packedOf(folder, { roots, problems: [], missing: 0 })
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
