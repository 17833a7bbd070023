import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { type BytePath, bytesFromText } from '@central-backup/archive'
import type { MessageOf } from '@central-backup/protocol'
import { enterPrivateMounts, MountedFolder, mount } from '../../archive/test/private-mounts.ts'
import { requestedPaths } from '../src/select/requested-selection.ts'
import { type SelectPath, selectPaths } from '../src/select/select.ts'
import { makeTree } from './select-in-tree.ts'

const skip = enterPrivateMounts()

function select(
  paths: readonly SelectPath[],
  exclude: readonly string[] = [],
  excludeLast: readonly string[] = [],
) {
  return selectPaths({ paths, exclude, excludeLast, allowed: ['' as BytePath] }, () => {})
}

const path = (text: string) => bytesFromText(text)

test('the path / stays on one file system unless it says otherwise, and others do not unless they say so', () => {
  const oneFileSystem = (text: string, rules?: SelectPath['rules']) =>
    select([{ path: path(text), ...(rules && { rules }) }]).roots.at(-1)!.rules?.oneFileSystem
  assert.equal(oneFileSystem('/'), true)
  assert.equal(oneFileSystem('//.'), true)
  assert.equal(oneFileSystem('/', { excludeCaches: true }), true)
  assert.equal(oneFileSystem('/', { oneFileSystem: false }), false)
  assert.equal(oneFileSystem('/etc'), undefined)
  assert.equal(oneFileSystem('/etc', { oneFileSystem: true }), true)
})

test('of one path that is there twice, the one that is written out counts, and else the last', () => {
  using folder = makeTree(['a/x', 'b/x'])
  const [first, second] = [{ maxFileBytes: 1 }, { maxFileBytes: 2 }]
  const rulesOf = (...paths: [string, object][]) => {
    const { roots } = select(paths.map(([name, rules]) => ({ path: path(`${folder.path}/${name}`), rules })))
    return roots.find((root) => root.path === folder.pathOf('a'))?.rules
  }
  assert.equal(rulesOf(['a', first], ['*', second]), first)
  assert.equal(rulesOf(['*', second], ['a', first]), first)
  assert.equal(rulesOf(['a', first], ['a', second]), second)
  assert.equal(rulesOf(['*', first], ['?', second]), second)
})

test('what a pattern matches is subject to the excludes of its path, and these are compiled with those of all', () => {
  using folder = makeTree(['a.tmp', 'b.tmp', 'c.o', 'd'])
  const names = (rules: object, last: string[] = []) =>
    select([{ path: path(`${folder.path}/*`), rules }], ['*.tmp'], last)
      .roots.map((root) => folder.nameOf(root.path))
      .sort()
  assert.deepEqual(names({}), ['c.o', 'd'])
  assert.deepEqual(names({ exclude: ['!a.tmp', '*.o'] }), ['a.tmp', 'd'])
  assert.deepEqual(names({ exclude: ['!*.tmp'] }, ['b.*']), ['a.tmp', 'c.o', 'd'])
  assert.throws(() => select([{ path: path('/etc'), rules: { exclude: ['[z-a]'] } }]), /\[z-a\]/)
})

test('patterns find nothing in a file system without data, unless they lead into it by its name', {
  skip,
}, () => {
  using folder = new MountedFolder()
  mount(join(folder.path, 'proc'), '-t', 'proc', 'proc')
  folder.file('a/hostname')
  const found = (pattern: string) => {
    const selected = select([{ path: path(`${folder.path}/${pattern}`) }])
    return [
      selected.roots.map((root) => folder.nameOf(root.path)),
      selected.unselected.map((one) => folder.nameOf(one.path)),
    ]
  }
  assert.deepEqual(found('*'), [['a'], ['proc']])
  assert.deepEqual(found('**/hostname'), [['a/hostname'], []])
  assert.deepEqual(found('pro?/uptime'), [[], []])
  assert.deepEqual(found('proc/upt*'), [['proc/uptime'], []])
  assert.deepEqual(found('proc/uptime'), [['proc/uptime'], []])
})

test('who names something in a file system without data is told what comes of it', { skip }, () => {
  using folder = new MountedFolder()
  mount(join(folder.path, 'proc'), '-t', 'proc', 'proc')
  folder.file('a')
  const codes = (...patterns: string[]) =>
    select(patterns.map((one) => ({ path: path(`${folder.path}/${one}`) }))).problems.map(
      (problem) => `${problem.code} ${folder.nameOf(problem.path)}`,
    )
  assert.deepEqual(codes('proc/uptime', 'a', '*'), ['path-without-data proc/uptime'])
  assert.deepEqual(codes('proc/upt*', 'proc'), ['path-without-data proc', 'path-without-data proc'])
})

test('a request says what holds for all, and each path what holds for it alone', () => {
  const request: MessageOf<'check'> = {
    type: 'check',
    host: 'web1',
    paths: [
      Buffer.from('/a'),
      { path: Buffer.from('/b'), excludeCaches: false, exclude: [Buffer.from('x')] },
      { path: Buffer.from('/c'), oneFileSystem: false, excludeIfPresent: [] },
    ],
    exclude: [],
    excludeCaches: true,
    excludeIfPresent: [Buffer.from('caf\xe9', 'latin1')],
    maxFileBytes: 5,
  }
  const common = { excludeCaches: true, excludeIfPresent: ['caf\xe9'], maxFileBytes: 5 }
  assert.deepEqual(requestedPaths(request), [
    { path: '/a', rules: common },
    { path: '/b', rules: { ...common, excludeCaches: false, exclude: ['x'] } },
    { path: '/c', rules: { ...common, oneFileSystem: false, excludeIfPresent: [], exclude: [] } },
  ])
})
