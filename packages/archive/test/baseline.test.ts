import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BytePath, comparePaths, isWithin } from '../src/index.ts'
import { Baseline } from '../src/pack/baseline.ts'
import * as arbitrary from './arbitraries.ts'
import { aboveAndSelf } from './run-series.ts'
import { entry } from './sample.ts'

/** A baseline of these paths, and where it tells what is gone. */
function baselineOf(...paths: string[]): { baseline: Baseline; gone: string[] } {
  const gone: string[] = []
  const left = paths.map((path) => entry(path))
  const baseline = new Baseline(
    () => left.shift() ?? null,
    ({ path }) => gone.push(path),
  )
  return { baseline, gone }
}

function found(baseline: Baseline, ...paths: string[]): (string | null)[] {
  return paths.map((path) => baseline.at(path as BytePath)?.path ?? null)
}

test('a path that stood is found, and what was passed on the way is gone', () => {
  const { baseline, gone } = baselineOf('a', 'b', 'd', 'f')
  assert.deepEqual(found(baseline, 'a', 'c', 'd', 'e'), ['a', null, 'd', null])
  assert.deepEqual(gone, ['b'])
  baseline.finish()
  assert.deepEqual(gone, ['b', 'f'])
})

test('nothing is asked for after the last, nor before it is needed', () => {
  const { baseline, gone } = baselineOf('a', 'b', 'c')
  assert.deepEqual(found(baseline, 'a', 'c', 'd'), ['a', 'c', null])
  baseline.finish()
  baseline.finish()
  assert.deepEqual(found(baseline, 'e'), [null])
  assert.deepEqual(gone, ['b'])

  let asked = 0
  const ended = new Baseline(
    () => {
      asked++
      return null
    },
    () => {},
  )
  assert.deepEqual(found(ended, 'a', 'b'), [null, null])
  ended.finish()
  assert.equal(asked, 1)

  const given = ['a', 'b'].map((path) => entry(path))
  const lazy = new Baseline(
    () => given.shift() ?? null,
    () => {},
  )
  assert.deepEqual([found(lazy, 'a'), given.length], [['a'], 1])
})

test('of a folder that is gone, only the folder is told, and a name that begins like it is another', () => {
  const { baseline, gone } = baselineOf('a', 'a/b', 'a/b/c', 'a/d', 'a.b', 'ab', 'b')
  assert.deepEqual(found(baseline, 'b'), ['b'])
  assert.deepEqual(gone, ['a', 'a.b', 'ab'])
})

test('below what is no folder any more, each that stood in it is gone', () => {
  const { baseline, gone } = baselineOf('a', 'a/b', 'a/b/c', 'a/d', 'z')
  assert.deepEqual(found(baseline, 'a', 'z'), ['a', 'z'])
  assert.deepEqual(gone, ['a/b', 'a/d'])
})

test('what cannot be looked at stands as it did, with all below it, and nothing else does', () => {
  const { baseline, gone } = baselineOf('a', 'b', 'b/c', 'b/c/d', 'b.c', 'bc', 'c', 'd')
  assert.deepEqual(found(baseline, 'b'), ['b'])
  baseline.keep('b' as BytePath)
  baseline.keep('c' as BytePath)
  baseline.finish()
  assert.deepEqual(gone, ['a', 'b.c', 'bc', 'd'])
})

test('what was found and then is not there is gone, with all below it', () => {
  const { baseline, gone } = baselineOf('a', 'a/b', 'c')
  baseline.drop(baseline.at('a' as BytePath)!)
  assert.deepEqual(found(baseline, 'c'), ['c'])
  assert.deepEqual(gone, ['a'])
})

test('of any two trees, all that stood is found or gone once, and what is gone is nowhere below what is gone', () => {
  const paths = fc.array(fc.oneof(arbitrary.path, fc.stringMatching(/^[ab.](\/[ab.]){0,3}$/)), {
    maxLength: 30,
  })
  fc.assert(
    fc.property(paths, paths, (before, now) => {
      const [stood, stands] = [closed(before), closed(now)]
      const left = stood.map((path) => ({ ...entry('x'), path }))
      const gone: BytePath[] = []
      const baseline = new Baseline(
        () => left.shift() ?? null,
        ({ path }) => gone.push(path),
      )
      const kept = stands.filter((path) => baseline.at(path)?.path === path)
      baseline.finish()
      assert.deepEqual(
        kept,
        stands.filter((path) => stood.includes(path)),
      )
      assert.deepEqual(gone, gone.toSorted(comparePaths))
      assert.ok(gone.every((path) => gone.every((other) => other === path || !isWithin(path, other))))
      const missing = stood.filter((path) => !stands.includes(path))
      assert.deepEqual(
        stood.filter((path) => gone.some((above) => isWithin(path, above))),
        missing,
      )
    }),
    { numRuns: 500 },
  )
})

/** The paths and the folders above them, as a walk of a tree has them. */
function closed(paths: readonly string[]): BytePath[] {
  return [...new Set(paths.flatMap((path) => aboveAndSelf(path as BytePath)))].sort(comparePaths)
}
