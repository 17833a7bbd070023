import { execFileSync } from 'node:child_process'
import { hash } from 'node:crypto'
import {
  type BigIntStats,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  ArchiveAssembly,
  type ArchiveHeader,
  ArchiveReader,
  type BytePath,
  bytesFromText,
  CompressorPool,
  ContentReader,
  comparePaths,
  type Entry,
  type EntryOrder,
  type EntryType,
  Packing,
  type RestoreSource,
} from '../src/index.ts'
import type { Member } from './sample.ts'

export const isRoot = process.geteuid!() === 0

/** A folder that is removed at the end of the block that holds it with `using`. */
export class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'archive-test-'))

  at(...parts: string[]): string {
    return join(this.path, ...parts)
  }

  [Symbol.dispose](): void {
    // Without root, nothing can be removed from a folder that forbids it.
    if (!isRoot) execFileSync('chmod', ['-R', 'u+rwx', this.path])
    rmSync(this.path, { recursive: true, force: true })
  }
}

export const archiveName = '2026-11-21T030000Z-full.tar.zst'

const header: ArchiveHeader = {
  host: 'web1',
  kind: 'full',
  base: null,
  startedAtMs: Date.UTC(2026, 10, 21, 3),
  software: 'a test',
  paths: ['/'],
  exclude: [],
  repack: null,
}

/** Entries in memory, with content from archive files, or from wherever `content` takes it. */
export class ListSource implements RestoreSource {
  readonly list: Entry[]
  readonly #content: (entry: Entry) => AsyncIterable<Buffer>

  constructor(entries: readonly Entry[], content: (entry: Entry) => AsyncIterable<Buffer>) {
    this.list = entries.toSorted((a, b) => comparePaths(a.path, b.path))
    this.#content = content
  }

  entries(order: EntryOrder, types?: readonly EntryType[]): Iterable<Entry> {
    const chosen = this.list.filter(({ type }) => types?.includes(type) ?? true)
    if (order === 'path-descending') chosen.reverse()
    if (order === 'content') chosen.sort((a, b) => offsetOf(a) - offsetOf(b))
    return chosen
  }

  entryAt(path: BytePath): Entry | null {
    return this.list.find((entry) => entry.path === path) ?? null
  }

  content(entry: Entry): AsyncIterable<Buffer> {
    return this.#content(entry)
  }

  /** Only what `select` lets through is selected; `entryAt` still finds the rest. */
  only(select: (entry: Entry) => boolean): RestoreSource {
    return {
      entries: (order, types) => [...this.entries(order, types)].filter(select),
      entryAt: (path) => this.entryAt(path),
      content: (entry) => this.content(entry),
    }
  }
}

function offsetOf(entry: Entry): number {
  return entry.extents[0]?.offset ?? -1
}

/** Packs what lies below `root`, an absolute path, into the file `archive`, with the real packer. */
export async function packTree(root: string, archive: string): Promise<Entry[]> {
  const pool = new CompressorPool(1)
  try {
    const selection = { roots: [{ path: bytesFromText(root.slice(1)), recursive: true }], exclude: [] }
    const assembly = new ArchiveAssembly()
    const parts: Buffer[] = []
    for await (const part of new Packing({ selection, header }, pool)) {
      const bytes = Buffer.from(part.bytes)
      if (part.kind === 'frame') assembly.addFrame(bytes)
      else assembly.addIndex(bytes)
      parts.push(bytes)
      part.release()
    }
    writeFileSync(archive, Buffer.concat([...parts, assembly.finish().seekTable]))
  } finally {
    await pool.close()
  }
  return readEntries(archive)
}

/** The entries of an archive's index, with its name in their extents. */
export async function readEntries(archive: string): Promise<Entry[]> {
  const entries: Entry[] = []
  await using reader = await ArchiveReader.open(archive)
  for await (const batch of reader.batches()) entries.push(...batch.entries)
  for (const entry of entries) {
    entry.extents = entry.extents.map((extent) => ({ ...extent, archive: extent.archive ?? archiveName }))
  }
  return entries
}

/** The content of entries comes from one archive, whatever they call it. */
export function sourceOf(entries: readonly Entry[], archive: string): ListSource & AsyncDisposable {
  const reader = new ContentReader(() => archive)
  const source = new ListSource(entries, (entry) => reader.read(entry))
  return Object.assign(source, { [Symbol.asyncDispose]: () => reader.close() })
}

/**
 * Everything below a folder that a restore has to bring back, as lines by path: comparable, and readable where it
 * differs. Names of one object are lines that name the first of them.
 */
export function describeTree(root: string, options: { owners?: boolean } = {}): Record<string, string> {
  const lines: Record<string, string> = {}
  const firstNames = new Map<string, string>()
  const visit = (path: string) => {
    const absolute = Buffer.from(path === '' ? root : `${root}/${path}`, 'latin1')
    const stats = lstatSync(absolute, { bigint: true })
    const key = `${stats.dev}:${stats.ino}`
    const first = firstNames.get(key)
    if (first === undefined) firstNames.set(key, path)
    const owner = options.owners === false ? '' : `${stats.uid}:${stats.gid} `
    const mode = (stats.mode & 0o7777n).toString(8)
    lines[path] =
      first === undefined ? `${owner}${mode} ${stats.mtimeNs} ${describe(absolute, stats)}` : `is ${first}`
    if (!stats.isDirectory()) return
    for (const name of readdirSync(absolute, 'latin1').sort()) visit(path === '' ? name : `${path}/${name}`)
  }
  visit('')
  return lines
}

function describe(path: Buffer, stats: BigIntStats): string {
  if (stats.isFile()) return `file ${stats.size} ${hash('sha256', readFileSync(path)).slice(0, 12)}`
  if (stats.isSymbolicLink()) return `symlink ${readlinkSync(path, 'latin1')}`
  if (stats.isDirectory()) return 'directory'
  if (stats.isFIFO()) return 'fifo'
  if (stats.isSocket()) return 'socket'
  return `${stats.isBlockDevice() ? 'block' : 'character'} device ${stats.rdev}`
}

/** Entries of this user, and their content, in memory: for what no packer makes. */
export function memberSource(members: readonly Member[]): ListSource {
  const contents = new Map(members.map(({ entry, content }) => [entry.path, content]))
  return new ListSource(
    members.map(({ entry }) => Object.assign(entry, { uid: process.geteuid!(), gid: process.getegid!() })),
    async function* (entry: Entry) {
      yield contents.get(entry.path) ?? Buffer.alloc(0)
    },
  )
}
