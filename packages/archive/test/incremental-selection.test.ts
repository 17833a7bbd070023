import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { type BytePath, CompressorPool, type Root, type RootRules } from '../src/index.ts'
import { PackingFolder } from './packing-folder.ts'
import { enterPrivateMounts, mount, mountNew, mountTmpfs, unmountAll } from './private-mounts.ts'
import { RunSeries, type SeriesRun } from './run-series.ts'

const skip = enterPrivateMounts()
const pool = new CompressorPool(1)
after(() => pool.close())

/** A tree, packed by rules that change from run to run. */
class Scene extends PackingFolder {
  readonly #runs = new RunSeries(pool)

  pack(base: SeriesRun | null, rules: RootRules = {}, roots: readonly Root[] = []): Promise<SeriesRun> {
    return this.#runs.pack([{ ...this.root(), rules }, ...roots], { base })
  }

  /** Names that are gone: `-` for what is deleted, `?` for what is unselected. */
  gone({ gone }: SeriesRun): string[] {
    const within = gone.filter(({ path }) => path.startsWith(`${this.pathOf()}/`))
    return within.map(({ path, reason }) => `${reason === 'deleted' ? '-' : '?'} ${this.nameOf(path)}`)
  }

  standing({ standing }: SeriesRun): string[] {
    return standing
      .map(({ path }) => path)
      .filter((path) => path.startsWith(`${this.pathOf()}/`))
      .map((path) => this.nameOf(path))
  }

  override [Symbol.dispose](): void {
    if (skip === false) for (const name of ['mnt', 'data']) tryUnmount(join(this.path, name))
    super[Symbol.dispose]()
  }
}

function tryUnmount(path: string): void {
  try {
    unmountAll(path)
  } catch {
    // Nothing is mounted there.
  }
}

test('what lies in a folder that is a cache now, or has a marker, or is too large, is unselected', async () => {
  using scene = new Scene()
  for (const name of ['a/x', 'b/c/x', 'b/d', 'c/large', 'd/x']) scene.file(name, name)
  const full = await scene.pack(null)
  scene.file('a/CACHEDIR.TAG', 'Signature: 8a477f597d28d172789f06886806bc55')
  scene.file('b/.nobackup')
  scene.file('c/large', 'x'.repeat(100))
  rmSync(scene.at('d/x'))
  const rules = { excludeCaches: true, excludeIfPresent: ['.nobackup' as BytePath], maxFileBytes: 50 }
  const second = await scene.pack(full, rules)
  assert.deepEqual(scene.gone(second), ['? a/x', '? b/c', '? b/d', '? c/large', '- d/x'])
  assert.deepEqual(scene.standing(second), ['a', 'a/CACHEDIR.TAG', 'b', 'b/.nobackup', 'c', 'd'])
  assert.deepEqual(scene.gone(await scene.pack(second, rules)), [])
})

test('below a root in a folder that is left out, what is deleted is deleted', async () => {
  using scene = new Scene()
  for (const name of ['a/r/x', 'a/r/y', 'a/s', 'a/z']) scene.file(name, name)
  const full = await scene.pack(null)
  scene.file('a/.nobackup')
  rmSync(scene.at('a/r/x'))
  const rules = { excludeIfPresent: ['.nobackup' as BytePath] }
  const second = await scene.pack(full, rules, [scene.root('a/r')])
  assert.deepEqual(scene.gone(second), ['- a/r/x', '? a/s', '? a/z'])
})

test('what is taken back below an excluded folder is deleted when it is deleted, and the rest is unselected', async () => {
  using scene = new Scene()
  for (const name of ['cache/a/x', 'cache/keep/x', 'cache/keep/y']) scene.file(name, name)
  const full = await scene.pack(null)
  rmSync(scene.at('cache/keep/x'))
  const cache = `${scene.path}/cache`
  const second = await scene.pack(full, { exclude: [cache, `!${cache}/keep`] })
  assert.deepEqual(scene.gone(second), ['? cache/a', '- cache/keep/x'])
  assert.deepEqual(scene.standing(second), ['cache', 'cache/keep', 'cache/keep/y'])
})

test('what a mount covers now is unselected, with oneFileSystem and where the mount holds no data', {
  skip,
}, async () => {
  using scene = new Scene()
  for (const name of ['data/x', 'data/y/z', 'mnt/x', 'other']) scene.file(name, name)
  const full = await scene.pack(null)
  mountTmpfs(join(scene.path, 'data'))
  mount(join(scene.path, 'mnt'), '-t', 'proc', 'proc')
  const second = await scene.pack(full, { oneFileSystem: true })
  assert.deepEqual(scene.gone(second), ['? data/x', '? data/y', '? mnt/x'])
  assert.deepEqual(scene.standing(second), ['data', 'mnt', 'other'])
  assert.deepEqual(second.warnings, [], 'what is in memory need not be told')
})

test('a file system that is left out is told once, and is no fault of the run', { skip }, async (t) => {
  using scene = new Scene()
  scene.file('other')
  const reason = mountNew('ext4', scene.path, join(scene.path, 'data'))
  if (reason !== false) {
    t.skip(reason)
    return
  }
  const run = await scene.pack(null, { oneFileSystem: true, exclude: ['*.image'] })
  assert.equal(run.end.outcome, 'complete')
  assert.deepEqual(
    run.warnings.map(({ code, path }) => [code, path]),
    [['mounts-left-out', scene.pathOf('data')]],
  )
  assert.match(run.warnings[0]!.message, /left out: "\/.*\/data" \(ext4\); name in paths/)
  const excluded = await scene.pack(null, { oneFileSystem: true, exclude: ['*.image', 'data'] })
  assert.deepEqual(excluded.warnings, [])
})

test('a file system that is not mounted this time is not deleted: it stands as it did, and the run is incomplete', {
  skip,
}, async () => {
  using scene = new Scene()
  scene.file('other')
  scene.file('gone')
  mountTmpfs(join(scene.path, 'data'))
  for (const name of ['data/x', 'data/y/z']) scene.file(name, name)
  const full = await scene.pack(null)
  assert.deepEqual(scene.standing(full), ['data', 'data/x', 'data/y', 'data/y/z', 'gone', 'other'])
  unmountAll(join(scene.path, 'data'))
  rmSync(scene.at('gone'))
  const second = await scene.pack(full)
  assert.deepEqual(scene.gone(second), ['- gone'])
  assert.deepEqual(scene.standing(second), ['data', 'data/x', 'data/y', 'data/y/z', 'other'])
  assert.equal(second.end.outcome, 'incomplete')
  assert.deepEqual(
    second.warnings.map(({ code, path }) => [code, path]),
    [['not-mounted', scene.pathOf('data')]],
  )
  assert.deepEqual(scene.gone(await scene.pack(second)), [], 'also the next time')

  const excluded = await scene.pack(second, { exclude: ['data'] })
  assert.deepEqual([scene.gone(excluded), excluded.end.outcome], [['? data'], 'complete'])
})

test('what was on a file system and is not below the folder now is unselected, as that may be mounted elsewhere', {
  skip,
}, async () => {
  using scene = new Scene()
  mountTmpfs(join(scene.path, 'data'))
  for (const name of ['data/moved', 'data/x']) scene.file(name, name)
  const full = await scene.pack(null)
  unmountAll(join(scene.path, 'data'))
  scene.file('data/moved', 'data/moved')
  const second = await scene.pack(full)
  assert.deepEqual([scene.gone(second), second.end.outcome], [['? data/x'], 'complete'])
  rmSync(scene.at('data/moved'))
  scene.file('data/new')
  assert.deepEqual(scene.gone(await scene.pack(second)), ['- data/moved'])
})

test('what a mount hides is unselected, also where the mount is entered', { skip }, async () => {
  using scene = new Scene()
  for (const name of ['data/x', 'data/y']) scene.file(name, name)
  const full = await scene.pack(null)
  mountTmpfs(join(scene.path, 'data'))
  scene.file('data/y', 'another')
  const second = await scene.pack(full)
  assert.deepEqual(scene.gone(second), ['? data/x'])
  assert.deepEqual(scene.gone(await scene.pack(second)), [])
  rmSync(scene.at('data/y'))
  const third = await scene.pack(second)
  assert.deepEqual(scene.gone(third), ['- data/y'])
})

test('a mount point of which nothing was packed may be unmounted', { skip }, async () => {
  using scene = new Scene()
  scene.file('other')
  mountTmpfs(join(scene.path, 'data'))
  scene.file('data/x')
  const full = await scene.pack(null, { oneFileSystem: true })
  unmountAll(join(scene.path, 'data'))
  const second = await scene.pack(full, { oneFileSystem: true })
  assert.deepEqual([scene.gone(second), second.end.outcome, second.warnings], [[], 'complete', []])
})

test('whatever the rules of two runs are, the second stands for what a full run would pack', async () => {
  const tag = 'Signature: 8a477f597d28d172789f06886806bc55'
  const files = [
    'a/x',
    'a/y/z',
    'a/y/large',
    'b/CACHEDIR.TAG',
    'b/c/x',
    'b/y',
    'c/.nobackup',
    'c/a/x',
    'c/large',
    'x',
    'd/a/y',
  ]
  const pattern = fc.constantFrom(
    'a',
    '!a',
    'a/',
    '!a/',
    'x',
    '!x',
    '*',
    '!*',
    'y/**',
    '!y/**',
    'c/*',
    '!c/*',
    '**/a/x',
    '!c/a/x',
  )
  const rules = fc.record(
    {
      exclude: fc.array(pattern, { maxLength: 4 }),
      excludeCaches: fc.boolean(),
      excludeIfPresent: fc.constant(['.nobackup' as BytePath]),
      maxFileBytes: fc.constant(50),
    },
    { requiredKeys: [] },
  )
  const removed = fc.subarray(['a/x', 'a/y', 'b/CACHEDIR.TAG', 'b/c', 'c/.nobackup', 'c/a', 'x', 'd'])
  const roots = fc.subarray(['a/y', 'c/a', 'b/c'])
  await fc.assert(
    fc.asyncProperty(rules, rules, removed, roots, async (first, second, gone, names) => {
      using scene = new Scene()
      for (const name of files)
        scene.file(name, name.endsWith('large') ? 'x'.repeat(100) : name.endsWith('.TAG') ? tag : name)
      const before = await scene.pack(null, first)
      for (const name of gone) rmSync(scene.at(name), { recursive: true })
      const more = names
        .filter((name) => !gone.some((one) => name.startsWith(one)))
        .map((name) => scene.root(name))
      const after = await scene.pack(before, second, more)
      const full = await scene.pack(null, second, more)
      assert.deepEqual(scene.standing(after), scene.standing(full))
      // Whatever is called deleted was removed, and whatever still is there is not called so.
      for (const one of scene.gone(after)) {
        const name = one.slice(2)
        if (one.startsWith('- '))
          assert.ok(
            gone.some((path) => name === path || name.startsWith(`${path}/`) || path.startsWith(`${name}/`)),
            one,
          )
      }
      assert.deepEqual(scene.gone(await scene.pack(after, second, more)), [])
    }),
    {
      numRuns: 15,
      // A folder that is entered for what is taken back below it, and only there found to have a marker.
      examples: [[{}, { exclude: ['*', '!c/*'], excludeIfPresent: ['.nobackup' as BytePath] }, [], []]],
    },
  )
})
