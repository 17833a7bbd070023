/** Globs that need no more than length times length steps, whatever name they are held against. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import picomatch from 'picomatch'
import { compileExclusion } from '../src/index.ts'
import { plainGlobSource } from '../src/pack/plain-glob.ts'
import type { BytePath } from '../src/path.ts'

const options = { dot: true, nonegate: true, posix: true } as const

test('a plain glob matches what picomatch matches by it', () => {
  const component = fc
    .array(
      fc.constantFrom('a', 'b', '.', '*', '?', '[ab]', '[!a]', '[a-b]', '\\*', '{a,b}', '{a,ab}', '{*a,?}'),
      {
        minLength: 1,
        maxLength: 5,
      },
    )
    .map((parts) => parts.join(''))
    // Three stars and more are no syntax, and to picomatch two in a name are more than one, here and there.
    .filter((text) => !text.includes('**'))
  const glob = fc
    .array(fc.oneof({ weight: 4, arbitrary: component }, { weight: 1, arbitrary: fc.constant('**') }), {
      minLength: 1,
      maxLength: 5,
    })
    .map((components) => `/${components.join('/')}`)
    // To picomatch, `**` in front of a wildcard may be that wildcard's name too, and `/**/a` is not `/a`.
    .filter((text) => !/\/\*\*\/(?![ab])/.test(text) && !text.startsWith('/**'))
    // Nor does it take a `**` at the end for none behind each kind of name.
    .filter((text) => !text.endsWith('/**') || /\/[ab]\/\*\*$/.test(text))
  const path = fc
    .array(fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 5,
    })
    .filter((names) => names.every((name) => name !== '.' && name !== '..'))
    .map((names) => `/${names.join('/')}`)
  fc.assert(
    fc.property(glob, fc.array(path, { minLength: 1, maxLength: 10 }), (glob, paths) => {
      for (const deep of [true, false]) {
        const source = plainGlobSource(glob, deep)
        // Of too many alternatives.
        fc.pre(source !== null)
        const ours = new RegExp(source, 's')
        const theirs = picomatch.makeRe(glob, deep ? { ...options, strictSlashes: true } : options)
        for (const path of paths) assert.equal(ours.test(path), theirs.test(path), `${glob} ${path}`)
      }
    }),
    { numRuns: 600 },
  )
})

test('other syntax is left to picomatch', () => {
  for (const glob of ['@(a|b)', 'a|b', '[[:alpha:]]', '[z-a]', '{1..3}', '{a}', 'a}', 'a\\', '[a', '/a//b'])
    assert.equal(plainGlobSource(glob, true), null, glob)
  // 512 alternatives.
  assert.equal(plainGlobSource('{a,b}'.repeat(9), true), null)
})

test('no name makes a pattern slow', () => {
  const letter = 'a'.repeat(255)
  const deep = `${'a/'.repeat(2000)}c`
  const patterns = [
    ...[
      '*a*a*a*a*a*a*b',
      '*a'.repeat(100),
      '?*?*?*?*?*b',
      '{a,aa}*{a,aa}*{a,aa}*{a,aa}*b',
      '[a]*'.repeat(40),
    ],
    ...['/**/a/**/a/**/a/**/a/**/b', `${'**/a/'.repeat(30)}b`, '/**/*a*/**/*a*/**/*a*/**/b', '*/*/*/*/*/b'],
    ...['+(a|b)+(a|c)b', '@(*(a)|a)b', '@(*a|a)*b', '{a,aa}'.repeat(9), '@(a|aa)'.repeat(15)],
  ]
  for (const pattern of patterns) {
    const { user: before } = process.cpuUsage()
    const exclusion = compileExclusion([pattern])
    for (const path of [letter, deep, 'a/'.repeat(2000) + letter] as BytePath[])
      exclusion.excludes(path, path.split('/').at(-1) as BytePath, false)
    const ms = (process.cpuUsage().user - before) / 1000
    assert.ok(ms < 1000, `${pattern}: ${ms} ms`)
  }
})

test('a pattern that nobody can bound is refused', () => {
  const patterns = [
    '@(a|b)*a*a*b',
    '@(a|b)*\\a*\\a*b',
    '+(*a)b',
    '*(a|aa)b',
    '+(a?)b',
    '*(+(a)|b)',
    `${'?(a)'.repeat(30)}b`,
    `${'@(a|aa)'.repeat(30)}b`,
    `${'{a,aa}'.repeat(30)}b`,
  ]
  for (const pattern of patterns)
    assert.throws(
      () => compileExclusion([pattern]),
      /could take too long: .* (repeats|are too many)/,
      pattern,
    )
})

test('what can be repeated in one way is taken, and a plus is a character', () => {
  const excludes = (pattern: string, name: string) =>
    compileExclusion([pattern]).excludes(`x/${name}` as BytePath, name as BytePath, false)
  assert.ok(excludes('*.+(jpg|png)', 'a.jpgpng'))
  assert.ok(!excludes('*.+(jpg|png)', 'a.jpgpn'))
  // Of backslashes, each second one is a character; letters behind them are no syntax.
  assert.ok(excludes(`@(a)${'\\\\'.repeat(3)}`, `a${'\\'.repeat(3)}`))
  assert.ok(!excludes(`@(a)${'\\\\'.repeat(3)}`, 'a\\'))
  assert.ok(excludes('@(a)\\d[\\\\x]', 'ad\\'))
  assert.ok(!excludes('@(a)\\d', 'a1'))
  for (const pattern of ['@(a|b)+', '(a)+', '@(a+|b)', '@(a)[+]']) {
    assert.ok(excludes(pattern, 'a+'), pattern)
    assert.ok(!excludes(pattern, 'aa'), pattern)
  }
})

test('thousands of patterns with thousands of wildcards are one exclusion', () => {
  const patterns = Array.from({ length: 1000 }, (_, at) => `${'*a*'.repeat(20)}${at}`)
  const exclusion = compileExclusion([...patterns, ...patterns.map((one) => `/x/**/${one}`)])
  assert.ok(exclusion.excludes(`${'a'.repeat(20)}7` as BytePath, `${'a'.repeat(20)}7` as BytePath, false))
  assert.ok(!exclusion.excludes('aaa7' as BytePath, 'aaa7' as BytePath, false))
  assert.throws(() => compileExclusion(['*a'.repeat(2000)]), /2000 wildcards are too many/)
  assert.throws(() => compileExclusion(['*a'.repeat(5000)]), /is longer than 4096 characters/)
})
