import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, lstatSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BytePath, comparePaths, compileExclusion, noVerdict } from '../src/index.ts'
import { listTree, PackingFolder, withoutRights } from './packing-folder.ts'
import { namesIn, type Walked, walkAll } from './walk-all.ts'

const tag = 'Signature: 8a477f597d28d172789f06886806bc55'

function told(folder: PackingFolder, { problems }: Walked): string[] {
  return problems.map(({ kind, path }) => `${kind} ${folder.nameOf(path)}`)
}

function visited(folder: PackingFolder, walked: Walked): string[] {
  const ancestors = new Set(walked.ancestors)
  return namesIn(folder, walked.paths).map((name) =>
    ancestors.has(folder.pathOf(name)) ? `(${name})` : name,
  )
}

test('what a pattern takes back is packed, with the folders that lead to it and nothing else of them', () => {
  using folder = new PackingFolder()
  for (const file of ['a/x', 'cache/app/data/1', 'cache/app/2', 'cache/other/3', 'cache/z/4', 'd/x'])
    folder.file(file)
  const cache = `${folder.path}/cache`
  const walked = walkAll([folder.root()], {
    exclude: [cache, `!${cache}/app/data`, `!${cache}/nothing/below`],
  })
  assert.deepEqual(visited(folder, walked), [
    'a',
    'a/x',
    '(cache)',
    '(cache/app)',
    'cache/app/data',
    'cache/app/data/1',
    'd',
    'd/x',
  ])
  assert.deepEqual(told(folder, walked), ['excluded cache'])
  assert.equal(walked.problems[0]!.message, `the pattern '${cache}'`)
})

test('folders that were looked into for what may be taken back, and hold none of it, are left out', () => {
  using folder = new PackingFolder()
  for (const file of ['cache/a/1', 'cache/b/c/keep.conf', 'cache/b/d/2', 'cache/e/3', 'x']) folder.file(file)
  const walked = walkAll([folder.root()], { exclude: ['cache', '!*.conf'] })
  assert.deepEqual(visited(folder, walked), [
    '(cache)',
    '(cache/b)',
    '(cache/b/c)',
    'cache/b/c/keep.conf',
    'x',
  ])
  assert.deepEqual(visited(folder, walkAll([folder.root()], { exclude: ['cache', '!*.ini'] })), ['x'])
})

test('something taken back deep below, deeper than folders are kept open, comes with all that leads to it', () => {
  using folder = new PackingFolder()
  const deep = Array(200).fill('d').join('/')
  folder.file(`cache/${deep}/keep`)
  folder.file('cache/other/x')
  const walked = walkAll([folder.root()], { exclude: ['cache', '!keep'] })
  assert.equal(visited(folder, walked).length, 202)
  assert.equal(visited(folder, walked).at(-1), `cache/${deep}/keep`)
})

test('a folder that cannot be read is told where something in it might be taken back, after the folders above it', () => {
  using folder = new PackingFolder()
  folder.file('cache/a/x')
  chmodSync(folder.path, 0o755)
  chmodSync(join(folder.path, 'cache/a'), 0)
  const walked = withoutRights(() => walkAll([folder.root()], { exclude: ['cache', '!keep'] }))
  assert.deepEqual(visited(folder, walked), ['(cache)'])
  assert.deepEqual(told(folder, walked), ['excluded cache', 'unreadable cache/a'])
})

test('of a folder with a CACHEDIR.TAG the tag is packed and nothing else, if it has the signature', () => {
  using folder = new PackingFolder()
  folder.file('a/CACHEDIR.TAG', `${tag}\n# a cache`)
  folder.file('a/b/x')
  folder.file('a/A')
  folder.file('b/CACHEDIR.TAG', 'Signature: something else')
  folder.file('b/x')
  folder.file('c/CACHEDIR.TAG/x')
  folder.symlink('d/CACHEDIR.TAG', '../a/CACHEDIR.TAG')
  folder.file('d/x')
  folder.file('e/CACHEDIR.TAG', tag.slice(0, -1))
  const walked = walkAll([folder.root()], { rules: { excludeCaches: true } })
  const kept = [
    'a',
    'a/CACHEDIR.TAG',
    'b',
    'b/CACHEDIR.TAG',
    'b/x',
    'c',
    'c/CACHEDIR.TAG',
    'c/CACHEDIR.TAG/x',
  ]
  assert.deepEqual(namesIn(folder, walked.paths), [
    ...kept,
    'd',
    'd/CACHEDIR.TAG',
    'd/x',
    'e',
    'e/CACHEDIR.TAG',
  ])
  assert.deepEqual(told(folder, walked), ['cache-directory a'])
  assert.equal(walked.problems[0]!.message, 'it holds a CACHEDIR.TAG')
  assert.ok(namesIn(folder, walkAll([folder.root()]).paths).includes('a/b/x'))
})

test('of a folder with a marker the marker is packed and nothing else, but for roots below', () => {
  using folder = new PackingFolder()
  for (const file of ['a/.nobackup', 'a/x', 'a/y/z', 'b/no backup', 'b/x', 'c/x']) folder.file(file)
  const excludeIfPresent = ['.nobackup', 'no backup'] as BytePath[]
  const walked = walkAll([folder.root()], { rules: { excludeIfPresent } })
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/.nobackup', 'b', 'b/no backup', 'c', 'c/x'])
  assert.deepEqual(told(folder, walked), ['marker a', 'marker b'])
  const below = walkAll([{ ...folder.root(), rules: { excludeIfPresent } }, folder.root('a/y')])
  assert.deepEqual(namesIn(folder, below.paths).slice(0, 4), ['a', 'a/.nobackup', 'a/y', 'a/y/z'])
})

test('a root is packed whatever marks it has', () => {
  using folder = new PackingFolder()
  folder.file('a/.nobackup')
  folder.file('a/CACHEDIR.TAG', tag)
  folder.file('a/x', 'four')
  const rules = { excludeCaches: true, excludeIfPresent: ['.nobackup' as BytePath], exclude: ['a'] }
  const walked = walkAll([folder.root('a'), { ...folder.root('a/x'), rules: { maxFileBytes: 3 } }], { rules })
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/.nobackup', 'a/CACHEDIR.TAG', 'a/x'])
  assert.deepEqual(walked.problems, [])
})

test('files over the limit are left out, whatever else is that large', () => {
  using folder = new PackingFolder()
  folder.file('a/large', 'x'.repeat(101))
  folder.file('a/right', 'x'.repeat(100))
  folder.symlink('a/link', 'x'.repeat(101))
  const walked = walkAll([folder.root()], { rules: { maxFileBytes: 100 } })
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/link', 'a/right'])
  assert.deepEqual(walked.problems, [
    { kind: 'too-large', path: folder.pathOf('a/large'), message: 'its 101 bytes are more than 100' },
  ])
})

test('what has the flag nodump is left out with all that is below it, where that is asked for', (t) => {
  using folder = new PackingFolder('/var/tmp')
  for (const file of ['a/x', 'b/y', 'b/z/w', 'c']) folder.file(file)
  for (const name of ['b', 'c']) {
    const { status, stderr, error } = spawnSync('chattr', ['+d', join(folder.path, name)], {
      encoding: 'utf8',
    })
    if (status !== 0) return t.skip(`the flag cannot be set here: ${error?.message ?? stderr}`)
  }
  const walked = walkAll([folder.root()], { rules: { excludeNodump: true } })
  assert.deepEqual(namesIn(folder, walked.paths), ['a', 'a/x'])
  assert.deepEqual(told(folder, walked), ['nodump b', 'nodump c'])
  assert.equal(walkAll([folder.root()]).problems.length, 0)
})

test('of overlapping roots, the rules of the innermost hold', () => {
  using folder = new PackingFolder()
  for (const file of ['a/x.iso', 'a/x.txt', 'home/x.iso', 'home/x.txt', 'home/eve/x.iso']) folder.file(file)
  const walked = walkAll([
    folder.root(),
    { ...folder.root('home'), rules: { exclude: ['*.iso'] } },
    { ...folder.root('home/eve'), rules: { exclude: ['*.txt'] } },
  ])
  assert.deepEqual(namesIn(folder, walked.paths), [
    'a',
    'a/x.iso',
    'a/x.txt',
    'home',
    'home/eve',
    'home/eve/x.iso',
    'home/x.txt',
  ])
})

test('of any tree, what the last matching pattern keeps is walked, with the folders that lead to it, and nothing else', () => {
  const name = fc.constantFrom('a', 'b', 'c', 'ab')
  const file = fc.array(name, { minLength: 1, maxLength: 5 }).map((names) => names.join('/'))
  const piece = fc.constantFrom('a', 'b', '*', 'a*', '**', '?', '{a,b}')
  const glob = fc.array(piece, { minLength: 1, maxLength: 3 }).map((names) => names.join('/'))
  const pattern = fc.tuple(fc.constantFrom('', '!'), fc.boolean(), glob, fc.constantFrom('', '/'))
  const one = fc.tuple(fc.array(file, { minLength: 1, maxLength: 14 }), fc.array(pattern, { maxLength: 5 }))
  fc.assert(
    fc.property(one, ([files, drawn]) => {
      using folder = new PackingFolder()
      for (const path of files) makeFile(folder, path)
      const patterns = drawn
        .filter(([, , text]) => text !== '**')
        .map(([back, anchored, text, end]) => `${back}${anchored ? `${folder.path}/` : ''}${text}${end}`)
      const all = listTree(folder.pathOf()).map((path) => ({ path, name: folder.nameOf(path) }))
      const kept = all.filter(({ path }) => isKept(folder, patterns, path)).map((found) => found.name)
      const walked = walkAll([folder.root()], { exclude: patterns })
      const seen = visited(folder, walked)
      assert.deepEqual(seen.filter((shown) => !shown.startsWith('(')).sort(), kept.sort(), patterns.join(' '))
      for (const shown of seen.filter((one) => one.startsWith('('))) {
        const above = shown.slice(1, -1)
        assert.ok(
          kept.some((one) => one.startsWith(`${above}/`)),
          `${above} leads to nothing`,
        )
      }
      assert.deepEqual(walked.paths, [...walked.paths].sort(comparePaths))
    }),
    { numRuns: 150 },
  )
})

/** Does nothing where the path is a folder already, or lies below a file. */
function makeFile(folder: PackingFolder, path: string): void {
  try {
    folder.file(path)
  } catch {
    // As it is, the tree is as good as any.
  }
}

/** By the documented rule, without a walk. */
function isKept(folder: PackingFolder, patterns: readonly string[], path: BytePath): boolean {
  const exclusion = compileExclusion(patterns)
  const names = path.split('/') as BytePath[]
  let verdict = noVerdict
  for (let count = folder.pathOf().split('/').length + 1; count <= names.length; count++) {
    const above = names.slice(0, count).join('/') as BytePath
    const isDirectory = lstatSync(`/${above}`).isDirectory()
    verdict = exclusion.judge(above, names[count - 1]!, isDirectory, verdict)
  }
  return !exclusion.leavesOut(verdict)
}
