import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lutimesSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import {
  ArchiveError,
  CompressorPool,
  type Entry,
  frameBytesMax,
  IndexBatchEncoder,
  Packing,
  type Root,
} from '../src/index.ts'
import { OpenWatch } from './open-watch.ts'
import { listWithGnuTar } from './oracles.ts'
import { packInPlace } from './pack-in-place.ts'
import { PackingFolder, withoutRights } from './packing-folder.ts'
import { baselineOf, frameOf, RunSeries, type SeriesOptions, type SeriesRun } from './run-series.ts'
import { incremental } from './sample.ts'

// What is above the folder of a test belongs to the machine, and may change at any time: it is never looked at.

const pool = new CompressorPool(1)
after(() => pool.close())

const isRoot = process.geteuid!() === 0

/** A tree, and the runs that pack it. */
class Scene extends PackingFolder {
  readonly runs = new RunSeries(pool)

  full(roots: readonly Root[] = [this.root()], options: Partial<SeriesOptions> = {}): Promise<SeriesRun> {
    return this.runs.pack(roots, { base: null, ...options })
  }

  after(
    base: SeriesRun,
    options: Partial<SeriesOptions> & { roots?: readonly Root[] } = {},
  ): Promise<SeriesRun> {
    const { roots = [this.root()], ...rest } = options
    return this.runs.pack(roots, { base, ...rest })
  }

  /** Names that the index has, with `+` for entries, and `-` or `?` for what is deleted or unselected. */
  changes({ entries, gone }: SeriesRun): string[] {
    return [
      ...this.within(entries).map((entry) => `+ ${this.nameOf(entry.path)}`),
      ...this.within(gone).map(
        ({ path, reason }) => `${reason === 'deleted' ? '-' : '?'} ${this.nameOf(path)}`,
      ),
    ]
  }

  entry(run: SeriesRun, name: string): Entry {
    const found = run.standing.find(({ path }) => path === this.pathOf(name))
    assert.ok(found !== undefined, `${name} does not stand in ${run.archive}`)
    return found
  }

  content(run: SeriesRun, name: string): string {
    return this.runs.contentOf(this.entry(run, name)).toString('latin1')
  }

  /** Members of the tar stream. */
  members({ tar }: SeriesRun): string[] {
    const path = `${this.path}.tar`
    using _ = { [Symbol.dispose]: () => rmSync(path) }
    writeFileSync(path, tar)
    return this.within(listWithGnuTar(path) as unknown as Entry[]).map((member) => this.nameOf(member.path))
  }

  within<T extends { path: Entry['path'] }>(all: readonly T[]): T[] {
    return all.filter(({ path }) => path.startsWith(`${this.pathOf()}/`))
  }
}

/** The run stands for the same as a full one at this moment would, but for where the content lies. */
async function requireEqualToFull(scene: Scene, run: SeriesRun, options: Partial<SeriesOptions> = {}) {
  const full = await scene.full(undefined, options)
  const bare = ({ standing }: SeriesRun) => scene.within(standing).map((entry) => ({ ...entry, extents: [] }))
  assert.deepEqual(bare(run), bare(full))
  for (const entry of scene.within(run.standing)) if (entry.type === 'file') scene.runs.contentOf(entry)
}

test('of an unchanged tree nothing is packed and no file is opened', async () => {
  using scene = new Scene()
  scene.file('a/file', 'content')
  scene.file('a/empty')
  scene.file('a/large', randomBytes(frameBytesMax + 1))
  scene.hardLink('a/link', 'a/file')
  scene.symlink('a/symlink', 'nowhere')
  scene.hardLink('a/symlink-too', 'a/symlink')
  scene.fifo('a/fifo')
  scene.folder('b')
  const server = createServer().listen(join(scene.path, 'a/socket'))
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    scene.hardLink('a/socket-too', 'a/socket')
    const full = await scene.full()
    using watch = new OpenWatch(join(scene.path, 'a'))
    const second = await scene.after(full)
    const opened = watch.names()
    assert.ok(opened.includes(''), 'the folder itself is listed')
    assert.deepEqual(opened.filter(Boolean), [])
    assert.deepEqual(scene.changes(second), [])
    assert.deepEqual(scene.members(second), [])
    const { counts, outcome } = second.end
    assert.equal(outcome, 'complete')
    assert.deepEqual([counts.files, counts.hardlinks, counts.contentBytes, counts.gone], [0, 0, 0, 0])
    assert.ok(counts.unchanged >= scene.within(full.entries).length)
    assert.deepEqual(scene.changes(await scene.after(second)), [])
  } finally {
    server.close()
  }
})

test('what is new, changed and deleted is told, and nothing else', async () => {
  using scene = new Scene()
  for (const name of ['changed', 'gone', 'grown', 'kept', 'tree/deep/er/file', 'tree/file', 'tree.kept'])
    scene.file(`d/${name}`, name)
  const full = await scene.full()
  scene.file('d/changed', 'CHANGED')
  scene.file('d/grown', 'grown and grown')
  scene.file('d/new', 'new')
  scene.file('d/new-tree/file', 'new too')
  rmSync(scene.at('d/gone'))
  rmSync(scene.at('d/tree'), { recursive: true })
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), [
    ...['+ d', '+ d/changed', '+ d/grown', '+ d/new', '+ d/new-tree', '+ d/new-tree/file'],
    ...['- d/gone', '- d/tree'],
  ])
  assert.deepEqual(scene.members(second), [
    ...['d', 'd/changed', 'd/grown', 'd/new', 'd/new-tree', 'd/new-tree/file'],
  ])
  assert.equal(scene.content(second, 'd/changed'), 'CHANGED')
  assert.equal(scene.content(second, 'd/kept'), 'kept')
  const { gone, contentBytes, files } = second.end.counts
  assert.deepEqual([gone, files, contentBytes], [2, 4, 'CHANGED'.length + 15 + 3 + 7])
  await requireEqualToFull(scene, second)
})

test('what was renamed is gone under its old name and new under its new one', async () => {
  using scene = new Scene()
  scene.file('b/file', 'content')
  scene.file('b/below/file', 'more content')
  scene.file('x', 'x')
  const full = await scene.full()
  renameSync(scene.at('b'), scene.at('a'))
  renameSync(scene.at('x'), scene.at('y'))
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), [
    ...['+ a', '+ a/below', '+ a/below/file', '+ a/file', '+ y'],
    ...['- b', '- x'],
  ])
  await requireEqualToFull(scene, second)
})

test('what another type has taken the place of is packed, and what stood below a folder is gone', async () => {
  using scene = new Scene()
  const kinds = ['file', 'folder', 'symlink', 'fifo'] as const
  const make = (kind: (typeof kinds)[number], name: string) => {
    if (kind === 'file') scene.file(name, 'content')
    if (kind === 'folder') scene.file(`${name}/below/file`, 'content')
    if (kind === 'symlink') scene.symlink(name, 'target')
    if (kind === 'fifo') scene.fifo(name)
  }
  const pairs = kinds.flatMap((from) => kinds.filter((to) => to !== from).map((to) => ({ from, to })))
  for (const { from, to } of pairs) make(from, `${from}-${to}`)
  const full = await scene.full()
  for (const { from, to } of pairs) {
    rmSync(scene.at(`${from}-${to}`), { recursive: true })
    make(to, `${from}-${to}`)
  }
  const second = await scene.after(full)
  assert.equal(scene.entry(second, 'folder-file').type, 'file')
  assert.equal(scene.entry(second, 'file-folder').type, 'directory')
  assert.equal(scene.entry(second, 'folder-symlink').type, 'symlink')
  const gone = scene.changes(second).filter((change) => !change.startsWith('+'))
  assert.deepEqual(gone, ['- folder-fifo/below', '- folder-file/below', '- folder-symlink/below'])
  await requireEqualToFull(scene, second)
})

test('new attributes alone cost no bytes: the entry points into the archive that has the content', async () => {
  using scene = new Scene()
  const names = ['chmod', 'touch', 'rewritten', ...(isRoot ? ['chown'] : [])]
  for (const name of names) scene.file(name, `content of ${name}`)
  const large = randomBytes(frameBytesMax + 100_000)
  scene.file('large', large)
  const full = await scene.full()
  const alter = (mode: number, seconds: number) => {
    chmodSync(scene.at('chmod'), mode)
    if (isRoot) chownSync(scene.at('chown'), seconds, seconds)
    utimesSync(scene.at('touch'), seconds, seconds)
    scene.file('rewritten', 'content of rewritten')
    utimesSync(scene.at('large'), seconds, seconds)
  }
  alter(0o600, 1000)
  const second = await scene.after(full)
  alter(0o4711, 2000)
  const third = await scene.after(second)
  for (const run of [second, third]) {
    assert.deepEqual(
      scene.changes(run),
      [...names, 'large'].sort().map((name) => `+ ${name}`),
    )
    assert.deepEqual(scene.members(run), [])
    for (const entry of scene.within(run.entries)) {
      assert.deepEqual(entry.extents, scene.entry(full, scene.nameOf(entry.path)).extents)
      assert.equal(entry.extents[0]!.archive, full.archive)
    }
    assert.equal(run.end.counts.files, names.length + 1)
    assert.equal(run.end.counts.contentBytes, 0)
    assert.equal(run.end.outcome, 'complete')
  }
  assert.equal(scene.entry(third, 'chmod').mode, 0o4711)
  assert.equal(scene.entry(third, 'touch').mtimeSeconds, 2000)
  assert.equal(scene.content(third, 'large'), large.toString('latin1'))
  await requireEqualToFull(scene, third)
})

test('what is read only to be compared counts as progress, so that no server takes the agent for stuck', async () => {
  using scene = new Scene()
  scene.file('large', randomBytes(3_000_000))
  const full = await scene.full()
  utimesSync(scene.at('large'), 1000, 1000)
  const read: number[] = []
  const packed = packInPlace([scene.root()], {
    baseline: full.standing,
    onRead: (path, total) => void (path === scene.pathOf('large') && read.push(total)),
  })
  assert.equal(packed.counts.contentBytes, 0)
  assert.equal(read.at(-1), 3_000_000)
  assert.ok(read.length > 3)
})

test('new attributes of folders, links and fifos are told', async () => {
  using scene = new Scene()
  scene.folder('folder')
  scene.file('folder/file', 'content')
  scene.symlink('symlink', 'target')
  scene.fifo('fifo')
  const full = await scene.full()
  chmodSync(scene.at('folder'), 0o700)
  chmodSync(scene.at('fifo'), 0o600)
  lutimesSync(scene.at('symlink'), 1000, 1000)
  if (isRoot) lchownSync(scene.at('symlink'), 1000, 1000)
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ fifo', '+ folder', '+ symlink'])
  await requireEqualToFull(scene, second)
})

test('other content is packed also where size and mtime are as they were', async () => {
  using scene = new Scene()
  scene.file('file', 'before')
  utimesSync(scene.at('file'), 1000, 1000)
  const full = await scene.full()
  scene.file('file', 'after!')
  utimesSync(scene.at('file'), 1000, 1000)
  const second = await scene.after(full)
  const [before, now] = [scene.entry(full, 'file'), scene.entry(second, 'file')]
  assert.deepEqual([now.size, now.mtimeSeconds, now.ino], [before.size, before.mtimeSeconds, before.ino])
  assert.equal(scene.content(second, 'file'), 'after!')
  await requireEqualToFull(scene, second)
})

test('a file with the number of another inode is told, though all else is as it was', async () => {
  using scene = new Scene()
  scene.file('file', 'before')
  const full = await scene.full()
  const second = await scene.after(full, { change: (entry) => ({ ...entry, ino: 1 }) })
  assert.deepEqual(scene.changes(second), ['+ file'])
  assert.deepEqual(scene.members(second), [])
  assert.equal(scene.content(second, 'file'), 'before')
})

test('a change is seen also where the clock of the host was set back in between', async () => {
  using scene = new Scene()
  scene.file('same', 'same')
  scene.file('other', 'before')
  const full = await scene.full()
  scene.file('other', 'after!')
  // The first run saw these files under a clock that went an hour fast.
  const change = (entry: Entry) => ({
    ...entry,
    mtimeSeconds: entry.mtimeSeconds + 3600,
    ctimeSeconds: entry.ctimeSeconds + 3600,
  })
  const second = await scene.after(full, { change })
  assert.deepEqual(scene.changes(second), ['+ other', '+ same'])
  assert.deepEqual(scene.members(second), ['other'])
  assert.equal(scene.content(second, 'other'), 'after!')
  await requireEqualToFull(scene, second)
})

test('a second or a nanosecond of any time is a change', async () => {
  using scene = new Scene()
  scene.file('file', 'content')
  const full = await scene.full()
  const next = (nanoseconds: number) => (nanoseconds + 1) % 1_000_000_000
  for (const change of [
    (entry: Entry) => ({ ...entry, mtimeSeconds: entry.mtimeSeconds - 1 }),
    (entry: Entry) => ({ ...entry, ctimeSeconds: entry.ctimeSeconds - 1 }),
    (entry: Entry) => ({ ...entry, mtimeNanoseconds: next(entry.mtimeNanoseconds) }),
    (entry: Entry) => ({ ...entry, ctimeNanoseconds: next(entry.ctimeNanoseconds) }),
  ])
    assert.deepEqual(scene.changes(await scene.after(full, { change })), ['+ file'])
  // Numbers of devices change from boot to boot.
  const change = (entry: Entry) => ({ ...entry, dev: 1 })
  assert.deepEqual(scene.changes(await scene.after(full, { change })), [])
})

test('what was a mixture of two states is packed again though nothing has changed since', async () => {
  using scene = new Scene()
  scene.file('file', 'content')
  scene.file('other', 'content')
  const full = await scene.full()
  const change = (entry: Entry) => ({
    ...entry,
    changedWhileRead: entry.path === scene.pathOf('file') || entry.changedWhileRead,
  })
  const second = await scene.after(full, { change })
  assert.deepEqual(scene.changes(second), ['+ file'])
  assert.deepEqual(scene.members(second), ['file'])
})

test('an empty file with new attributes is told, and one that became empty has no content', async () => {
  using scene = new Scene()
  scene.file('empty')
  scene.file('emptied', 'content')
  scene.file('filled')
  const full = await scene.full()
  chmodSync(scene.at('empty'), 0o600)
  scene.file('emptied')
  scene.file('filled', 'content')
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ emptied', '+ empty', '+ filled'])
  assert.equal(scene.content(second, 'emptied'), '')
  await requireEqualToFull(scene, second)
})

test('names of one file: of a pair that is as it was, nothing is told, also beside other changes', async () => {
  using scene = new Scene()
  scene.file('a/first', 'shared')
  scene.hardLink('z/second', 'a/first')
  const full = await scene.full()
  scene.file('m', 'new')
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ m'])
  await requireEqualToFull(scene, second)
})

test('names of one file: where the first is removed, the next one is the file', async () => {
  using scene = new Scene()
  scene.file('a', 'shared')
  scene.hardLink('b', 'a')
  scene.hardLink('c', 'a')
  const full = await scene.full()
  rmSync(scene.at('a'))
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ b', '+ c', '- a'])
  assert.equal(scene.entry(second, 'b').type, 'file')
  assert.equal(scene.content(second, 'b'), 'shared')
  assert.equal(scene.entry(second, 'c').target, scene.pathOf('b'))
  await requireEqualToFull(scene, second)
})

test('names of one file: a new one, before or after the first, is a link, and the content is where it was', async () => {
  using scene = new Scene()
  scene.file('m', 'shared')
  const full = await scene.full()
  scene.hardLink('x', 'm')
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ m', '+ x'])
  assert.equal(scene.entry(second, 'x').target, scene.pathOf('m'))
  assert.equal(scene.entry(second, 'm').extents[0]!.archive, full.archive)
  await requireEqualToFull(scene, second)

  scene.hardLink('a', 'm')
  const third = await scene.after(second)
  assert.equal(scene.entry(third, 'a').type, 'file')
  assert.equal(scene.content(third, 'a'), 'shared')
  for (const name of ['m', 'x']) assert.equal(scene.entry(third, name).target, scene.pathOf('a'))
  await requireEqualToFull(scene, third)
})

test('names of one file: one that is a name of another file now points at that', async () => {
  using scene = new Scene()
  scene.file('a', 'of a')
  scene.file('b', 'of b')
  scene.hardLink('c', 'a')
  const full = await scene.full()
  assert.equal(scene.entry(full, 'c').target, scene.pathOf('a'))
  rmSync(scene.at('c'))
  linkSync(scene.at('b'), scene.at('c'))
  const second = await scene.after(full)
  assert.equal(scene.entry(second, 'c').target, scene.pathOf('b'))
  for (const name of ['a', 'b']) assert.equal(scene.entry(second, name).extents[0]!.archive, full.archive)
  await requireEqualToFull(scene, second)
})

test('names of one file: new content or new attributes are told of all of them, content once', async () => {
  using scene = new Scene()
  for (const name of ['attributes', 'content']) {
    scene.file(`${name}-1`, 'shared')
    scene.hardLink(`${name}-2`, `${name}-1`)
  }
  const full = await scene.full()
  chmodSync(scene.at('attributes-2'), 0o600)
  scene.file('content-2', 'changed')
  const second = await scene.after(full)
  const names = ['attributes-1', 'attributes-2', 'content-1', 'content-2']
  assert.deepEqual(
    scene.changes(second),
    names.map((name) => `+ ${name}`),
  )
  assert.equal(second.end.counts.contentBytes, 'changed'.length)
  assert.equal(scene.entry(second, 'attributes-1').extents[0]!.archive, full.archive)
  await requireEqualToFull(scene, second)
})

test('names of one file: a later one that is newly selected is a link to what stands in an older archive', async () => {
  using scene = new Scene()
  scene.file('a', 'shared')
  scene.hardLink('b', 'a')
  const full = await scene.full(undefined, { exclude: ['b'] })
  const second = await scene.after(full)
  assert.deepEqual(scene.changes(second), ['+ b'])
  assert.equal(scene.entry(second, 'b').target, scene.pathOf('a'))
  assert.equal(second.end.counts.contentBytes, 0)
  await requireEqualToFull(scene, second)
})

test('names of one file: where only the later ones are selected still, the first of them is the file', async () => {
  using scene = new Scene()
  scene.file('a/name', 'shared')
  scene.hardLink('b/name', 'a/name')
  scene.hardLink('c/name', 'a/name')
  const full = await scene.full()
  const roots = [scene.root('b'), scene.root('c')]
  const second = await scene.after(full, { roots })
  assert.deepEqual(scene.changes(second), ['+ b/name', '+ c/name', '? a'])
  assert.equal(scene.content(second, 'b/name'), 'shared')
  assert.equal(scene.entry(second, 'c/name').target, scene.pathOf('b/name'))
  const third = await scene.after(second)
  for (const name of ['b/name', 'c/name'])
    assert.equal(scene.entry(third, name).target, scene.pathOf('a/name'))
  await requireEqualToFull(scene, third)
})

test('what may not be read now stands as it did, with all below it, and is no deletion', () => {
  using scene = new Scene()
  chmodSync(scene.path, 0o755)
  for (const name of ['closed/a', 'closed/b/c', 'closed.not', 'secret', 'z']) scene.file(name, name)
  const full = packInPlace([scene.root()])
  rmSync(scene.at('closed.not'))
  rmSync(scene.at('z'))
  for (const name of ['closed', 'secret']) chmodSync(scene.at(name), 0)
  const second = withoutRights(() => packInPlace([scene.root()], { baseline: full.entries }))
  assert.deepEqual(
    scene.within(second.entries).map(({ path }) => scene.nameOf(path)),
    ['closed'],
  )
  assert.deepEqual(
    second.gone.map(({ path }) => scene.nameOf(path)),
    ['closed.not', 'z'],
  )
  assert.equal(second.counts.unreadable, 2)
})

test('what vanishes while it is packed is gone, as it is in a full run', () => {
  using scene = new Scene()
  for (const name of ['a', 'b', 'c', 'd', 'e', 'folder/a', 'folder/b']) scene.file(name, 'before')
  scene.symlink('link', 'target')
  const full = packInPlace([scene.root()])
  const remove = (name: string) => rmSync(scene.at(name), { recursive: true, force: true })
  for (const name of ['a', 'b', 'd']) writeFileSync(scene.at(name), 'changed')
  lutimesSync(scene.at('link'), 1000, 1000)
  const swap = (name: string) => {
    if (name === 'a' || name === 'link') remove(name)
    if (name === 'b') {
      remove(name)
      scene.fifo(name)
    }
    if (name === 'd') {
      remove(name)
      scene.symlink(name, 'target')
    }
    if (name === 'folder') remove(name)
  }
  const second = packInPlace([scene.root()], {
    baseline: full.entries,
    onApproach: (path) => void (path === scene.pathOf('c') && remove('c')),
    onFound: (path) => swap(scene.nameOf(path)),
  })
  assert.deepEqual(
    scene.within(second.gone).map(({ path, reason }) => `${scene.nameOf(path)} ${reason}`),
    [
      'a deleted',
      'b deleted',
      'c deleted',
      'd deleted',
      'folder/a deleted',
      'folder/b deleted',
      'link deleted',
    ],
  )
  assert.deepEqual(scene.within(second.entries), [])
  assert.equal(second.counts.vanished, 6)
})

test('a folder that vanishes after a file took its place takes what stood below it along', () => {
  using scene = new Scene()
  scene.file('x/a', 'before')
  scene.file('x/b', 'before')
  scene.file('y', 'before')
  const full = packInPlace([scene.root()])
  rmSync(scene.at('x'), { recursive: true })
  scene.file('x', 'now a file')
  const second = packInPlace([scene.root()], {
    baseline: full.entries,
    onFound: (path) => void (path === scene.pathOf('x') && rmSync(scene.at('x'))),
  })
  assert.deepEqual(
    scene.within(second.gone).map(({ path }) => scene.nameOf(path)),
    ['x'],
  )
})

test('what is excluded now is unselected, and new again when it is not any more', async () => {
  using scene = new Scene()
  for (const name of ['cache/a', 'cache/b/c', 'keep/cache', 'keep/x.tmp', 'keep/y']) scene.file(name, name)
  const full = await scene.full()
  rmSync(scene.at('keep/y'))
  const exclude = ['cache/', '*.tmp']
  const second = await scene.after(full, { exclude })
  assert.deepEqual(scene.changes(second), ['+ keep', '? cache', '? keep/x.tmp', '- keep/y'])
  await requireEqualToFull(scene, second, { exclude })
  assert.deepEqual(scene.changes(await scene.after(second, { exclude })), [])
  const third = await scene.after(second)
  assert.deepEqual(scene.changes(third), [
    ...['+ cache', '+ cache/a', '+ cache/b', '+ cache/b/c', '+ keep/x.tmp'],
  ])
  await requireEqualToFull(scene, third)
})

test('what was deleted is told from what is excluded: a pattern for folders means no file, and a root counts', async () => {
  using scene = new Scene()
  for (const name of ['a/cache', 'b/cache/file', 'c/cache/file', 'd/cache/below/file']) scene.file(name, name)
  const roots = [scene.root(), scene.root('c/cache')]
  const full = await scene.full(roots)
  for (const name of ['a/cache', 'b/cache', 'c/cache/file', 'd/cache/below'])
    rmSync(scene.at(name), { recursive: true })
  const second = await scene.after(full, { roots, exclude: ['cache/'] })
  const gone = scene.changes(second).filter((change) => !change.startsWith('+'))
  assert.deepEqual(gone, ['- a/cache', '? b/cache', '- c/cache/file', '? d/cache'])
})

test('what is below a root no more is unselected, and what leads to a root is an ancestor from then on', async () => {
  using scene = new Scene()
  for (const name of ['a/b/file', 'a/c/file', 'd/file', 'e']) scene.file(name, name)
  const full = await scene.full()
  const roots = [scene.root('a/b')]
  const second = await scene.after(full, { roots })
  assert.deepEqual(scene.changes(second), ['+ a', '? a/c', '? d', '? e'])
  assert.equal(scene.entry(second, 'a').ancestor, true)
  assert.deepEqual(scene.changes(await scene.after(second, { roots })), [])
  const third = await scene.after(second)
  assert.deepEqual(scene.changes(third), ['+ a', '+ a/c', '+ a/c/file', '+ d', '+ d/file', '+ e'])
  assert.equal(scene.entry(third, 'a').ancestor, false)
  await requireEqualToFull(scene, third)
})

test('a root that is a link only is compared like anything else', async () => {
  using scene = new Scene()
  scene.file('target/file', 'content')
  scene.symlink('link', 'target')
  const roots = [scene.root('link', false), scene.root('target')]
  const full = await scene.full(roots)
  assert.deepEqual(scene.changes(await scene.after(full, { roots })), [])
  rmSync(scene.at('link'))
  const second = await scene.after(full, { roots })
  assert.deepEqual(scene.changes(second), ['- link'])
})

for (const batchRows of [1, 3, 7]) {
  test(`a baseline in batches of ${batchRows} tells the same as one in one batch`, async () => {
    using scene = new Scene()
    for (let i = 0; i < 30; i++) scene.file(`${i % 7}/${i}`, `${i}`)
    const full = await scene.full()
    for (let i = 0; i < 30; i += 4) scene.file(`${i % 7}/${i}`, `changed ${i}`)
    for (let i = 1; i < 30; i += 4) rmSync(scene.at(`${i % 7}/${i}`))
    rmSync(scene.at('6'), { recursive: true })
    scene.file('8/new', 'new')
    const whole = await scene.after(full)
    const second = await scene.after(full, { batchRows })
    assert.deepEqual(scene.changes(second), scene.changes(whole))
    await requireEqualToFull(scene, second)
  })
}

test('a baseline with much more than the tree has in it is all gone, in batches that ascend', async () => {
  using scene = new Scene()
  scene.file('m', 'content')
  const full = await scene.full()
  const like = scene.entry(full, 'm')
  const names = Array.from({ length: 20_000 }, (_, i) => `n${String(i).padStart(5, '0')}-${'x'.repeat(60)}`)
  const standing = [...full.standing, ...names.map((name) => ({ ...like, path: scene.pathOf(name) }))]
  const second = await scene.after({ ...full, standing })
  assert.deepEqual(
    scene.changes(second),
    names.map((name) => `- ${name}`),
  )
  assert.deepEqual(
    scene.within(second.standing).map(({ path }) => scene.nameOf(path)),
    ['m'],
  )
})

test('batches are asked for one at a time, few ahead, and none after the last', async () => {
  using scene = new Scene()
  for (let i = 0; i < 40; i++) scene.file(`${i}`, `${i}`)
  const full = await scene.full()
  const batches = baselineOf(full.standing, 5)
  let [underWay, ended, afterEnd] = [0, false, 0]
  const second = await scene.after(full, {
    async nextBaseline() {
      assert.equal(++underWay, 1)
      if (ended) afterEnd++
      const batch = await batches()
      await pause(1)
      ended = batch === null
      underWay--
      return batch
    },
  })
  assert.deepEqual(scene.changes(second), [])
  assert.ok(afterEnd <= 1)
})

test('a baseline that fails ends the packing with its error, be it the first batch or a later one', async () => {
  using scene = new Scene()
  for (let i = 0; i < 40; i++) scene.file(`${i}`, `${i}`)
  const full = await scene.full()
  for (const failing of [1, 3]) {
    const reason = new Error('the server is gone')
    const batches = baselineOf(full.standing, 5)
    let calls = 0
    const nextBaseline = async () => {
      if (++calls >= failing) throw reason
      return batches()
    }
    await assert.rejects(scene.after(full, { nextBaseline }), (error) => error === reason)
  }
})

test('a baseline that is no index frame ends the packing', async () => {
  using scene = new Scene()
  scene.file('file', 'content')
  const full = await scene.full()
  const frame = frameOf(new IndexBatchEncoder(null))
  for (const bytes of [Buffer.from('something else'), frame.subarray(0, -1), frame.subarray(8)]) {
    const nextBaseline = async () => bytes
    await assert.rejects(scene.after(full, { nextBaseline }), (error) => {
      assert.ok(error instanceof ArchiveError)
      assert.equal(error.code, 'pack-failed')
      return true
    })
  }
})

test('a packing that waits for its baseline is not taken for one whose file system hangs', async () => {
  using scene = new Scene()
  scene.file('file', 'content')
  const full = await scene.full()
  const batches = baselineOf(full.standing, 4000)
  const second = await scene.after(full, {
    stallMs: 100,
    // Longer than the watch takes from one look to the next.
    nextBaseline: () => pause(2500).then(batches),
  })
  assert.deepEqual(scene.changes(second), [])
})

test('a packing that waits for its baseline can be cancelled', async () => {
  using scene = new Scene()
  scene.file('file', 'content')
  const asked = Promise.withResolvers<void>()
  const nextBaseline = () => {
    asked.resolve()
    return new Promise<null>(() => {})
  }
  const selection = { roots: [scene.root()], exclude: [] }
  const packing = new Packing({ selection, header: incremental, nextBaseline }, pool)
  const reason = new Error('cancelled')
  void asked.promise.then(() => packing.cancel(reason))
  await assert.rejects(async () => {
    for await (const part of packing) part.release()
  }, reason)
})
