import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import {
  type BytePath,
  type Counts,
  comparePaths,
  decodeIndexBatch,
  type Entry,
  frameBytesMax,
  type Gone,
  IndexSequence,
  type PackWarning,
  paddingBytes,
  type Root,
  SharedState,
  storedBytes,
} from '../src/index.ts'
import { BlockWriter } from '../src/pack/block-writer.ts'
import { IndexWriter } from '../src/pack/index-writer.ts'
import { packSelection } from '../src/pack/packer.ts'
import { listWithGnuTar } from './oracles.ts'
import type { PackingFolder } from './packing-folder.ts'
import { header, incremental } from './sample.ts'

/** What a packer has made, with nothing compressed and all of it in memory. */
export interface Packed {
  tar: Buffer
  entries: Entry[]
  gone: Gone[]
  warnings: PackWarning[]
  counts: Counts
}

/** The places of a run at which a test changes the tree. All are called in the midst of synchronous work. */
export interface PackHooks {
  /** Before anything is done with a path. */
  onApproach?(path: BytePath): void
  /** Between the look at an object and its opening. */
  onFound?(path: BytePath): void
  /** After some content of a file was read; `total` is how much of it. */
  onRead?(path: BytePath, total: number): void
}

export interface PackOptions extends PackHooks {
  exclude?: readonly string[]
  listOnly?: boolean
  /** What stood in the run before. */
  baseline?: readonly Entry[]
}

class HookedState extends SharedState {
  readonly #hooks: PackHooks
  #current = '' as BytePath
  #total = 0

  constructor(hooks: PackHooks) {
    super()
    this.#hooks = hooks
  }

  override approach(path: BytePath): void {
    super.approach(path)
    this.#current = path
    this.#total = 0
    this.#hooks.onApproach?.(path)
  }

  override addEntry(): void {
    super.addEntry()
    this.#hooks.onFound?.(this.#current)
  }

  override addContent(bytes: number): void {
    super.addContent(bytes)
    this.#total += bytes
    this.#hooks.onRead?.(this.#current, this.#total)
  }
}

/** Packs in this thread, so that hooks can change the tree at exactly the place they mean. */
export function packInPlace(roots: readonly Root[], options: PackOptions = {}): Packed {
  const pieces: Buffer[] = []
  const entries: Entry[] = []
  const gone: Gone[] = []
  const sequence = new IndexSequence()
  const warnings: PackWarning[] = []
  const { exclude = [], listOnly = false, baseline, ...hooks } = options
  const index = new IndexWriter(baseline === undefined ? header : incremental, (encoded) => {
    const batch = decodeIndexBatch(encoded, listOnly ? 'listing' : 'archive')
    sequence.accept(batch)
    entries.push(...batch.entries)
    gone.push(...batch.gone)
  })
  const blocks = new BlockWriter({
    take: () => Buffer.alloc(frameBytesMax),
    give(block, length) {
      pieces.push(Buffer.from(block.subarray(0, length)))
      index.blockSent()
    },
  })
  const state = new HookedState(hooks)
  const warn = (warning: PackWarning) => warnings.push(warning)
  const sinks = { blocks, index, state, warn }
  const before = baseline?.values()
  const next = before === undefined ? null : () => before.next().value ?? null
  const { counts } = packSelection({ roots, exclude }, sinks, { listOnly, baseline: next })
  index.finish({ outcome: 'complete', counts, finishedAtMs: 0, broken: false })
  sequence.finish()
  return { tar: Buffer.concat(pieces), entries, gone, warnings, counts }
}

/**
 * Fails unless index and tar stream agree: every entry has its member, in order and with its attributes, as GNU tar
 * reads them, and its content has the digest that is recorded.
 */
export function requireSound(packed: Packed, folder: PackingFolder): void {
  const { tar, entries } = packed
  assert.deepEqual(
    entries.map(({ path }) => path),
    entries.map(({ path }) => path).sort(comparePaths),
  )
  for (const entry of entries.filter(({ type }) => type === 'file')) {
    const [extent] = entry.extents
    const stored = storedBytes(entry)
    assert.equal(extent?.length ?? 0, stored, entry.path)
    const offset = extent?.offset ?? 0
    const content = tar.subarray(offset, offset + stored)
    assert.deepEqual(createHash('sha256').update(content).digest(), Buffer.from(entry.digest!), entry.path)
    const padding = tar.subarray(offset + stored, offset + stored + paddingBytes(stored))
    if (stored > 0) assert.ok(padding.every((byte) => byte === 0))
  }
  const path = `${folder.path}.tar`
  using _ = { [Symbol.dispose]: () => rmSync(path) }
  writeFileSync(path, tar)
  const members = entries.filter(({ type }) => type !== 'socket')
  const listed = listWithGnuTar(path)
  assert.equal(listed.length, members.length)
  for (const [i, entry] of members.entries()) {
    // GNU tar 1.34 shows such times wrong, also those of its own archives, and restores them right.
    const shownWrong = entry.mtimeSeconds < 0 && entry.mtimeNanoseconds > 0
    assert.deepEqual(listed[i], {
      path: entry.path,
      type: entry.type,
      size: entry.size,
      uid: entry.uid,
      gid: entry.gid,
      mode: entry.mode,
      mtime: shownWrong
        ? listed[i]!.mtime
        : `${entry.mtimeSeconds}.${String(entry.mtimeNanoseconds).padStart(9, '0')}`,
      target: entry.target ?? '',
    })
  }
}

/** Entries below the folder by their names in it. */
export function entriesIn(folder: PackingFolder, { entries }: Packed): Record<string, Entry> {
  const within = entries.filter(({ path }) => path.startsWith(`${folder.pathOf()}/`))
  return Object.fromEntries(within.map((entry) => [folder.nameOf(entry.path), entry]))
}

/** What is stored of the content of an entry, as it stands in the tar stream. */
export function contentOf({ tar }: Packed, entry: Entry): Buffer {
  const [extent] = entry.extents
  return extent === undefined ? Buffer.alloc(0) : tar.subarray(extent.offset, extent.offset + extent.length)
}

/** Warnings below the folder, as `code name`. */
export function warningsIn(folder: PackingFolder, { warnings }: Packed): string[] {
  return warnings.map(({ code, path }) => `${code} ${folder.nameOf(path)}`)
}
