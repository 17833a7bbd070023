import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type BytePath,
  bytesFromText,
  checkExcludePattern,
  compileExclusion,
  type Exclusion,
  noVerdict,
} from '../src/index.ts'
import { PackingFolder, runProgram } from './packing-folder.ts'

function excludes(patterns: string | readonly string[], path: string, isDirectory = false): boolean {
  const bytes = bytesFromText(path)
  const name = bytes.slice(bytes.lastIndexOf('/') + 1) as BytePath
  return compileExclusion([patterns].flat()).excludes(bytes, name, isDirectory)
}

/** Fails unless the pattern excludes each of the first paths and none of the others. A path that ends in `/` is a folder. */
function check(pattern: string, excluded: readonly string[], kept: readonly string[]): void {
  for (const [paths, wanted] of [
    [excluded, true],
    [kept, false],
  ] as const) {
    for (const path of paths) {
      const found = excludes(pattern, path.replace(/\/$/, ''), path.endsWith('/'))
      assert.equal(found, wanted, `${JSON.stringify(pattern)} and ${JSON.stringify(path)}`)
    }
  }
}

test('a pattern without a slash matches a name at any depth, and only a whole one', () => {
  check(
    'cache',
    ['cache', 'cache/', 'a/cache', 'a/b/cache/'],
    ['cache2', 'mycache', 'cache/x', 'Cache', 'a/b'],
  )
  check('**/cache', ['cache', 'a/cache', 'a/b/cache/'], ['cache2', 'cache/x'])
})

test('a pattern that begins with a slash matches a whole path from the root on', () => {
  check('/var/cache', ['var/cache', 'var/cache/'], ['cache', 'x/var/cache', 'var/cache/x', 'var'])
  check('/*.img', ['swap.img'], ['var/swap.img'])
})

test('any other pattern with a slash matches the end of a path, from one of its components on', () => {
  check(
    'log/old',
    ['log/old', 'var/log/old', 'a/b/log/old/'],
    ['catalog/old', 'log/older', 'log/old/x', 'old'],
  )
  check('a/*/c', ['a/b/c', 'x/a/b/c'], ['a/c', 'a/b/b/c', 'xa/b/c'])
})

test('a pattern that ends in a slash matches folders only', () => {
  check('tmp/', ['tmp/', 'a/tmp/'], ['tmp', 'a/tmp', 'tmp/x'])
  check('/var/tmp/', ['var/tmp/'], ['var/tmp', 'x/var/tmp/'])
  check('*/', ['a/', 'a/b/'], ['a', 'a/b'])
})

test('stars, question marks and brackets stay within a component, and match hidden names too', () => {
  check('*.tmp', ['x.tmp', '.tmp', 'a/.x.tmp'], ['x.tmp.gz', 'tmp', 'x.tmp/y'])
  check('?', ['a', 'é', '.', 'x/y'], ['', 'ab'])
  check('[ab]?', ['ac', 'b1'], ['ca', 'a', 'abc'])
  check('[!a]', ['b', '!', '\n'], ['a', 'bb'])
  check('[^a]', ['b'], ['a'])
  check('[]a]', [']', 'a'], ['b', ''])
  check('[a-c]', ['b'], ['d', '-'])
  check('[[:digit:]]', ['5'], ['a', ':'])
  check('/srv/*/x', ['srv/a/x', 'srv/.a/x'], ['srv/x', 'srv/a/b/x'])
})

test('two stars cross components, none or any number of them', () => {
  check('/a/**/z', ['a/z', 'a/b/z', 'a/b/c/z'], ['a', 'z', 'x/a/z', 'a/bz'])
  check('a/**', ['a/x', 'a/x/y', 'q/a/x'], ['a', 'a/', 'b/x'])
  check('/a/**', ['a/x', 'a/x/y'], ['a', 'q/a/x'])
})

test('braces are alternatives, also where they hold slashes, and numbers are ranges', () => {
  check('*.{bak,old}', ['x.bak', 'a/x.old'], ['x.{bak,old}', 'x.baks'])
  check('a{,.bak}', ['a', 'a.bak'], ['a.'])
  check('/{etc,var/lib}/x', ['etc/x', 'var/lib/x'], ['var/x'])
  check('log.{1..3}', ['log.1', 'log.3'], ['log.4', 'log.1..3'])
  check('{a}', ['{a}'], ['a'])
})

test('a backslash takes the next character as it is, and quotes are characters like others', () => {
  check('\\*', ['*'], ['x', '\\*'])
  check('\\[a]', ['[a]'], ['a'])
  check('\\{a,b\\}', ['{a,b}'], ['a'])
  check('\\!a', ['!a'], ['a'])
  check('"*"', ['"x"', '""'], ['x'])
  check('"', ['"'], [''])
  check("'a'", ["'a'"], ['a'])
  check('a\\"b', ['a"b'], ['ab'])
})

test('what means something in a regular expression means nothing in a pattern', () => {
  check('a.c', ['a.c'], ['abc'])
  check('a+', ['a+'], ['aa', 'a'])
  check('^a$', ['^a$'], ['a'])
  check('a|b', ['a|b'], ['a', 'b'])
  check('$HOME', ['$HOME'], [])
  check('#a', ['#a'], ['a'])
  check(' a ', [' a '], ['a'])
})

test('names with newlines and names that are not UTF-8 are matched like others', () => {
  check('*', ['\n', 'a\nb', '\udcff', '\r', '\u2028'], [])
  check('a?b', ['a\nb', 'a\udce9b', 'aéb'], ['a\n\nb'])
  check('/a/**/x', ['a/\n/x', 'a/b\nc/\u2028/x'], [])
  check('caf\udce9', ['caf\udce9', 'a/caf\udce9'], ['café', 'caf\udce8'])
  check('[\udce9é]', ['\udce9', 'é'], ['e'])
  check('\n', ['\n'], ['n', ''])
})

test('a name is excluded where any of the patterns matches', () => {
  const patterns = ['*.tmp', '/proc', 'a/b', 'cache/']
  for (const path of ['x.tmp', 'proc', 'q/a/b']) assert.ok(excludes(patterns, path), path)
  assert.ok(excludes(patterns, 'cache', true))
  for (const path of ['x', 'x/proc', 'a', 'cache']) assert.ok(!excludes(patterns, path), path)
  assert.ok(!excludes([], 'anything'))
})

test('a pattern that would leave out everything, or cannot be understood, is refused by its name', () => {
  const wrong: [string, RegExp][] = [
    ['', /''.*leave out everything/],
    ['/', /'\/'.*leave out everything/],
    ['**', /'\*\*'.*leave out everything/],
    ['**/', /'\*\*\/'.*leave out everything/],
    ['!', /'!'.*take back everything/],
    ['!/', /'!\/'.*take back everything/],
    ['!**', /'!\*\*'.*take back everything/],
    ['!{a,b', /cannot be understood.*brace not closed/],
    ['a\0b', /NUL/],
    ['{a,b', /'\{a,b' cannot be understood.*brace not closed/],
    ['[z-a]', /'\[z-a\]' cannot be understood.*range the wrong way round/],
    ['dir/[z-a]/', /cannot be understood/],
    ['x\\', /'x\\' cannot be understood.*backslash at the end/],
    ['x'.repeat(5000), /is longer than 4096 characters/],
  ]
  for (const [pattern, message] of wrong) {
    assert.throws(
      () => compileExclusion(['fine', pattern]),
      { name: 'TypeError', message },
      pattern.slice(0, 50),
    )
  }
  for (const pattern of ['', '**', '!', 'a\0b']) assert.throws(() => checkExcludePattern(pattern), TypeError)
})

test('any text is a pattern or is refused with a TypeError, and as an escaped name it matches that name alone', () => {
  const name = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 12 })
    .map((text) => text.replace(/[/\0]/g, '_'))
  fc.assert(
    fc.property(name, name, (text, other) => {
      fc.pre(text !== '.' && text !== '..' && text.isWellFormed())
      try {
        excludes(text, 'a/b')
      } catch (error) {
        assert.ok(error instanceof TypeError, String(error))
      }
      const escaped = text.replace(/[^\p{L}\p{N}]/gsu, '\\$&')
      assert.ok(excludes(escaped, text), JSON.stringify(escaped))
      assert.ok(excludes(`/x/${escaped}`, `x/${text}`), JSON.stringify(escaped))
      assert.equal(excludes(escaped, other), other === text, JSON.stringify(escaped))
    }),
    { numRuns: 500 },
  )
})

test('patterns mean what git means by them, wherever both know them', (t) => {
  if (spawnSync('git', ['--version']).error !== undefined) {
    t.skip('git is not installed')
    return
  }
  using folder = new PackingFolder()
  runProgram('git', ['-C', folder.path, 'init', '-q'])
  const paths = [
    'a',
    'b',
    'ab',
    'a.b',
    '.a',
    'a/a',
    'a/b',
    'b/a',
    'a/b/a',
    'b/b/ab',
    'a/.a/b',
    'a b',
    '-a',
    'aa/b',
  ]
  const patterns = [
    'a',
    '*a',
    'a*',
    '?',
    '[ab]',
    '[!a]',
    'a/b',
    '/a',
    '/a/b',
    '*/b',
    'a/*',
    '/*/a',
    '**/b',
    '/a/**',
    '/a/**/b',
    '.a',
    '.*',
    '\\a',
    'a\\ b',
    '-a',
    '[a-b][b]',
    '/**/a',
    'b/**/ab',
  ]
  for (const pattern of patterns) {
    folder.file('.gitignore', `${pattern}\n`)
    const input = paths.join('\0')
    const args = ['-C', folder.path, 'check-ignore', '--no-index', '-z', '-v', '-n', '--stdin']
    const { stdout } = spawnSync('git', args, { input, encoding: 'utf8' })
    const fields = stdout.split('\0')
    const ignored = new Set<string>()
    for (let i = 0; i + 3 < fields.length; i += 4) if (fields[i + 2] !== '') ignored.add(fields[i + 3]!)
    for (const path of paths) {
      // What lies below an excluded folder is excluded with it: git says so of the path, here the walk sees to it.
      const components = path.split('/')
      const ours = components.some((_, i) =>
        excludes(pattern, components.slice(0, i + 1).join('/'), i + 1 < components.length),
      )
      // With a slash in its middle, git holds a pattern to the folder of its .gitignore; here it matches the end of a path.
      const floats = !pattern.startsWith('/') && pattern.slice(0, -1).includes('/')
      if (floats && !ignored.has(path)) continue
      assert.equal(ours, ignored.has(path), `${pattern} and ${path}`)
    }
  }
})

/** What the patterns leave out of these paths, each judged below its folders as the walk does it. */
function keptOf(patterns: readonly string[], paths: readonly string[]): string[] {
  const exclusion = compileExclusion(patterns)
  return paths.filter((path) => {
    const names = path.replace(/\/$/, '').split('/') as BytePath[]
    let verdict = noVerdict
    for (const [at, name] of names.entries()) {
      const isDirectory = at + 1 < names.length || path.endsWith('/')
      verdict = exclusion.judge(names.slice(0, at + 1).join('/') as BytePath, name, isDirectory, verdict)
    }
    return !exclusion.leavesOut(verdict)
  })
}

test('the last pattern decides that matches an object or a folder above it', () => {
  const paths = ['home/eve/x', 'home/eve/x.tmp', 'home/bob/x', 'home/bob/', 'srv/x.tmp']
  assert.deepEqual(keptOf(['/home/*', '!/home/eve'], paths), ['home/eve/x', 'home/eve/x.tmp', 'srv/x.tmp'])
  assert.deepEqual(keptOf(['*.tmp', '/home/*', '!/home/eve'], paths), ['home/eve/x', 'home/eve/x.tmp'])
  assert.deepEqual(keptOf(['/home/*', '!/home/eve', '*.tmp'], paths), ['home/eve/x'])
  assert.deepEqual(keptOf(['!/home/eve', '/home'], paths), ['srv/x.tmp'])
  assert.deepEqual(keptOf(['/home', '!*.tmp'], paths), ['home/eve/x.tmp', 'srv/x.tmp'])
  assert.deepEqual(keptOf(['/home/**', '!/home/eve/', '/home/eve/*', '!x.tmp'], paths), [
    'home/eve/x.tmp',
    'srv/x.tmp',
  ])
  assert.deepEqual(keptOf(['bob', '!bob/'], paths), paths)
  assert.deepEqual(keptOf(['!x'], paths), paths)
})

test('a folder that is left out is looked into only where something below it may be taken back', () => {
  const looked = (patterns: readonly string[], folder: string): boolean => {
    const exclusion = compileExclusion(patterns)
    const path = bytesFromText(folder)
    const name = path.slice(path.lastIndexOf('/') + 1) as BytePath
    const verdict = exclusion.judge(path, name, true)
    assert.ok(exclusion.leavesOut(verdict), folder)
    return exclusion.mayTakeBackBelow(path, name, verdict)
  }
  const rows: [patterns: string[], folder: string, looked: boolean][] = [
    [['/var'], 'var', false],
    [['!*.conf', '/var'], 'var', false],
    [['/var', '!*.conf'], 'var', true],
    [['/var', '!etc/*.conf'], 'var', true],
    [['/var', '!/var/lib/app'], 'var', true],
    [['/var*', '!/var/lib/app'], 'variety', false],
    [['/var/lib', '!/var/lib/app'], 'var/lib', true],
    [['/var/**', '!/var/lib/app'], 'var/cache', false],
    [['/var/**', '!/var/l?b/app'], 'var/lib', true],
    [['/var/**', '!/var/lib/app'], 'var/lib/other', false],
    [['/var/**', '!/var/**/app'], 'var/cache/x', true],
    [['/srv/**', '!/var/**/app'], 'srv/cache', false],
    [['/var/**', '!/var/{lib/a,cache}/app'], 'var/x', true],
    [['/srv/**', '!/var/{lib/a,cache}/app'], 'srv/x', false],
    [['/var/**', '!/{lib/a,cache}/app'], 'var/x', true],
    [['/var/**', '!/**/app'], 'var/x', true],
    [['/var/**', '!/var/lib/app/'], 'var/lib', true],
  ]
  for (const [patterns, folder, wanted] of rows)
    assert.equal(looked(patterns, folder), wanted, `${patterns.join(' ')} in ${folder}`)
})

test('wherever something is taken back, its folders are looked into', () => {
  const component = fc.constantFrom('a', 'b', '*', '?', 'a*', '**', '{a,b}', '[ab]', '{a/b,b}')
  const glob = fc
    .tuple(
      fc.constantFrom('', '/', '**/'),
      fc.array(component, { minLength: 1, maxLength: 3 }),
      fc.constantFrom('', '/'),
    )
    .map(([begin, names, end]) => `${begin}${names.join('/')}${end}`)
  const pattern = fc.tuple(fc.boolean(), glob).map(([back, one]) => (back ? `!${one}` : one))
  const names = fc.array(fc.constantFrom('a', 'b', 'ab'), { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(fc.array(pattern, { minLength: 1, maxLength: 4 }), names, (patterns, components) => {
      let exclusion: Exclusion
      try {
        exclusion = compileExclusion(patterns)
      } catch {
        return
      }
      let verdict = noVerdict
      let reached = true
      for (const [at, name] of components.entries()) {
        const path = components.slice(0, at + 1).join('/') as BytePath
        verdict = exclusion.judge(path, name as BytePath, true, verdict)
        if (!exclusion.leavesOut(verdict)) assert.ok(reached, `${patterns.join(' ')} takes ${path} back`)
        else reached &&= exclusion.mayTakeBackBelow(path, name as BytePath, verdict)
      }
    }),
    { numRuns: 3000 },
  )
})

test('the pattern that leaves out is named as it was written', () => {
  const exclusion = compileExclusion(['*.o', 'build/', '!keep', '/srv/**', '*.bak'])
  const named = (path: string, isDirectory = false) => {
    const bytes = bytesFromText(path)
    const name = bytes.slice(bytes.lastIndexOf('/') + 1) as BytePath
    return exclusion.patternFor(bytes, name, isDirectory, exclusion.judge(bytes, name, isDirectory))
  }
  assert.deepEqual(
    [named('a/x.o'), named('build', true), named('srv/x'), named('srv/y.bak')],
    ['*.o', 'build/', '/srv/**', '*.bak'],
  )
})

test('the pattern that leaves out is found in little time, and cut where it is very long', () => {
  const unlike = Array.from({ length: 2000 }, (_, number) => `{*.x${number},y?${number}}`)
  const exclusion = compileExclusion([`{*.tmp,${'a'.repeat(3000)}}`, ...unlike])
  const named = (name: string) =>
    exclusion.patternFor(
      bytesFromText(name),
      bytesFromText(name),
      false,
      exclusion.judge(bytesFromText(name), bytesFromText(name), false),
    )
  const takes = (count: number) => {
    const startedMs = performance.now()
    for (let number = 0; number < count; number++)
      assert.equal(named(`${number}.tmp`), `{*.tmp,${'a'.repeat(193)}…`)
    return performance.now() - startedMs
  }
  // The first compiles them all.
  const firstMs = takes(1)
  assert.ok(takes(20) < 10 * firstMs, 'each time anew')
})
