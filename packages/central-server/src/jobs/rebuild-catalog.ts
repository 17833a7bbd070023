import { existsSync, renameSync, rmSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ArchiveError, type Repack, syncFolder } from '@central-backup/archive'
import { Catalog, type Run } from '../catalog/catalog.ts'
import { ingestArchive } from '../catalog/ingest-archive.ts'
import { type Lease, takeLease } from '../catalog/lease.ts'
import { removeRun } from '../catalog/remove-run.ts'
import { isHostName } from '../config/host-name.ts'
import { CatalogError } from '../errors.ts'
import { archivePath, listArchives } from '../storage/archive-list.ts'
import type { Repository } from '../storage/repository.ts'

export interface RebuildObserver {
  onArchive(host: string, archive: string): void
}

export interface RebuildResult {
  /** Archives that are in the new catalog, by host. */
  archives: Record<string, number>
  /** Archives that could not be taken in, and why. */
  damaged: { host: string; archive: string; reason: string }[]
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
  using held = holdAllHosts(repository, now)
  const file = `${repository.catalogFile}.rebuilt`
  removeDatabase(file)
  const result: RebuildResult = { archives: {}, damaged: [], replaced: null }
  try {
    using catalog = new Catalog(file, { now })
    for (const host of await listHostFolders(repository))
      await takeInHost(catalog, repository, host, result, observer)
    catalog.checkpoint()
  } catch (error) {
    removeDatabase(file)
    throw error
  }
  held.close()
  result.replaced = replaceDatabase(repository.catalogFile, file)
  await syncFolder(dirname(file))
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
  let waiting = archives.map(({ name }) => name)
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
        const { repack } = await ingestArchive(catalog, lease, file)
        if (repack !== null) repacks.push(repack)
        result.archives[host]++
      } catch (error) {
        if (!(error instanceof ArchiveError)) throw error
        refused.push({ host, archive: name, reason: error.message })
      }
    }
    taken = refused.length > 0 && refused.length < waiting.length
  }
  result.damaged.push(...refused)
  removeUnkept(catalog, host, repacks)
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
  for (const run of removed) removeRun(catalog, run, catalog.now())
}

async function listHostFolders(repository: Repository): Promise<string[]> {
  const entries = await readdir(join(repository.folder, 'archives'), { withFileTypes: true })
  return entries
    .filter((entry) => entry.isDirectory() && isHostName(entry.name))
    .map(({ name }) => name)
    .sort()
}

/** Keeps runs from beginning under the old catalog, as far as it can still be read. */
function holdAllHosts(repository: Repository, now: () => number): { close(): void } & Disposable {
  const leases: Lease[] = []
  let old: Catalog | null = null
  const close = () => {
    for (const lease of leases.splice(0)) lease.release()
    old?.close()
    old = null
  }
  try {
    old = existsSync(repository.catalogFile) ? new Catalog(repository.catalogFile, { now }) : null
    for (const host of old?.hostNames() ?? []) leases.push(takeLease(old!, host))
  } catch (error) {
    close()
    // A catalog that cannot be read is the reason to be here.
    if (!(error instanceof CatalogError)) throw error
  }
  return { close, [Symbol.dispose]: close }
}

function replaceDatabase(file: string, replacement: string): string | null {
  const replaced = `${file}.replaced`
  const existed = existsSync(file)
  removeDatabase(replaced)
  for (const suffix of existed ? ['', '-wal', '-shm'] : []) {
    if (existsSync(file + suffix)) renameSync(file + suffix, replaced + suffix)
  }
  renameSync(replacement, file)
  return existed ? replaced : null
}

function removeDatabase(file: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
}
