import { basename } from 'node:path'
import type { ArchiveHeader, Entry, Gone } from './entry.ts'
import { ArchiveError } from './errors.ts'
import { headerArchivesMax } from './limits.ts'
import { type BytePath, comparePaths, isWithin, quotePath } from './path.ts'
import { ArchiveReader } from './reader.ts'

/**
 * An archive of which only the index is needed any more, and that the archive after it takes over: what its run changed
 * is then told as if that had been changed in the run after it.
 */
export interface Absorbed {
  /** Where the file is. */
  path: string
  /** Paths of the entries of its index that still stand, in path order; asked for twice. None has content in it. */
  paths(): Iterable<BytePath>
}

/**
 * The header of an archive that takes over what stands before it. Throws an `ArchiveError` where they do not follow
 * each other.
 */
export async function absorbHeaders(
  header: ArchiveHeader,
  path: string,
  absorbed: readonly Absorbed[],
  kept: readonly string[],
): Promise<ArchiveHeader> {
  const names: string[] = []
  let base: string | null = null
  let last: string | null = null
  for (const { path } of absorbed) {
    const one = await headerOf(path)
    if (one.base === null || (last !== null && one.base !== last)) throw notInChain(path)
    base ??= one.base
    last = basename(path)
    names.push(...(one.repack?.absorbed ?? []), last)
  }
  if (last !== null && header.base !== last) throw notInChain(path)
  names.push(...(header.repack?.absorbed ?? []))
  // The oldest have long been removed, and are named in case that somebody brings them back.
  return {
    ...header,
    base: base ?? header.base,
    repack: { kept, absorbed: names.slice(-headerArchivesMax) },
  }
}

/** The header of an archive. Throws an `ArchiveError` where there is none. */
export async function headerOf(path: string): Promise<ArchiveHeader> {
  await using reader = await ArchiveReader.open(path)
  for await (const { header } of reader.batches()) if (header !== null) return header
  throw new ArchiveError('index-incomplete', `${path}: the index has no header`)
}

/** Entries of archives that are taken over, as far as they still stand, in path order. */
export function carriedEntries(absorbed: readonly Absorbed[]): AsyncGenerator<Entry, void, void> {
  return mergeByPath(absorbed.map(standingEntries))
}

async function* standingEntries({ path, paths }: Absorbed): AsyncGenerator<Entry, void, void> {
  const wanted = paths()[Symbol.iterator]()
  let next = wanted.next()
  if (next.done) return
  await using reader = await ArchiveReader.open(path)
  for await (const { entries } of reader.batches()) {
    for (const entry of entries) {
      if (next.done) return
      if (comparePaths(next.value, entry.path) < 0) break
      if (next.value !== entry.path) continue
      if (entry.extents.some(({ archive }) => archive === null))
        throw notTaken(path, `the content of ${quotePath(entry.path)} lies in it`)
      yield entry
      next = wanted.next()
    }
  }
  if (!next.done) throw notTaken(path, `its index lacks ${quotePath(next.value)}`)
}

/** A path that is gone, and the place in the chain of the archive that says so. */
interface AgedGone extends Gone {
  age: number
}

/**
 * What is gone by archives that follow each other, the oldest first, as one list: of what stood in the base of the first, each
 * path is told by whoever ended it first. What a later one names at or below a path of an earlier one
 * had come in between, or is gone twice. What an earlier one names below a path of a later one stays for its reason.
 */
export async function* mergeGone(lists: readonly AsyncIterable<Gone>[]): AsyncGenerator<Gone, void, void> {
  const aged = lists.map(async function* (list, age): AsyncGenerator<AgedGone, void, void> {
    for await (const gone of list) yield { ...gone, age }
  })
  /** The last path that was told, and those above it. */
  const above: AgedGone[] = []
  for await (const gone of mergeByPath(aged)) {
    while (above.length > 0 && !isWithin(gone.path, above.at(-1)!.path)) above.pop()
    if (above.some(({ age }) => age < gone.age)) continue
    above.push(gone)
    yield { path: gone.path, reason: gone.reason }
  }
}

/** What is gone by the index of an archive, opened when it comes to that. */
export async function* goneOf(path: string): AsyncGenerator<Gone, void, void> {
  await using reader = await ArchiveReader.open(path)
  for await (const { gone } of reader.batches()) yield* gone
}

/** Lists in path order as one; of equal paths, those of the first list come first. */
export async function* mergeByPath<T extends { path: BytePath }>(
  lists: readonly AsyncGenerator<T, void, void>[],
): AsyncGenerator<T, void, void> {
  const heads: { value: T; list: AsyncGenerator<T, void, void>; place: number }[] = []
  try {
    for (const [place, list] of lists.entries()) {
      const { value } = await list.next()
      if (value !== undefined) insert(heads, { value, list, place })
    }
    for (let head = heads.shift(); head !== undefined; head = heads.shift()) {
      yield head.value
      const { value } = await head.list.next()
      if (value !== undefined) insert(heads, { ...head, value })
    }
  } finally {
    for (const list of lists) await list.return()
  }
}

/** Keeps `heads` in order: some hundred at most, of which the first goes on most of the time. */
function insert<T extends { value: { path: BytePath }; place: number }>(heads: T[], head: T): void {
  let [low, high] = [0, heads.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const other = heads[middle]!
    const order = comparePaths(other.value.path, head.value.path) || other.place - head.place
    if (order < 0) low = middle + 1
    else high = middle
  }
  heads.splice(low, 0, head)
}

function notInChain(path: string): ArchiveError {
  return notTaken(path, 'it does not build on the archive before it')
}

function notTaken(path: string, reason: string): ArchiveError {
  return new ArchiveError('repack-refused', `${path} cannot be merged: ${reason}`, {
    hint: 'It was left as it is. backup-server verify looks for damage, and catalog rebuild makes the catalog from the archives.',
  })
}
