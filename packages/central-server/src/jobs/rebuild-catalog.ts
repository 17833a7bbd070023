import { linkSync, renameSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  ArchiveError,
  parseArchiveName,
  type Repack,
  syncFolder,
  textFromBytes,
} from '@central-backup/archive'
import { Catalog, type Run } from '../catalog/catalog.ts'
import { type Bridge, ingestArchive } from '../catalog/ingest-archive.ts'
import { type Lease, takeLease } from '../catalog/lease.ts'
import { versionsInArchive } from '../catalog/needed.ts'
import { purgeRemoved } from '../catalog/remove-run.ts'
import { isHostName } from '../config/host-name.ts'
import { CatalogError, StorageError } from '../errors.ts'
import { listAbsorbed } from '../storage/absorbed-archives.ts'
import { archivePath, listArchives } from '../storage/archive-list.ts'
import { withStorageErrors } from '../storage/failure.ts'
import { isThere, removeIfThere } from '../storage/if-there.ts'
import type { Repository } from '../storage/repository.ts'

/** Paths that are named of what was lost with an archive; all are counted, and `verify` names all. */
const pathsToldMax = 20

export interface RebuildObserver {
  onArchive(host: string, archive: string): void
}

export interface MissingArchive {
  host: string
  archive: string
  /** How many versions of files have lost their content with it. */
  versions: number
  /** Paths of some of them, for people. */
  paths: string[]
}

export interface RebuildResult {
  /** Archives that are in the new catalog, by host. */
  archives: Record<string, number>
  /** Archives that could not be taken in, and why. */
  damaged: { host: string; archive: string; reason: string }[]
  /** Archives that are missing or damaged, and that later ones have content in. */
  missing: MissingArchive[]
  /** Archives that were taken in although what they build on is missing: their runs are `incomplete`. */
  bridged: { host: string; archive: string }[]
  /** Archives that were left out, as others have taken them over. */
  absorbed: { host: string; archive: string }[]
  /** Where the old catalog was moved; `null` where there was none. */
  replaced: string | null
}

/**
 * Makes the catalog anew from the archives alone, beside the old one, and then puts it in its place; the old one is kept
 * as `catalog.sqlite.replaced`. What only the catalog knows is lost: runs that left no archive, warnings, and pins; runs
 * that retention removed are seen again where their archives are still needed. Throws `BusyError` where a run is at work,
 * and leaves everything as it was when it fails.
 */
export async function rebuildCatalog(
  repository: Repository,
  now: () => number,
  observer: RebuildObserver,
): Promise<RebuildResult> {
  using held = await holdAllHosts(repository, now)
  const file = `${repository.catalogFile}.rebuilt`
  await removeDatabase(file)
  const result: RebuildResult = {
    archives: {},
    damaged: [],
    missing: [],
    bridged: [],
    absorbed: [],
    replaced: null,
  }
  try {
    using catalog = new Catalog(file, { now })
    for (const host of await listHostFolders(repository))
      await takeInHost(catalog, repository, host, result, observer)
    catalog.checkpoint()
  } catch (error) {
    // A disk that takes nothing does not give it up either; the next rebuild removes it. What went wrong first is the reason.
    await removeDatabase(file).catch(() => {})
    throw error
  }
  held.close()
  result.replaced = await withStorageErrors(
    `put the new catalog in the place of ${repository.catalogFile}`,
    () => replaceDatabase(repository.catalogFile, file),
  )
  return result
}

async function takeInHost(
  catalog: Catalog,
  repository: Repository,
  host: string,
  result: RebuildResult,
  observer: RebuildObserver,
): Promise<void> {
  using lease = takeLease(catalog, host)
  const { archives } = await listArchives(repository, host)
  const absorbed = await listAbsorbed(repository, host)
  let waiting: string[] = []
  for (const { name } of archives) {
    if (absorbed.has(name)) result.absorbed.push({ host, archive: name })
    else waiting.push(name)
  }
  let refused: RebuildResult['damaged'] = []
  const repacks: Repack[] = []
  result.archives[host] = 0
  // Again for what was refused, as long as that brings some in: where the clock was set back, an archive may stand before
  // the one that it builds on.
  for (let taken = true; taken; waiting = refused.map(({ archive }) => archive)) {
    refused = []
    for (const name of waiting) {
      observer.onArchive(host, name)
      try {
        const file = { host, name, path: archivePath(repository, host, name) }
        const { repack } = await takeIn(catalog, lease, file, { absorbed })
        if (repack !== null) repacks.push(repack)
        result.archives[host]++
      } catch (error) {
        if (!(error instanceof ArchiveError)) throw error
        refused.push({ host, archive: name, reason: error.message })
      }
    }
    taken = refused.length > 0 && refused.length < waiting.length
  }
  await bridgeGaps(catalog, repository, lease, refused, absorbed, result, repacks)
  removeUnkept(catalog, host, repacks)
}

/** What a disk does not give now it may give the next time: the new catalog is not to do without it. */
function takeIn(...[catalog, lease, file, options]: Parameters<typeof ingestArchive>) {
  return withStorageErrors(`read ${file.path}`, () => ingestArchive(catalog, lease, file, options))
}

/**
 * Archives whose base is missing still say what changed in their runs. On top of what is known, that is not all that stood
 * there, but the most that is left of it.
 */
async function bridgeGaps(
  catalog: Catalog,
  repository: Repository,
  lease: Lease,
  refused: RebuildResult['damaged'],
  absorbed: ReadonlySet<string>,
  result: RebuildResult,
  repacks: Repack[],
): Promise<void> {
  const { host } = lease
  const standIns = new Map<string, number>()
  const bridge: Bridge = {
    standIn: (archive) => standIns.get(archive) ?? standIn(catalog, lease, archive, standIns),
  }
  for (const { archive, reason } of refused) {
    const file = { host, name: archive, path: archivePath(repository, host, archive) }
    try {
      const { repack } = await takeIn(catalog, lease, file, { bridge, absorbed })
      if (repack !== null) repacks.push(repack)
      result.archives[host] = (result.archives[host] ?? 0) + 1
      result.bridged.push({ host, archive })
    } catch (error) {
      if (!(error instanceof ArchiveError)) throw error
      result.damaged.push({ host, archive, reason })
    }
  }
  for (const [archive, run] of standIns) {
    const versions = catalog.statements.countVersionsInArchive.get(run) ?? 0
    result.missing.push({ host, archive, versions, paths: somePaths(catalog, host, run) })
  }
}

function standIn(catalog: Catalog, lease: Lease, archive: string, standIns: Map<string, number>): number {
  const name = parseArchiveName(archive)
  if (name === null)
    throw new ArchiveError('index-invalid', `${JSON.stringify(archive)} is not the name of an archive`)
  const { lastInsertRowid } = catalog.transaction(() =>
    catalog.statements.insertStandIn.run({
      host: lease.host,
      archive,
      token: lease.token,
      ...name,
      message: `${archive} is missing or damaged`,
    }),
  )
  const run = Number(lastInsertRowid)
  catalog.transaction(() => catalog.statements.setGeneration.run(run))
  standIns.set(archive, run)
  return run
}

function somePaths(catalog: Catalog, host: string, run: number): string[] {
  const paths: string[] = []
  for (const generation of new Set(catalog.archivedRuns(host).map((one) => one.generation))) {
    for (const { path } of versionsInArchive(catalog, generation, run)) {
      if (paths.length >= pathsToldMax) return paths
      paths.push(`/${textFromBytes(path)}`)
    }
  }
  return paths
}

/** What only removed runs had may be missing from archives that were packed anew, so that those runs cannot come back. */
function removeUnkept(catalog: Catalog, host: string, repacks: readonly Repack[]): void {
  const runs = catalog.archivedRuns(host)
  const byName = new Map(runs.map((run) => [run.archive!.name, run]))
  const removed = new Set<Run>()
  for (const { kept } of repacks) {
    const known = kept.flatMap((name) => byName.get(name) ?? [])
    const newest = known.at(-1)
    if (newest === undefined) continue
    for (const run of runs) {
      if (run.generation === newest.generation && run.id < newest.id && !known.includes(run)) removed.add(run)
    }
  }
  catalog.transaction(() => {
    for (const { id } of removed) catalog.statements.setRemoved.run({ id, atMs: catalog.now() })
  })
  for (const generation of new Set([...removed].map((run) => run.generation)))
    purgeRemoved(catalog, { generation })
}

async function listHostFolders(repository: Repository): Promise<string[]> {
  const folder = join(repository.folder, 'archives')
  const entries = await withStorageErrors(`list ${folder}`, () => readdir(folder, { withFileTypes: true }))
  return entries
    .filter((entry) => entry.isDirectory() && isHostName(entry.name))
    .map(({ name }) => name)
    .sort()
}

/** Keeps runs from beginning under the old catalog, as far as it can still be read. */
async function holdAllHosts(
  repository: Repository,
  now: () => number,
): Promise<{ close(): void } & Disposable> {
  const leases: Lease[] = []
  let old: Catalog | null = null
  const close = () => {
    for (const lease of leases.splice(0)) lease.release()
    old?.close()
    old = null
  }
  try {
    old = (await isThere(repository.catalogFile)) ? new Catalog(repository.catalogFile, { now }) : null
    for (const host of old?.hostNames() ?? []) leases.push(takeLease(old!, host))
  } catch (error) {
    close()
    // A catalog that cannot be read is the reason to be here, and what is wrong with the disk is told by what follows.
    if (!(error instanceof CatalogError || error instanceof StorageError)) throw error
  }
  return { close, [Symbol.dispose]: close }
}

/**
 * A crash leaves the old catalog or the new one, never none, and never the log of the old one beside the new one: SQLite
 * would take it for its own.
 */
async function replaceDatabase(file: string, replacement: string): Promise<string | null> {
  const replaced = `${file}.replaced`
  const existed = await isThere(file)
  await removeDatabase(replaced)
  if (existed) keepAs(file, replaced)
  for (const suffix of ['-wal', '-shm'])
    if (await isThere(file + suffix)) renameSync(file + suffix, replaced + suffix)
  renameSync(replacement, file)
  await syncFolder(dirname(file))
  return existed ? replaced : null
}

/** A second name, where the file system has such: the first one is never missing then. */
function keepAs(file: string, name: string): void {
  try {
    linkSync(file, name)
  } catch {
    renameSync(file, name)
  }
}

async function removeDatabase(file: string): Promise<void> {
  for (const suffix of ['', '-wal', '-shm']) await removeIfThere(file + suffix)
}
