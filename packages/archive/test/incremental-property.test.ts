import assert from 'node:assert/strict'
import {
  chmodSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, resolve } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { CompressorPool, type Entry, isWithin, type Root } from '../src/index.ts'
import { PackingFolder } from './packing-folder.ts'
import { RunSeries, type SeriesRun } from './run-series.ts'

const pool = new CompressorPool(1)
after(() => pool.close())

// Few names, of which some sort badly, so that edits meet what is there.
const names = ['a', 'b', 'a.b', 'a-', 'B']
const path = fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 4 }).map((all) => all.join('/'))
/** Of few sizes, so that content changes without them. */
const content = fc.constantFrom('', 'one', 'two', 'six', 'three', 'seven')

type Edit =
  | { kind: 'file'; path: string; content: string; keepTimes: boolean }
  | { kind: 'folder' | 'remove' | 'chmod' | 'touch'; path: string }
  | { kind: 'symlink' | 'link' | 'rename'; path: string; other: string }

const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('file'), path, content, keepTimes: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constantFrom('folder', 'remove', 'chmod', 'touch'), path }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom('symlink', 'link', 'rename'), path, other: path }),
  },
)

/** What a run selects of the tree. */
const selection = fc.record({
  roots: fc.oneof(
    { weight: 3, arbitrary: fc.constant(['']) },
    {
      weight: 1,
      arbitrary: fc.array(fc.constantFrom('a', 'b', 'a/b', 'a.b'), { minLength: 1, maxLength: 3 }),
    },
  ),
  exclude: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.constantFrom('B', 'a.b', 'b/', 'a/b', 'a/'), { maxLength: 2 }) },
  ),
})

test('after any edits, an incremental run on top of the one before it is what a full run is', async () => {
  const rounds = fc.array(fc.tuple(fc.array(edit, { maxLength: 8 }), selection), {
    minLength: 1,
    maxLength: 3,
  })
  const state = fc.tuple(fc.array(edit, { maxLength: 25 }), selection)
  await fc.assert(
    fc.asyncProperty(state, rounds, fc.integer({ min: 1, max: 9 }), async (first, rounds, batchRows) => {
      using folder = new PackingFolder()
      const runs = new RunSeries(pool)
      let base: SeriesRun | null = null
      for (const [edits, { roots, exclude }] of [first, ...rounds]) {
        for (const one of edits) apply(folder, one)
        const chosen = rootsOf(folder, roots)
        const full = await runs.pack(chosen, { base: null, exclude })
        const run: SeriesRun = await runs.pack(chosen, { base, exclude, batchRows })
        assert.deepEqual(bare(folder, run.standing), bare(folder, full.standing))
        for (const entry of within(folder, run.standing)) if (entry.type === 'file') runs.contentOf(entry)
        if (base !== null) requireNothingTwice(run, base)
        const again = await runs.pack(chosen, { base: run, exclude, batchRows })
        assert.deepEqual(within(folder, again.entries), [])
        assert.deepEqual(again.gone, [])
        base = run
      }
    }),
    { numRuns: 15 },
  )
})

/** What lies below the folder; what is above it may change at any time. */
function within(folder: PackingFolder, entries: readonly Entry[]): Entry[] {
  return entries.filter(({ path }) => path.startsWith(`${folder.pathOf()}/`))
}

/** All but where the content lies. */
function bare(folder: PackingFolder, entries: readonly Entry[]): Entry[] {
  return within(folder, entries).map((entry) => ({ ...entry, extents: [] }))
}

/** A file whose content is that of the run before is not packed again, and what is gone is named once. */
function requireNothingTwice(run: SeriesRun, base: SeriesRun): void {
  const stood = new Map(base.standing.map((entry) => [entry.path, entry]))
  for (const entry of run.entries) {
    const before = stood.get(entry.path)
    if (entry.type !== 'file' || before?.type !== 'file' || entry.size === 0) continue
    if (Buffer.from(entry.digest!).equals(before.digest!)) assert.deepEqual(entry.extents, before.extents)
  }
  for (const { path } of run.gone) {
    assert.ok(stood.has(path))
    assert.ok(run.gone.every((other) => other.path === path || !isWithin(path, other.path)))
    assert.ok(run.standing.every((entry) => !isWithin(entry.path, path)))
  }
}

function rootsOf(folder: PackingFolder, roots: readonly string[]): Root[] {
  return roots.filter((root) => isPresent(folder, root)).map((root) => folder.root(root))
}

/** Whether it is there, and no link leads to it. */
function isPresent(folder: PackingFolder, root: string): boolean {
  try {
    const above = folder.at(dirname(root)).toString()
    return root === '' || (realpathSync(above) === resolve(above) && lstatSync(folder.at(root)) !== undefined)
  } catch (error) {
    if ('syscall' in (error as object)) return false
    throw error
  }
}

/** An edit that does not fit what is there is passed over. */
function apply(folder: PackingFolder, edit: Edit): void {
  try {
    make(folder.at(edit.path), edit, folder)
  } catch (error) {
    if (!('syscall' in (error as object))) throw error
  }
}

function make(at: Buffer, edit: Edit, folder: PackingFolder): void {
  const above = folder.at(dirname(edit.path))
  const makesAbove = ['file', 'symlink', 'link', 'rename'].includes(edit.kind)
  if (makesAbove) mkdirSync(above, { recursive: true })
  switch (edit.kind) {
    case 'file': {
      const before = lstatSync(at, { throwIfNoEntry: false })
      writeFileSync(at, edit.content)
      if (edit.keepTimes && before?.isFile()) utimesSync(at, before.atime, before.mtime)
      break
    }
    case 'folder':
      mkdirSync(at, { recursive: true })
      break
    case 'remove':
      rmSync(at, { recursive: true })
      break
    case 'chmod':
      chmodSync(at, lstatSync(at).mode ^ 0o011)
      break
    case 'touch':
      lutimesSync(at, 1000, 1000)
      break
    case 'symlink':
      symlinkSync(edit.other, at)
      break
    case 'link':
      linkSync(folder.at(edit.other), at)
      break
    case 'rename':
      renameSync(folder.at(edit.other), at)
  }
}
