import assert from 'node:assert/strict'
import { chmodSync, constants, existsSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type BytePath,
  bytesFromText,
  comparePaths,
  isWithin,
  pathBytesMax,
  type Root,
} from '../src/index.ts'
import { sortOnce } from '../src/native/libc.ts'
import { DeadMount } from './dead-mount.ts'
import { packInPlace } from './pack-in-place.ts'
import { DeepFolder, listTree, PackingFolder, runProgram, withoutRights } from './packing-folder.ts'
import { namesIn, walkAll } from './walk-all.ts'

/** The folders that lead to a path, from the uppermost on. */
function above(path: BytePath): BytePath[] {
  const components = path.split('/')
  return components.slice(1).map((_, i) => components.slice(0, i + 1).join('/') as BytePath)
}

const sortsBadly = ['a', 'a.', 'a-', 'a0', 'A', '-', ' ', '\n', '\x01', 'é', '\udce9', '\udcff', '"']
const name = fc.constantFrom(...sortsBadly)
const names = fc.array(name, { minLength: 1, maxLength: 4 }).map((components) => components.join('/'))

/** A tree of files at these places; where one is a folder for another, it is a folder. */
function makeTree(folder: PackingFolder, files: readonly string[]): BytePath[] {
  for (const file of files) {
    try {
      folder.file(file)
    } catch {
      // A file stands where it needs a folder, or the other way round.
    }
  }
  return listTree(folder.pathOf())
}

test('any tree comes in the order of comparePaths, and whole', () => {
  fc.assert(
    fc.property(fc.array(names, { maxLength: 12 }), (files) => {
      using folder = new PackingFolder()
      const all = [folder.pathOf(), ...makeTree(folder, files)].sort(comparePaths)
      const { paths, ancestors, problems } = walkAll([folder.root()])
      assert.deepEqual(paths, [...above(folder.pathOf()), ...all])
      assert.deepEqual(ancestors, above(folder.pathOf()))
      assert.deepEqual(problems, [])
    }),
    { numRuns: 40, endOnFailure: true },
  )
})

test('a name that a folder tells twice, as it was made anew meanwhile, comes once', () => {
  const listed = ['b', 'a', 'c', 'b', 'a', 'a', 'ab'] as BytePath[]
  assert.deepEqual(sortOnce(listed), ['a', 'ab', 'b', 'c'])
  fc.assert(
    fc.property(fc.array(name), (listed) => {
      const expected = [...new Set(listed.map(bytesFromText))].sort()
      assert.deepEqual(sortOnce(listed.map(bytesFromText)), expected)
    }),
  )
})

/** What a walk should visit, found by looking at each path alone; `true` where it is there as an ancestor only. */
function expected(all: readonly BytePath[], roots: readonly Root[], excluded: ReadonlySet<string>) {
  const named = new Set(roots.map(({ path }) => path))
  const isSelected = (path: BytePath) =>
    roots.some((root) => {
      if (path === root.path) return true
      if (!root.recursive || !isWithin(path, root.path)) return false
      const between = [...above(path), path].filter(
        (one) => one !== root.path && isWithin(one, root.path) && !named.has(one),
      )
      return !between.some((one) => excluded.has(one.slice(one.lastIndexOf('/') + 1)))
    })
  const visited = new Map<BytePath, boolean>()
  for (const path of all) if (isSelected(path)) visited.set(path, false)
  for (const root of roots)
    for (const path of above(root.path)) if (!visited.has(path)) visited.set(path, true)
  return [...visited].sort(([a], [b]) => comparePaths(a, b))
}

test('roots that overlap, in any order and with any excludes, are packed once, and ancestors are marked', () => {
  const numbers = fc.array(fc.nat(), { minLength: 1, maxLength: 6 })
  const tree = fc.array(names, { minLength: 1, maxLength: 14 })
  const excludes = fc.uniqueArray(name, { maxLength: 3 })
  fc.assert(
    fc.property(tree, numbers, numbers, excludes, (files, chosen, linked, exclude) => {
      using folder = new PackingFolder()
      const all = makeTree(folder, files)
      const recursive = chosen.map((n) => ({ path: all[n % all.length]!, recursive: true }))
      const taken = new Set(recursive.map(({ path }) => path))
      const single = linked.slice(0, 2).map((n) => ({ path: all[n % all.length]!, recursive: false }))
      const roots = [...recursive, ...single.filter(({ path }) => !taken.has(path))]
      const { paths, ancestors, problems } = walkAll(roots, { exclude: exclude.map(escapePattern) })
      const wanted = expected(all, roots, new Set(exclude.map((one) => bytesFromText(one))))
      assert.deepEqual(
        paths,
        wanted.map(([path]) => path),
      )
      assert.deepEqual(
        ancestors,
        wanted.filter(([, ancestor]) => ancestor).map(([path]) => path),
      )
      assert.ok(problems.every(({ kind }) => kind === 'excluded'))
    }),
    { numRuns: 60, endOnFailure: true },
  )
})

function escapePattern(text: string): string {
  return text.replace(/[-.\\"]/g, '\\$&')
}

test('the whole machine is a root without an entry of its own', () => {
  const seen: BytePath[] = []
  const stop = new Error('enough')
  assert.throws(
    () =>
      walkAll([{ path: '' as BytePath, recursive: true }], {
        // What is below is somebody else's and may be anything.
        exclude: readdirSync('/').map((one) => `/${one}/*`),
        onVisit: ({ path, ancestor }) => {
          seen.push(path)
          assert.equal(ancestor, false)
          assert.ok(!path.includes('/'))
          if (seen.length === 5) throw stop
        },
      }),
    (error) => error === stop,
  )
  assert.deepEqual(seen, [...seen].sort(comparePaths))
})

test('a root below an excluded folder is taken, and what leads to it comes as ancestors', () => {
  using folder = new PackingFolder()
  for (const file of ['cache/x', 'cache/keep/y', 'cache/keep/tmp/z', 'cache/tmp/w', 'other'])
    folder.file(file)
  const { paths, ancestors, problems } = walkAll([folder.root(), folder.root('cache/keep')], {
    exclude: ['cache', 'tmp'],
  })
  assert.deepEqual(namesIn(folder, paths), ['cache', 'cache/keep', 'cache/keep/y', 'other'])
  assert.deepEqual(namesIn(folder, ancestors), ['cache'])
  assert.deepEqual(
    problems.map(({ kind, path }) => [kind, folder.nameOf(path)]),
    [
      ['excluded', 'cache'],
      ['excluded', 'cache/keep/tmp'],
    ],
  )
})

test('a root that an exclude matches itself is taken all the same', () => {
  using folder = new PackingFolder()
  folder.file('cache/x')
  const { paths, problems } = walkAll([folder.root('cache')], { exclude: ['cache', '/tmp', 'cache/'] })
  assert.deepEqual(namesIn(folder, paths), ['cache', 'cache/x'])
  assert.deepEqual(problems, [])
})

test('of a root that is only a link nothing but the link is taken, even where a folder stands there by now', () => {
  using folder = new PackingFolder()
  folder.symlink('link', 'target')
  folder.file('folder/secret')
  folder.file('folder/named/x')
  const single = [folder.root('link', false), folder.root('folder', false)]
  assert.deepEqual(namesIn(folder, walkAll(single).paths), ['folder', 'link'])
  const both = [...single, folder.root('folder/named')]
  const expectedNames = ['folder', 'folder/named', 'folder/named/x', 'link']
  assert.deepEqual(namesIn(folder, walkAll(both).paths), expectedNames)
})

test('a root that was named twice, as a link and as a folder, is walked', () => {
  using folder = new PackingFolder()
  folder.file('folder/x')
  for (const roots of [
    [folder.root('folder', false), folder.root('folder')],
    [folder.root('folder'), folder.root('folder', false)],
  ]) {
    assert.deepEqual(namesIn(folder, walkAll(roots).paths), ['folder', 'folder/x'])
  }
})

test('roots that are gone, or behind what is no folder any more, are reported and not passed over', () => {
  using folder = new PackingFolder()
  folder.file('file')
  folder.file('other/x')
  const roots = ['gone', 'gone-too/below', 'file/below', 'other'].map((one) => folder.root(one))
  for (const all of [roots, [folder.root(), ...roots]]) {
    const { paths, problems } = walkAll(all)
    assert.ok(namesIn(folder, paths).includes('other/x'))
    assert.ok(problems.every(({ kind }) => kind === 'vanished'))
    const told = problems.map(({ path }) => folder.nameOf(path)).sort()
    assert.deepEqual(told, ['file', 'gone', 'gone-too'])
  }
})

test('a path that climbs is refused as a root', () => {
  for (const path of ['a/../b', '..', './a', 'a//b', 'a/', '/a']) {
    assert.throws(() => walkAll([{ path: path as BytePath, recursive: true }]), TypeError)
  }
})

test('what is excluded is not even looked at, so a dead mount there does not matter', {
  timeout: 20_000,
}, (t) => {
  using folder = new PackingFolder()
  folder.file('a')
  folder.file('z')
  using mount = DeadMount.create(t, `${folder.path}/mount`)
  if (mount === null) return
  for (const exclude of [['mount'], [`${folder.path}/mount`], ['mou*'], ['[m]ount'], ['**/mount']]) {
    const { paths, problems } = walkAll([folder.root()], { exclude })
    assert.deepEqual(namesIn(folder, paths), ['a', 'z'])
    assert.deepEqual(
      problems.map(({ kind }) => kind),
      ['excluded'],
    )
  }
})

test('what lies below an excluded folder is neither listed nor told', () => {
  using folder = new PackingFolder()
  folder.file('cache/below/x')
  const approached: string[] = []
  walkAll([folder.root()], {
    exclude: ['cache/'],
    onApproach: (path) => approached.push(path),
  })
  assert.ok(approached.includes(folder.pathOf('cache')))
  assert.ok(!approached.some((path) => path.startsWith(`${folder.pathOf('cache')}/`)))
})

test('a tree of 1,000 levels is walked in order with a bounded number of open folders', () => {
  using folder = new PackingFolder()
  const levels = 1000
  {
    using deep = new DeepFolder(folder.at(), Array(levels).fill('d'))
    writeFileSync(deep.at('end'), '')
  }
  // Each folder on the way back up still has names to come.
  for (const depth of [0, 1, 500]) folder.file(`${'d/'.repeat(depth)}later`)
  const before = readdirSync('/proc/self/fd').length
  let most = 0
  const { paths, problems } = walkAll([folder.root()], {
    onVisit: () => {
      most = Math.max(most, readdirSync('/proc/self/fd').length - before)
    },
  })
  assert.deepEqual(problems, [])
  assert.deepEqual(paths, [...paths].sort(comparePaths))
  assert.equal(namesIn(folder, paths).length, levels + 4)
  assert.ok(most < 140, `${most} descriptors were open at once`)
  assert.equal(readdirSync('/proc/self/fd').length, before)
})

test('paths are longer than the kernel takes at once, and their names as long as it takes', () => {
  using folder = new PackingFolder()
  const long = Array.from({ length: 40 }, (_, i) => String(i % 10).repeat(255))
  {
    using deep = new DeepFolder(folder.at(), long)
    writeFileSync(deep.at('é'.repeat(127)), '')
    symlinkSync('x'.repeat(4095), deep.at('link'))
  }
  const { paths, problems } = walkAll([folder.root()])
  assert.deepEqual(problems, [])
  const last = paths.slice(-2).map((path) => path.slice(path.lastIndexOf('/') + 1))
  assert.deepEqual(last, ['link', bytesFromText('é'.repeat(127))])
  assert.ok(paths.at(-1)!.length > 40 * 255)
})

test('a path that is too long for the archive is reported once, and the walk goes on beside it', () => {
  using folder = new PackingFolder()
  const component = 'n'.repeat(250)
  const levels = Math.ceil(pathBytesMax / 251) + 2
  {
    using deep = new DeepFolder(folder.at(), ['tree', ...Array(levels).fill(component)])
    writeFileSync(deep.at('too-deep'), '')
  }
  folder.file('z')
  const { paths, problems } = walkAll([folder.root()])
  assert.equal(problems.length, 1)
  assert.equal(problems[0]!.kind, 'unreadable')
  assert.match(problems[0]!.message, /more than 16384 bytes/)
  assert.ok(problems[0]!.path.length <= pathBytesMax + 256)
  assert.equal(paths.at(-1), folder.pathOf('z'))
  assert.ok(paths.every((path) => path.length <= pathBytesMax))
})

test('beside a path that is too long, what is gone is noticed', () => {
  using folder = new PackingFolder()
  // Of two lengths, so that one of them is cut between two names wherever it is cut.
  for (const top of ['a', 'ab']) {
    using deep = new DeepFolder(folder.at(), [top, ...Array(200).fill('d')])
    for (const name of ['z-gone', 'z-stays']) writeFileSync(deep.at(name), '')
    using _ = new DeepFolder(
      Buffer.from(deep.at('.')),
      Array(Math.ceil(pathBytesMax / 250)).fill('n'.repeat(250)),
    )
  }
  const before = packInPlace([folder.root()])
  const isGone = (path: BytePath) => path.endsWith('/z-gone')
  assert.equal(before.entries.filter(({ path }) => isGone(path)).length, 2)
  for (const top of ['a', 'ab']) rmSync(folder.at(`${top}/${'d/'.repeat(200)}z-gone`))
  const after = packInPlace([folder.root()], { baseline: before.entries })
  assert.deepEqual(
    after.gone.map(({ path }) => isGone(path)),
    [true, true],
  )
  assert.ok(after.warnings.length === 2 && after.warnings.every(({ path }) => path.length < 300))
  // The folder's own cleaning cannot take such paths.
  runProgram('rm', ['-rf', folder.at('a').toString(), folder.at('ab').toString()])
})

test('names that begin with dashes, hold quotes, newlines or any other byte, or have 255 of them, come as they are', () => {
  using folder = new PackingFolder()
  const odd = [
    '-rf',
    '--',
    '"',
    "'",
    '\n',
    ' ',
    '*',
    '[a]',
    '{a,b}',
    '\\',
    '\x1b[31m',
    '\udc80',
    'é',
    'e\u0301',
    '💾',
    '...',
  ]
  odd.push('n'.repeat(255), '\udcff'.repeat(255), '\u202e', '..a')
  for (const one of odd) folder.file(one)
  const { paths, problems } = walkAll([folder.root()])
  assert.deepEqual(problems, [])
  assert.deepEqual(namesIn(folder, paths).sort(), [...odd].sort())
})

test('folders that this user may not list or not enter are reported, and all else comes', () => {
  using folder = new PackingFolder()
  folder.file('closed/secret')
  folder.file('list-only/secret')
  folder.file('open/x')
  const modes = { closed: 0o000, 'list-only': 0o744, open: 0o755 }
  for (const [one, mode] of Object.entries(modes)) chmodSync(folder.at(one), mode)
  chmodSync(folder.path, 0o755)
  if (process.geteuid!() !== 0) chmodSync(folder.at('list-only'), 0o400)
  const { paths, problems } = withoutRights(() => walkAll([folder.root()]))
  assert.deepEqual(namesIn(folder, paths), ['closed', 'list-only', 'open', 'open/x'])
  assert.deepEqual(
    problems.map(({ kind, path }) => [kind, folder.nameOf(path)]),
    [
      ['unreadable', 'closed'],
      ['unreadable', 'list-only/secret'],
    ],
  )
})

test('a visitor that throws ends the walk, and every folder is closed', () => {
  using folder = new PackingFolder()
  folder.file('a/b/c/d')
  const before = readdirSync('/proc/self/fd').length
  const stop = new Error('stop')
  assert.throws(
    () =>
      walkAll([folder.root()], {
        onVisit({ path }) {
          if (path === folder.pathOf('a/b/c/d')) throw stop
        },
      }),
    (error) => error === stop,
  )
  assert.equal(readdirSync('/proc/self/fd').length, before)
})

test('what is found is named relative to an open folder, so that calls on it need no path', () => {
  using folder = new PackingFolder()
  folder.file('a/b', 'content')
  let size = -1
  walkAll([folder.root('a')], {
    onVisit({ path, directory, name, status }) {
      if (path !== folder.pathOf('a/b')) return
      assert.equal(status.mode & constants.S_IFMT, constants.S_IFREG)
      assert.ok(existsSync(`/proc/self/fd/${directory}/${name.toString('latin1', 0, name.indexOf(0))}`))
      size = status.size
    },
  })
  assert.equal(size, 7)
})
