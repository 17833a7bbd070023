/** The comparison of trees that the tests of fidelity rely on sees each kind of difference, and no other. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inodeFlags } from '@central-backup/archive'
import { lacksHoles, makeSparse } from '../packages/archive/test/holes.ts'
import {
  aclValue,
  changeFlags,
  lacksAttributes,
  netRawCapability,
  removeXattr,
  writeProject,
  writeXattr,
} from '../packages/archive/test/object-attributes.ts'
import { runProgram } from '../packages/archive/test/packing-folder.ts'
import { type Aspect, aspects, compareTrees, readTree } from './harness/compare-trees.ts'

const skip = lacksAttributes(tmpdir(), 'trusted') || lacksAttributes(tmpdir(), 'flags')
const mebibyte = 2 ** 20

function makeTree(root: string): void {
  mkdirSync(`${root}/folder`, { recursive: true })
  writeFileSync(`${root}/folder/file`, 'content')
  linkSync(`${root}/folder/file`, `${root}/further-name`)
  symlinkSync('nowhere', `${root}/link`)
  runProgram('mkfifo', [`${root}/fifo`])
  runProgram('mknod', [`${root}/device`, 'c', '1', '3'])
  makeSparse(`${root}/sparse`, 4 * mebibyte, [[mebibyte, 2 * mebibyte]])
  writeXattr(`${root}/folder/file`, 'user.a', 'value')
  for (const name of ['folder/file', 'link', 'fifo', 'device', 'sparse', 'folder', ''])
    runProgram('touch', ['-h', '-d', '2001-02-03 04:05:06.123456789 UTC', `${root}/${name}`])
}

const acl = aclValue([
  ['owner', 6],
  ['user', 4, 1000],
  ['owning-group', 4],
  ['mask', 4],
  ['other', 4],
])

/** One difference each: the aspect in which it shows, where, and how it is made. */
const planted: [Aspect | 'presence', string, (root: string) => void][] = [
  ['presence', 'one-more', (root) => writeFileSync(`${root}/one-more`, '')],
  ['presence', 'fifo', (root) => rmSync(`${root}/fifo`)],
  ['presence', 'caf\xe9', (root) => writeFileSync(Buffer.from(`${root}/caf\xe9`, 'latin1'), '')],
  [
    'kind',
    'fifo',
    (root) => {
      rmSync(`${root}/fifo`)
      writeFileSync(`${root}/fifo`, '')
    },
  ],
  ['content', 'folder/file', (root) => writeFileSync(`${root}/folder/file`, 'CONTENT')],
  ['content', 'sparse', (root) => truncateSync(`${root}/sparse`, 4 * mebibyte + 1)],
  ['holes', 'sparse', (root) => runProgram('fallocate', ['-l', '64K', `${root}/sparse`])],
  [
    'target',
    'link',
    (root) => {
      rmSync(`${root}/link`)
      symlinkSync('Nowhere', `${root}/link`)
    },
  ],
  [
    'device',
    'device',
    (root) => {
      rmSync(`${root}/device`)
      runProgram('mknod', [`${root}/device`, 'c', '1', '5'])
    },
  ],
  [
    'names',
    'further-name',
    (root) => {
      runProgram('cp', ['-a', `${root}/further-name`, `${root}/copy`])
      renameSync(`${root}/copy`, `${root}/further-name`)
    },
  ],
  ['mode', 'folder/file', (root) => chmodSync(`${root}/folder/file`, 0o4644)],
  ['mode', 'folder', (root) => chmodSync(`${root}/folder`, 0o1755)],
  ['owner', 'folder/file', (root) => chownSync(`${root}/folder/file`, 0, 1)],
  ['owner', 'link', (root) => lchownSync(`${root}/link`, 1, 0)],
  ['mtime', 'device', (root) => utimesSync(`${root}/device`, 1, 981_173_106.123456)],
  ['mtime', 'link', (root) => runProgram('touch', ['-h', '-d', '@981173106.123456788', `${root}/link`])],
  ['acls', 'folder/file', (root) => writeXattr(`${root}/folder/file`, 'system.posix_acl_access', acl)],
  ['acls', 'folder', (root) => writeXattr(`${root}/folder`, 'system.posix_acl_default', acl)],
  ['capabilities', 'sparse', (root) => writeXattr(`${root}/sparse`, 'security.capability', netRawCapability)],
  ['labels', 'device', (root) => writeXattr(`${root}/device`, 'security.selinux', 'label\0')],
  ['xattrs', 'folder/file', (root) => writeXattr(`${root}/folder/file`, 'user.a', 'Value')],
  ['xattrs', 'folder/file', (root) => removeXattr(`${root}/folder/file`, 'user.a')],
  ['xattrs', 'link', (root) => writeXattr(`${root}/link`, 'trusted.a', '')],
  ['flags', 'sparse', (root) => changeFlags(`${root}/sparse`, inodeFlags.nodump)],
  ['flags', 'folder', (root) => changeFlags(`${root}/folder`, inodeFlags.noatime)],
  ['project', 'sparse', (root) => writeProject(`${root}/sparse`, 4711)],
]

/** What changes with a change that is meant otherwise. */
const besides: Partial<Record<Aspect | 'presence', readonly Aspect[]>> = {
  content: ['mtime', 'holes'],
  holes: ['mtime', 'content'],
  target: ['mtime'],
  device: ['mtime'],
}

function makeTwo(): { folder: string; one: string; other: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'central-backup-compare-'))
  const [one, other] = [join(folder, 'one'), join(folder, 'other')]
  for (const root of [one, other]) makeTree(root)
  return { folder, one, other, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) }
}

test('two trees that were made in the same way are the same', { skip }, () => {
  using trees = makeTwo()
  assert.deepEqual(compareTrees(readTree(trees.one), readTree(trees.other)), [])
  assert.equal(readTree(trees.one).size, 8)
})

for (const [i, [aspect, path, plant]] of planted.entries()) {
  test(`a difference in ${aspect} is seen (${i}: of ${JSON.stringify(path)})`, { skip }, (t) => {
    const lacks = aspect === 'holes' && lacksHoles(tmpdir())
    if (lacks) return t.skip(lacks)
    using trees = makeTwo()
    try {
      plant(trees.one)
    } catch (error) {
      if (aspect === 'project') return t.skip(`no projects here: ${(error as Error).message}`)
      throw error
    }
    // The folders that a change was made in have another time now.
    const ignored = new Set(aspect === 'mtime' ? [] : besides[aspect])
    const found = compareTrees(readTree(trees.one), readTree(trees.other), ignored).filter(
      (one) => aspect === 'mtime' || one.path === path || one.aspect !== 'mtime',
    )
    const names = new Set(found.map((one) => `${one.aspect} ${one.path}`))
    const hardLinked = path === 'folder/file' ? [`${aspect} further-name`] : []
    if (aspect === 'presence' || aspect === 'kind') {
      assert.ok(names.has(`${aspect} ${path}`))
      for (const name of names) assert.ok(name === `${aspect} ${path}`, name)
    } else assert.deepEqual(names, new Set([`${aspect} ${path}`, ...hardLinked]))
    const ignoring = compareTrees(readTree(trees.one), readTree(trees.other), new Set(aspects))
    assert.deepEqual(
      ignoring.map((one) => one.aspect),
      aspect === 'presence' ? ['presence'] : [],
    )
  })
}

test('each aspect has a difference that was planted', () => {
  const seen = new Set(planted.map(([aspect]) => aspect))
  assert.deepEqual(
    [...aspects].filter((aspect) => !seen.has(aspect)),
    [],
  )
})
