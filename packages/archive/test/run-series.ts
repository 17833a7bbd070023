import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  type ArchiveEnd,
  type BytePath,
  type CompressorPool,
  comparePaths,
  compressFrame,
  decodeIndexBatch,
  decompressFrame,
  type Entry,
  type Gone,
  IndexBatchEncoder,
  IndexSequence,
  indexFrameMagic,
  Packing,
  type PackingOptions,
  type PackWarning,
  type Root,
  storedBytes,
  unwrapSkippable,
  wrapSkippable,
} from '../src/index.ts'
import { header } from './sample.ts'

/** A run of the real packer, as a server would keep it. */
export interface SeriesRun {
  archive: string
  /** What the index names. Extents have the name of their archive, also where it is this one. */
  entries: Entry[]
  gone: Gone[]
  end: ArchiveEnd
  warnings: PackWarning[]
  /** All that stood in the run: what the index says, on top of what stood in its base. */
  standing: Entry[]
  tar: Buffer
}

export interface SeriesOptions extends Partial<Omit<PackingOptions, 'selection' | 'header'>> {
  exclude?: readonly string[]
  /** `null` for a full run. */
  base: SeriesRun | null
  /** What the baseline has of each entry of the base, where that is not the entry itself. */
  change?: (entry: Entry) => Entry
  /** Entries in a batch of the baseline. */
  batchRows?: number
}

/** Runs of the real packer, each full or compared with an earlier one, all in memory. */
export class RunSeries {
  readonly #pool: CompressorPool
  readonly #tars = new Map<string, Buffer>()

  constructor(pool: CompressorPool) {
    this.#pool = pool
  }

  async pack(roots: readonly Root[], options: SeriesOptions): Promise<SeriesRun> {
    const { exclude = [], base, batchRows = 4000, change = (entry) => entry, ...packingOptions } = options
    const archive = `run-${this.#tars.size}.tar.zst`
    const entries: Entry[] = []
    const gone: Gone[] = []
    const pieces: Buffer[] = []
    const warnings: PackWarning[] = []
    const sequence = new IndexSequence()
    const packing = new Packing(
      {
        selection: { roots, exclude },
        header: { ...header, kind: base === null ? 'full' : 'incremental', base: base?.archive ?? null },
        onWarning: (warning) => warnings.push(warning),
        nextBaseline: base === null ? undefined : baselineOf(base.standing.map(change), batchRows),
        ...packingOptions,
      },
      this.#pool,
    )
    for await (const part of packing) {
      if (part.kind === 'frame') pieces.push(decompressFrame(part.bytes))
      else {
        const batch = decodeIndexBatch(decompressFrame(unwrapSkippable(indexFrameMagic, part.bytes)))
        sequence.accept(batch)
        entries.push(...batch.entries.map((entry) => named(entry, archive)))
        gone.push(...batch.gone)
      }
      part.release()
    }
    sequence.finish()
    const tar = Buffer.concat(pieces)
    this.#tars.set(archive, tar)
    const { end } = packing
    assert.equal(end.counts.gone, gone.length)
    const standing = applyIndex(base?.standing ?? [], entries, gone)
    return { archive, entries, gone, end, warnings, standing, tar }
  }

  /** What is stored of the content of an entry, put together from the archives that hold it, and as it was recorded. */
  contentOf(entry: Entry): Buffer {
    const { path, extents, digest } = entry
    const pieces = extents.map(({ archive, offset, length }) =>
      this.#tars.get(archive!)!.subarray(offset, offset + length),
    )
    const content = Buffer.concat(pieces)
    assert.equal(content.length, storedBytes(entry), path)
    assert.deepEqual(createHash('sha256').update(content).digest(), Buffer.from(digest!), path)
    return content
  }
}

function named(entry: Entry, archive: string): Entry {
  const extents = entry.extents.map((extent) => ({ ...extent, archive: extent.archive ?? archive }))
  return { ...entry, extents }
}

/** Index frames of entries, as a server makes them, one for each call. */
export function baselineOf(entries: readonly Entry[], batchRows: number): () => Promise<Uint8Array | null> {
  let at = 0
  return async () => {
    if (at === entries.length) return null
    const encoder = new IndexBatchEncoder(null)
    for (const end = Math.min(at + batchRows, entries.length); at < end; at++)
      if (!encoder.add(entries[at]!)) break
    return frameOf(encoder)
  }
}

export function frameOf(encoder: IndexBatchEncoder): Buffer {
  return wrapSkippable(indexFrameMagic, compressFrame(encoder.take()))
}

/** What stands after a run, by what stood before and by what its index says: docs/archive-format.md, word by word. */
export function applyIndex(
  before: readonly Entry[],
  entries: readonly Entry[],
  gone: readonly Gone[],
): Entry[] {
  const standing = new Map<BytePath, Entry>()
  const ended = new Set(gone.map(({ path }) => path))
  for (const entry of before)
    if (!aboveAndSelf(entry.path).some((path) => ended.has(path))) standing.set(entry.path, entry)
  for (const entry of entries) standing.set(entry.path, entry)
  return [...standing.values()].sort((a, b) => comparePaths(a.path, b.path))
}

/** `a`, `a/b` and `a/b/c` of `a/b/c`. */
export function aboveAndSelf(path: BytePath): BytePath[] {
  const names = path.split('/')
  return names.map((_, i) => names.slice(0, i + 1).join('/') as BytePath)
}
