import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ArchiveAssembly,
  type ArchiveEnd,
  type Counts,
  comparePaths,
  compressFrame,
  type Entry,
  encodeEntryHeader,
  encodeIndexBatch,
  endOfArchive,
  formatArchiveName,
  frameBytesMax,
  type Gone,
  indexFrameMagic,
  type Outcome,
  paddingBytes,
  wrapSkippable,
} from '@central-backup/archive'
import { bytes, file, type Member, other } from '../../archive/test/sample.ts'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { ingestArchive } from '../src/catalog/ingest-archive.ts'
import { takeLease } from '../src/catalog/lease.ts'
import type { ServerSettings } from '../src/config/settings.ts'
import { applyPrune, type PruneContext } from '../src/jobs/prune.ts'
import { archivePath } from '../src/storage/archive-list.ts'
import { createRepository, type Repository } from '../src/storage/repository.ts'
import { TemporaryFolder } from './temporary-folder.ts'

/** Runs as agents would have made them, written into a repository without any agent. */

/** By path: a folder, a file with this content, or anything else. */
export type Tree = Readonly<Record<string, 'folder' | { content: string } | Member>>

export interface PastRun {
  /** Whole seconds are what archives are named by. */
  startedAtMs: number
  /** The archive that an incremental run builds on; a full run has none. */
  base?: string
  /** What is new or changed. */
  tree?: Tree
  gone?: readonly string[]
  /** Gone because they are no longer selected. */
  unselected?: readonly string[]
  outcome?: Outcome
}

/** How long what is removed stays in the trash. */
export const trashDays = 2

/** The morning of the `n`th day. */
export function day(n: number): number {
  return Date.UTC(2026, 10, n, 3)
}

/** Entries with content in order of path, and the tar stream in which that lies. */
export function packMembers(tree: Tree): { entries: Entry[]; tar: Buffer } {
  const members = Object.entries(tree).map(([path, what]) => {
    if (what === 'folder') return other(path, 'directory', { mode: 0o755 })
    return 'content' in what && typeof what.content === 'string' ? file(path, what.content) : (what as Member)
  })
  members.sort((a, b) => comparePaths(a.entry.path, b.entry.path))
  const pieces: Buffer[] = []
  let offset = 0
  const write = (piece: Uint8Array) => {
    pieces.push(Buffer.from(piece))
    offset += piece.length
  }
  for (const { entry, content } of members) {
    // What lies in another archive, and sockets, are in the index only.
    if (entry.extents.length > 0 || entry.type === 'socket') continue
    write(encodeEntryHeader(entry))
    if (content.length > 0) entry.extents = [{ archive: null, offset, length: content.length }]
    write(content)
    write(Buffer.alloc(paddingBytes(content.length)))
  }
  write(endOfArchive)
  return { entries: members.map(({ entry }) => entry), tar: Buffer.concat(pieces) }
}

/** Writes the archive of a run, which the catalog does not know then, and returns its name. */
export function writePastRun(repository: Repository, host: string, run: PastRun): string {
  const { startedAtMs, base = null, tree = {}, gone = [], unselected = [], outcome = 'complete' } = run
  const kind = base === null ? 'full' : 'incremental'
  const { entries, tar } = packMembers(tree)
  const assembly = new ArchiveAssembly()
  const pieces: Buffer[] = []
  for (let at = 0; at < tar.length; at += frameBytesMax) {
    pieces.push(compressFrame(tar.subarray(at, at + frameBytesMax)))
    assembly.addFrame(pieces.at(-1)!)
  }
  const batch = encodeIndexBatch({
    header: { host, kind, base, startedAtMs, software: 'a test', paths: ['/'], exclude: [], repack: null },
    entries,
    gone: [
      ...gone.map((path): Gone => ({ path: bytes(path), reason: 'deleted' })),
      ...unselected.map((path): Gone => ({ path: bytes(path), reason: 'unselected' })),
    ].sort((a, b) => comparePaths(a.path, b.path)),
    end: endOf(entries, gone.length + unselected.length, outcome, startedAtMs + 60_000),
  })
  const index = wrapSkippable(indexFrameMagic, compressFrame(batch))
  assembly.addIndex(index)
  const name = formatArchiveName({ startedAtMs, kind })
  mkdirSync(join(repository.folder, 'archives', host), { recursive: true, mode: 0o700 })
  writeFileSync(
    archivePath(repository, host, name),
    Buffer.concat([...pieces, index, assembly.finish().seekTable]),
  )
  return name
}

function endOf(entries: readonly Entry[], gone: number, outcome: Outcome, finishedAtMs: number): ArchiveEnd {
  const count = (...types: Entry['type'][]) => entries.filter(({ type }) => types.includes(type)).length
  const counts: Counts = {
    files: count('file'),
    directories: count('directory'),
    symlinks: count('symlink'),
    hardlinks: count('hardlink'),
    specials: count('fifo', 'character-device', 'block-device'),
    sockets: count('socket'),
    unchanged: 0,
    gone,
    excluded: 0,
    changed: 0,
    vanished: 0,
    unreadable: 0,
    attributes: 0,
    contentBytes: entries.reduce((sum, { size }) => sum + size, 0),
  }
  return { outcome, counts, finishedAtMs, broken: false }
}

/** A repository and its catalog in a temporary folder, with runs of the host `web1`. */
export class PastRuns implements Disposable {
  /** What the clock of the catalog says. */
  nowMs = day(30)
  readonly folder: TemporaryFolder
  readonly repository: Repository
  readonly catalog: Catalog
  readonly prune: PruneContext
  /** The archive that the next incremental run builds on. */
  #last: string | undefined

  private constructor(repository: Repository, folder: TemporaryFolder) {
    this.folder = folder
    this.repository = repository
    this.catalog = new Catalog(repository.catalogFile, { now: () => this.nowMs })
    const settings = { trashMs: trashDays * 24 * 3_600_000 } as ServerSettings
    this.prune = { catalog: this.catalog, repository, settings, now: () => this.nowMs }
  }

  static async create(): Promise<PastRuns> {
    const folder = new TemporaryFolder()
    return new PastRuns(await createRepository(folder.at('repository')), folder)
  }

  path(archive: string): string {
    return archivePath(this.repository, 'web1', archive)
  }

  /** Takes an archive of web1 into the catalog. */
  async ingest(name: string): Promise<Run> {
    using lease = takeLease(this.catalog, 'web1')
    const { id } = await ingestArchive(this.catalog, lease, { host: 'web1', name, path: this.path(name) })
    return this.catalog.runs('web1').find((run) => run.id === id)!
  }

  /** Writes a run, and has the catalog know it. An incremental one builds on the run that was added last. */
  async add(run: Omit<PastRun, 'base'> & { kind?: 'full' | 'incremental' }): Promise<Run> {
    const { kind = 'incremental', ...rest } = run
    const base = kind === 'full' ? undefined : this.#last
    const name = writePastRun(this.repository, 'web1', base === undefined ? rest : { ...rest, base })
    this.#last = name
    return this.ingest(name)
  }

  /** Removes runs as `prune` does it. Returns what left the trash. */
  async remove(...ids: number[]): Promise<string[]> {
    const decisions = ids.map((run) => ({ run, action: 'remove' as const, reasons: [] }))
    const runs = this.catalog.runs('web1')
    const plan = { host: 'web1', decisions, refusal: null, runs, hasRules: true, oldFailures: [] }
    return (await applyPrune(this.prune, plan)).emptied
  }

  /** Names in a folder of the repository, sorted; none where it is not there. */
  files(folder: 'archives' | 'trash'): string[] {
    const path = join(this.repository.folder, folder, 'web1')
    return existsSync(path) ? readdirSync(path).sort() : []
  }

  [Symbol.dispose](): void {
    this.catalog.close()
    this.folder[Symbol.dispose]()
  }
}

/** What the catalog says of versions, without the numbers of runs, which a new catalog may count differently. */
export function dumpVersions(catalog: Catalog): unknown[] {
  const archives = new Map(
    catalog.database
      .prepare<[], { id: number; archive: string | null }>('SELECT id, archive FROM runs')
      .all()
      .map(({ id, archive }) => [id, archive ?? `run ${id}`]),
  )
  const named = (run: unknown) => (run === null ? null : (archives.get(run as number) ?? `no run ${run}`))
  return catalog.database
    .prepare<[], Record<string, unknown>>(
      `SELECT hosts.name AS host, versions.*, user_name, group_name FROM versions
       JOIN owners ON owners.id = owner_id LEFT JOIN runs ON runs.id = versions.generation
       LEFT JOIN hosts ON hosts.id = host_id
       ORDER BY hosts.name, runs.started_at_ms, path, first_run`,
    )
    .all()
    .map(({ owner_id: _, generation, first_run, end_run, content_run, content_pieces, ...rest }) => ({
      ...rest,
      generation: named(generation),
      first: named(first_run),
      end: named(end_run),
      content: named(content_run),
      pieces: piecesOf(content_pieces, named),
    }))
}

function piecesOf(text: unknown, named: (run: unknown) => string | null): unknown {
  if (text === null) return null
  const pieces = JSON.parse(text as string) as [number, number, number][]
  return pieces.map(([run, ...rest]) => [named(run), ...rest])
}
