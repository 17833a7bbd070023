import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { PackingFolder } from './packing-folder.ts'
import { namesIn, type Walked, walkAll } from './walk-all.ts'

/** `d/d/…`, with a file `later` beside each folder, and something else outside that has the same names. */
function makeDeepTree(folder: PackingFolder, levels: number): void {
  for (let depth = 0; depth < levels; depth++) folder.file(`tree/${'d/'.repeat(depth)}later`)
  folder.file(`outside/${'d/'.repeat(3)}secret`)
  folder.file('outside/later')
}

test('a folder that is moved away while it is walked is walked to its end, under the name it had', () => {
  using folder = new PackingFolder()
  makeDeepTree(folder, 60)
  const at = folder.pathOf(`tree/${'d/'.repeat(40)}d`)
  const { paths, problems } = walkAll([folder.root('tree')], {
    onVisit({ path }) {
      if (path === at) renameSync(folder.at(`tree/${'d/'.repeat(9)}d`), folder.at('outside/moved'))
    },
  })
  assert.deepEqual(problems, [])
  const found = namesIn(folder, paths)
  assert.equal(found.filter((one) => one.endsWith('/later')).length, 60)
  assert.ok(!found.some((one) => one.startsWith('outside')))
})

test('where folders were moved above 128 open levels, nothing outside is walked and what is left out is told', () => {
  using folder = new PackingFolder()
  makeDeepTree(folder, 300)
  const bottom = folder.pathOf(`tree/${'d/'.repeat(298)}d`)
  const before = readdirSync('/proc/self/fd').length
  const { paths, problems } = walkAll([folder.root()], {
    onVisit({ path }) {
      // By now the folders above are closed, and come back through `..` of those below.
      if (path === bottom) renameSync(folder.at(`tree/${'d/'.repeat(49)}d`), folder.at('outside/moved'))
    },
  })
  assert.equal(readdirSync('/proc/self/fd').length, before)
  assert.ok(problems.length > 0)
  assert.ok(
    problems.every(({ kind, message }) => kind === 'unreadable' && /names were left out/.test(message)),
  )
  assert.ok(problems.some(({ path }) => path === folder.pathOf(`tree${'/d'.repeat(49)}`)))
  const found = namesIn(folder, paths).filter((one) => one.startsWith('tree'))
  assert.deepEqual(found, [...new Set(found)])
  // What is below the place where it was moved came whole.
  assert.equal(found.filter((one) => one.endsWith('/later')).length, 250)
  assert.ok(!found.some((one) => one.includes('secret')))
})

/** Swaps what the walk has just found for something else, before it goes into it. */
function walkWithSwap(folder: PackingFolder, swap: (path: Buffer) => void): Walked {
  folder.file('tree/a/x')
  folder.file('tree/b/y')
  folder.file('outside/secret')
  return walkAll([folder.root('tree')], {
    onVisit({ path }) {
      if (path !== folder.pathOf('tree/a')) return
      renameSync(folder.at('tree/a'), folder.at('kept'))
      swap(folder.at('tree/a'))
    },
  })
}

const swaps: [string, (path: Buffer) => void][] = [
  ['a link to another folder', (path) => symlinkSync('../outside', path)],
  // Its own mount is no other folder: that only the link is refused keeps the walk out of it.
  ['a link to another file system', (path) => symlinkSync('/proc/self/task', path)],
  ['a file', (path) => writeFileSync(path, '')],
  [
    'another folder',
    (path) => {
      mkdirSync(path)
      writeFileSync(Buffer.concat([path, Buffer.from('/secret')]), '')
    },
  ],
  ['nothing', () => {}],
]
for (const [what, swap] of swaps) {
  test(`a folder that ${what} has taken the place of is reported as gone and not entered`, () => {
    using folder = new PackingFolder()
    const { paths, problems } = walkWithSwap(folder, swap)
    assert.deepEqual(namesIn(folder, paths), ['tree', 'tree/a', 'tree/b', 'tree/b/y'])
    assert.deepEqual(
      problems.map(({ kind, path }) => [kind, folder.nameOf(path)]),
      [['vanished', 'tree/a']],
    )
  })
}

test('what vanishes between the listing and the look is reported, and all else comes', () => {
  using folder = new PackingFolder()
  for (const file of ['a', 'b', 'c', 'd/x']) folder.file(file)
  const { paths, problems } = walkAll([folder.root()], {
    onApproach(path) {
      if (path === folder.pathOf('b')) rmSync(folder.at('b'))
      if (path === folder.pathOf('d')) rmSync(folder.at('d'), { recursive: true })
    },
  })
  assert.deepEqual(namesIn(folder, paths), ['a', 'c'])
  assert.deepEqual(
    problems.map(({ kind, path }) => [kind, folder.nameOf(path)]),
    [
      ['vanished', 'b'],
      ['vanished', 'd'],
    ],
  )
})

test('a folder that is removed while it is open counts as gone', () => {
  using folder = new PackingFolder()
  folder.folder('a/empty')
  const { problems } = walkAll([folder.root('a')], {
    onVisit({ path }) {
      if (path === folder.pathOf('a/empty')) rmdirSync(folder.at('a/empty'))
    },
  })
  assert.deepEqual(
    problems.map(({ kind }) => kind),
    ['vanished'],
  )
})
