/** Attributes and names of one object through incremental runs: what changed comes back as it is, and as it was. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  lchownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inodeFlags } from '@central-backup/archive'
import {
  aclValue,
  changeFlags,
  lacksAttributes,
  netRawCapability,
  removeXattr,
  writeXattr,
} from '../packages/archive/test/object-attributes.ts'
import { runProgram } from '../packages/archive/test/packing-folder.ts'
import { compareTrees, readTree, type Tree } from './harness/compare-trees.ts'
import { shownDifferences } from './harness/fidelity.ts'
import { runCommand } from './harness/program.ts'
import { readRun, Site } from './harness/site.ts'

const skip = lacksAttributes(tmpdir(), 'trusted') || lacksAttributes(tmpdir(), 'flags')

const kinds = ['file', 'link', 'fifo', 'character', 'block']

const acl = (id: number) =>
  aclValue([
    ['owner', 6],
    ['user', 4, id],
    ['owning-group', 4],
    ['mask', 4],
    ['other', 4],
  ])

/** A run that must find nothing to complain of. */
async function backUp(site: Site): Promise<{ run: number; counts: Record<string, number> }> {
  const ended = readRun(await site.server('run', '--json'))
  const { web1 } = ended.ends
  assert.deepEqual([ended.code, web1?.outcome, web1?.warningCount], [0, 'complete', 0], ended.stderr)
  return { run: web1!.run!, counts: { ...web1!.counts, contentBytes: web1!.contentBytes } }
}

async function restoreRun(site: Site, run: number): Promise<Tree> {
  const target = site.at(`restored-${run}`)
  const args = ['restore', 'web1', '--target', target, '--at', String(run), '--numeric-ids', '--json']
  const ended = await site.server(...args)
  assert.equal(ended.code, 0, ended.stderr)
  return readTree(join(target, site.tree()))
}

function makeKinds(folder: string): void {
  mkdirSync(folder)
  writeFileSync(join(folder, 'file'), 'one content of all names')
  symlinkSync('nowhere', join(folder, 'link'))
  runProgram('mkfifo', [join(folder, 'fifo')])
  runProgram('mknod', [join(folder, 'character'), 'c', '1', '3'])
  runProgram('mknod', [join(folder, 'block'), 'b', '259', '4660'])
}

test('names of objects of every kind, made, moved and removed in later runs', { skip }, async () => {
  await using site = await Site.create()
  const root = site.tree()
  const host = await site.addHost('web1', { paths: [root] })
  await host.start()
  const trees = new Map<number, Tree>()
  const step = async (change: () => void) => {
    change()
    const { run, counts } = await backUp(site)
    trees.set(run, readTree(root))
    return counts
  }
  const each = (work: (kind: string) => void) => () => kinds.forEach(work)

  await step(() => {
    for (const folder of ['a', 'm', 'z']) mkdirSync(join(root, folder))
    makeKinds(join(root, 'm/kinds'))
  })
  // A name behind the first one, in another folder.
  const behind = await step(each((kind) => linkSync(join(root, 'm/kinds', kind), join(root, 'z', kind))))
  assert.deepEqual([behind.hardlinks, behind.contentBytes], [5, 0])
  // A name before it, which is the first from now on.
  await step(each((kind) => linkSync(join(root, 'z', kind), join(root, 'a', kind))))
  // Nothing.
  const nothing = await step(() => {})
  assert.deepEqual([nothing.hardlinks, nothing.files, nothing.specials], [0, 0, 0])
  // The first name moves, then goes.
  await step(each((kind) => renameSync(join(root, 'a', kind), join(root, `a/moved-${kind}`))))
  await step(each((kind) => rmSync(join(root, `a/moved-${kind}`))))
  // One name takes the place of another object.
  await step(
    each((kind) => {
      writeFileSync(join(root, 'a', kind), 'something else')
      renameSync(join(root, 'z', kind), join(root, 'a', kind))
    }),
  )
  // Attributes of an object with several names change.
  const changed = await step(
    each((kind) => {
      writeXattr(join(root, 'a', kind), 'trusted.kind', kind)
      lchownSync(join(root, 'm/kinds', kind), 1000, 1000)
    }),
  )
  assert.equal(changed.contentBytes, 0)
  await step(each((kind) => rmSync(join(root, 'm/kinds', kind))))

  for (const [run, expected] of trees)
    assert.deepEqual(shownDifferences(compareTrees(await restoreRun(site, run), expected)), [], `run ${run}`)
})

/** Changes of nothing but attributes. */
const changes: Record<string, (root: string) => void> = {
  'an ACL is set': (root) => writeXattr(join(root, 'file'), 'system.posix_acl_access', acl(1000)),
  'an ACL changes': (root) => writeXattr(join(root, 'with-acl'), 'system.posix_acl_access', acl(1001)),
  'an ACL is removed': (root) => removeXattr(join(root, 'without-acl'), 'system.posix_acl_access'),
  'a default ACL is set': (root) => writeXattr(join(root, 'folder'), 'system.posix_acl_default', acl(1000)),
  'an attribute is set': (root) => writeXattr(join(root, 'file-2'), 'user.new', 'value'),
  'an attribute changes': (root) => writeXattr(join(root, 'with-xattr'), 'user.a', 'Value'),
  'an attribute is removed': (root) => removeXattr(join(root, 'without-xattr'), 'user.a'),
  'a capability is set': (root) => writeXattr(join(root, 'file-3'), 'security.capability', netRawCapability),
  'a label of a link is set': (root) => writeXattr(join(root, 'link'), 'security.selinux', 'label\0'),
  'flags change': (root) => changeFlags(join(root, 'file-4'), inodeFlags.noatime, inodeFlags.nodump),
  'flags of a folder change': (root) => changeFlags(join(root, 'folder-2'), inodeFlags.nodump),
  'a mode changes': (root) => chmodSync(join(root, 'file-5'), 0o4711),
  'the owner of a fifo changes': (root) => lchownSync(join(root, 'fifo'), 1000, 1000),
  'the time of a link changes': (root) => runProgram('touch', ['-h', '-d', '@1.5', join(root, 'link-2')]),
}

test('changes of attributes alone send no content, and come back, as what was before', { skip }, async () => {
  await using site = await Site.create()
  const root = site.tree()
  const files = [
    'file',
    'file-2',
    'file-3',
    'file-4',
    'file-5',
    'with-acl',
    'without-acl',
    'with-xattr',
    'without-xattr',
  ]
  for (const name of files) writeFileSync(join(root, name), `content of ${name}`)
  for (const name of ['folder', 'folder-2']) mkdirSync(join(root, name))
  for (const name of ['link', 'link-2']) symlinkSync('nowhere', join(root, name))
  runProgram('mkfifo', [join(root, 'fifo')])
  for (const name of ['with-acl', 'without-acl'])
    writeXattr(join(root, name), 'system.posix_acl_access', acl(1000))
  for (const name of ['with-xattr', 'without-xattr']) writeXattr(join(root, name), 'user.a', 'value')
  changeFlags(join(root, 'file-4'), inodeFlags.nodump)
  const host = await site.addHost('web1', { paths: [root] })
  await host.start()
  const before = await backUp(site)
  const asItWas = readTree(root)

  for (const change of Object.values(changes)) change(root)
  const after = await backUp(site)
  const asItIs = readTree(root)
  assert.equal(after.counts.contentBytes, 0)
  const { files: changedFiles, symlinks, specials, unchanged } = after.counts
  assert.deepEqual([changedFiles, symlinks, specials], [9, 2, 1])
  assert.ok(unchanged! > 0)

  assert.deepEqual(shownDifferences(compareTrees(await restoreRun(site, after.run), asItIs)), [])
  assert.deepEqual(shownDifferences(compareTrees(await restoreRun(site, before.run), asItWas)), [])
  assert.ok(compareTrees(asItIs, asItWas).length >= Object.keys(changes).length)
})

test('an agent from which attributes are hidden says so in each run', { skip }, async (t) => {
  await using site = await Site.create()
  writeFileSync(join(site.tree(), 'file'), 'content')
  const host = await site.addHost('web1', { paths: [site.tree()] })
  const wrapper = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin']
  if ((await runCommand([...wrapper, 'true'])).code !== 0) return t.skip('setpriv is not installed')
  await host.start({ wrapper })
  const { code, ends, warnings } = await site.run()
  assert.deepEqual([code, ends.web1?.outcome], [0, 'complete'])
  assert.deepEqual(
    warnings.map((warning) => warning.code),
    ['attributes-hidden'],
  )
})
