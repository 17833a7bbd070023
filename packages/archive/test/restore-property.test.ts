import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { restoreTree } from '../src/index.ts'
import { name } from './arbitraries.ts'
import { archiveName, describeTree, isRoot, packTree, sourceOf, TemporaryFolder } from './tree.ts'

type Node = {
  name: string
  kind: 'file' | 'directory' | 'symlink' | 'fifo' | 'link'
  content: Uint8Array
  target: string
  /** Which of the objects before it a `link` is a further name of. */
  of: number
  mode: number
  uid: number
  gid: number
  mtime: number
  children: Node[]
}

const id = fc.oneof(fc.constantFrom(0, 1000), fc.nat(2 ** 32 - 2))

/** Nodes with at most `depth` levels below them. */
function nodes(depth: number): fc.Arbitrary<Node[]> {
  const node = fc.record({
    name,
    kind: fc.constantFrom('file', 'file', 'directory', 'directory', 'symlink', 'fifo', 'link'),
    content: fc.uint8Array({ maxLength: 3000 }),
    target: name,
    of: fc.nat(),
    // Readable for the packer, whoever runs the test.
    mode: fc.nat(0o7777).map((mode) => mode | 0o500),
    uid: id,
    gid: id,
    mtime: fc.double({ min: -1e9, max: 4e9, noNaN: true }),
    children: depth === 0 ? fc.constant([]) : nodes(depth - 1),
  })
  return fc.array(node as fc.Arbitrary<Node>, { maxLength: 6 })
}

/** Makes the nodes in a folder; a name that is taken is left out. */
function make(folder: Buffer, nodes: readonly Node[], made: Buffer[]): void {
  const taken = new Set<string>()
  for (const one of nodes) {
    if (taken.has(one.name)) continue
    taken.add(one.name)
    const path = Buffer.concat([folder, Buffer.from(`/${one.name}`, 'latin1')])
    if (one.kind === 'link') {
      const first = made[one.of % made.length]
      if (first !== undefined) linkSync(first, path)
      continue
    }
    makeObject(path, one, made)
    if (isRoot) lchownSync(path, one.uid, one.gid)
    if (one.kind !== 'symlink') chmodSync(path, one.mode)
    lutimesSync(path, one.mtime, one.mtime)
  }
}

function makeObject(path: Buffer, one: Node, made: Buffer[]): void {
  if (one.kind === 'directory') {
    mkdirSync(path)
    make(path, one.children, made)
    return
  }
  if (one.kind === 'file') writeFileSync(path, one.content)
  else if (one.kind === 'symlink') symlinkSync(Buffer.from(one.target, 'latin1'), path)
  else makeFifo(path)
  made.push(path)
}

/** mkfifo takes text only, so that it makes another name first. */
function makeFifo(path: Buffer): void {
  using folder = new TemporaryFolder()
  execFileSync('mkfifo', [folder.at('fifo')])
  renameSync(folder.at('fifo'), path)
}

test('whatever tree is packed and restored is the same tree, and a second restore has nothing to do', async () => {
  await fc.assert(
    fc.asyncProperty(nodes(3), async (tree) => {
      using folder = new TemporaryFolder()
      mkdirSync(folder.at('source'))
      mkdirSync(folder.at('target'))
      make(Buffer.from(folder.at('source')), tree, [])
      const entries = await packTree(folder.at('source'), folder.at(archiveName))
      await using source = sourceOf(entries, folder.at(archiveName))
      const first = await restoreTree(source, folder.at('target'))
      const problems = [first.damaged, first.failed, first.kept].flatMap(({ listed }) => listed)
      assert.deepEqual(problems, [])
      if (isRoot) assert.deepEqual(first.notSet, {})
      const restored = describeTree(folder.at('target', folder.at('source')), { owners: isRoot })
      assert.deepEqual(restored, describeTree(folder.at('source'), { owners: isRoot }))
      const second = await restoreTree(source, folder.at('target'), { overwrite: 'always' })
      // Without root, folders that forbid writing are opened and closed again.
      const { directories, ...objects } = second.restored
      assert.deepEqual(objects, { files: 0, symlinks: 0, hardlinks: 0, specials: 0 })
      if (isRoot) assert.equal(directories, 0)
    }),
    { numRuns: 15 },
  )
})
