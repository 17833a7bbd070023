import assert from 'node:assert/strict'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { withoutRights } from '../../archive/test/packing-folder.ts'
import { check, makeTree, packedOf, problemsOf, rootsOf, select } from './select-in-tree.ts'

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
  for (const pattern of ['[z-a]', '**', '!', '', '{a,b']) {
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
