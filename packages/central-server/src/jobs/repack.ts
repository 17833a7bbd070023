import { lstat } from 'node:fs/promises'
import {
  ArchiveError,
  ArchiveReader,
  carriedEntries,
  goneOf,
  headerArchivesMax,
  headerOf,
  PartialFile,
  repackArchive,
} from '@central-backup/archive'
import { absorbRuns } from '../catalog/absorb-runs.ts'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { digestOf } from '../catalog/ingest-archive.ts'
import { takeLease } from '../catalog/lease.ts'
import {
  type ChainLink,
  chainsWithRemoved,
  findLinks,
  neededContents,
  neededPaths,
} from '../catalog/needed.ts'
import { findReader } from '../catalog/read-lease.ts'
import { BusyError, StorageError } from '../errors.ts'
import { archivePath, listArchives, removeArchives, removePartials } from '../storage/archive-list.ts'
import { describeBadSector, isBadSector, withStorageErrors } from '../storage/failure.ts'
import { unlessMissing } from '../storage/if-there.ts'
import type { Repository } from '../storage/repository.ts'
import type { ChainComparison } from './chain-comparison.ts'
import { planRepacks, type RepackTask } from './plan-repacks.ts'

/** Reason of the partial file beside an archive that is being packed anew. */
const repackedReason = 'repacked'

export interface RepackContext {
  catalog: Catalog
  repository: Repository
  /** Of the host. */
  comparison: ChainComparison
}

export interface RepackResult {
  /** `absorbed`: archives that it has taken over, and that are gone. */
  repacked: { archive: string; bytesBefore: number; bytes: number; absorbed: string[] }[]
  /** Archives that were left as they are, and why. `sinceMs`: when that was found; it was not looked at again. */
  refused: { archive: string; reason: string; sinceMs: number | null }[]
  /** Archives that the disk could not read. They stay as they are, like those before them, and are tried again the next time. */
  unread: { archive: string; reason: string }[]
}

/** The disk could not read an archive that was to be packed anew, and nothing was done. */
class UnreadArchiveError extends StorageError {}

/**
 * Packs the archives of a host anew of whose content less than half is needed, and merges those of which only the index
 * is needed into the ones after them. Of runs only that retention removed longer ago than the trash keeps things, and
 * not of `keptGenerations`, in which runs of others have content. What is needed stays where it is, so that nothing
 * else changes; a crash at any time leaves the old archives or the new one, and `recoverRepacks` finds out which. What
 * the catalog says is needed of them is compared with what the archives say before; those in front of one that cannot
 * be read stay as they are. Ends early where somebody begins to read archives of the host. The caller holds the host's
 * lease. Throws `StorageError`, and `CatalogError` where the catalog is damaged.
 */
export async function repackArchives(
  { catalog, repository, comparison }: RepackContext,
  host: string,
  { removedBeforeMs, keptGenerations }: { removedBeforeMs: number; keptGenerations: ReadonlySet<number> },
): Promise<RepackResult> {
  const result: RepackResult = { repacked: [], refused: [], unread: [] }
  for (const chain of chainsWithRemoved(catalog, host, removedBeforeMs)) {
    if (keptGenerations.has(chain[0]!.run.generation)) continue
    await recallRefusals(catalog, repository, chain, result)
    let links: ChainLink[] | null = chain
    // Again, as what is refused leaves others to be merged without it.
    for (let tasks = planChain(catalog, links); tasks.length > 0; tasks = planChain(catalog, links)) {
      const unreadable = await comparison.compare(runsOf(links), firstOf(tasks))
      if (unreadable !== null) {
        const { run, reason, mayPass } = unreadable
        for (const link of links) link.refused ||= link.run.id <= run.id
        if (mayPass) result.unread.push({ archive: run.archive!.name, reason })
        else if (!result.refused.some(({ archive }) => archive === run.archive!.name))
          await refuse(catalog, repository, links.find((link) => link.run.id === run.id)!, reason, result)
        continue
      }
      links = await doTasks(catalog, repository, links, tasks, result)
      if (links === null) return result
    }
  }
  return result
}

/**
 * Compares what `repackArchives` would rely upon, before anything else is removed. Changes nothing. Throws
 * `CatalogError` where the catalog is damaged, and `StorageError`.
 */
export async function compareBeforeRepacks(
  { catalog, repository, comparison }: RepackContext,
  host: string,
  removedBeforeMs: number,
): Promise<void> {
  for (const chain of chainsWithRemoved(catalog, host, removedBeforeMs)) {
    await recallRefusals(catalog, repository, chain, { repacked: [], refused: [], unread: [] })
    const tasks = planChain(catalog, chain)
    if (tasks.length > 0) await comparison.compare(runsOf(chain), firstOf(tasks))
  }
}

function runsOf(chain: readonly ChainLink[]): Run[] {
  return chain.map(({ run }) => run)
}

/** The oldest run of whose archive something is thrown away. */
function firstOf(tasks: readonly RepackTask[]): number {
  return Math.min(...tasks.flatMap(({ run, absorbs }) => [run.id, ...absorbs.map(({ id }) => id)]))
}

/** Those of the archives that were refused before, and are as they were then, are not read again. */
async function recallRefusals(
  catalog: Catalog,
  repository: Repository,
  chain: readonly ChainLink[],
  result: RepackResult,
): Promise<void> {
  const links = new Map(chain.map((link) => [link.run.id, link]))
  for (const { run, state, reason, at_ms: sinceMs } of catalog.statements.repackRefusals.all(
    chain[0]!.run.generation,
  )) {
    const link = links.get(run)
    if (link === undefined || (await stateOf(catalog, repository, link)) !== state) continue
    link.refused = true
    result.refused.push({ archive: link.run.archive!.name, reason, sinceMs })
  }
}

/** Returns the chain as it is then; `null` where somebody reads. What is refused is marked, and told in `result`. */
async function doTasks(
  catalog: Catalog,
  repository: Repository,
  chain: readonly ChainLink[],
  tasks: readonly RepackTask[],
  result: RepackResult,
): Promise<ChainLink[] | null> {
  const after = new Map(chain.map((link) => [link.run.id, link]))
  for (const task of tasks) {
    const { id, archive } = task.run
    const absorbed = task.absorbs.map((run) => run.archive!.name)
    try {
      const repacked = await repackOne(catalog, repository, task)
      if (repacked === null) return null
      const { bytes, storedBytes } = repacked
      result.repacked.push({ archive: archive!.name, bytesBefore: archive!.bytes, bytes, absorbed })
      for (const run of task.absorbs) after.delete(run.id)
      after.set(id, { ...after.get(id)!, storedBytes, run: catalog.run(id)! })
    } catch (error) {
      if (!(error instanceof ArchiveError || error instanceof UnreadArchiveError)) throw error
      const { id: run } = await findCulprit(catalog, repository, task)
      const link = after.get(run)!
      after.set(run, { ...link, refused: true })
      const { archive } = link.run
      if (error instanceof UnreadArchiveError) {
        const path = archivePath(repository, link.run.host, archive!.name)
        result.unread.push({ archive: archive!.name, reason: describeBadSector(path) })
      } else await refuse(catalog, repository, link, error.message, result)
    }
  }
  return [...after.values()]
}

/** Tells that an archive stays as it is, and notes it for the next time. */
async function refuse(
  catalog: Catalog,
  repository: Repository,
  link: ChainLink,
  reason: string,
  result: RepackResult,
): Promise<void> {
  const { id: run, archive } = link.run
  const refusal = { run, state: await stateOf(catalog, repository, link), atMs: catalog.now(), reason }
  catalog.transaction(() => catalog.statements.setRepackRefusal.run(refusal))
  result.refused.push({ archive: archive!.name, reason, sinceMs: null })
}

function planChain(catalog: Catalog, chain: readonly ChainLink[]): RepackTask[] {
  const tasks = planRepacks(chain)
  const absorbed = tasks.flatMap(({ absorbs }) => absorbs)
  return absorbed.length > 0 && findLinks(catalog, chain, absorbed) ? planRepacks(chain) : tasks
}

/** What a refusal depends on: the file, how much of it is needed, and whether an archive can name all runs that are kept. */
async function stateOf(
  catalog: Catalog,
  repository: Repository,
  { run, neededBytes }: ChainLink,
): Promise<string> {
  const tooManyKept = catalog.statements.keptArchives.all(run.generation).length > headerArchivesMax
  const path = archivePath(repository, run.host, run.archive!.name)
  return withStorageErrors(`look at ${path}`, async () => {
    const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    return JSON.stringify([stats && [stats.ino, stats.size, stats.mtimeMs], neededBytes, tooManyKept])
  })
}

/**
 * Which of the archives of a task that was refused is the reason: one that is to be taken over, if its index is not as
 * it should be.
 */
async function findCulprit(
  catalog: Catalog,
  repository: Repository,
  { run, absorbs }: RepackTask,
): Promise<Run> {
  let before: string | null = null
  for (const one of absorbs) {
    const path = archivePath(repository, one.host, one.archive!.name)
    try {
      const { base } = await headerOf(path)
      if (before !== null && base !== before) return one
      for await (const _ of carriedEntries([{ path, paths: () => neededPaths(catalog, one) }]));
      for await (const _ of goneOf(path));
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      if (error instanceof ArchiveError || isMissing || isBadSector(error)) return one
      throw error
    }
    before = one.archive!.name
  }
  return run
}

/** Returns what the new archive has; `null` where somebody reads, and nothing was done. */
async function repackOne(
  catalog: Catalog,
  repository: Repository,
  { run, shrinks, absorbs }: RepackTask,
): Promise<{ bytes: number; storedBytes: number } | null> {
  const { statements } = catalog
  const path = archivePath(repository, run.host, run.archive!.name)
  const kept = statements.keptArchives.all(run.generation)
  if (kept.length > headerArchivesMax)
    throw new ArchiveError(
      'entry-limit',
      `its generation has ${kept.length} runs that are kept, more than an archive can name`,
    )
  return withStorageErrors(`pack ${path} anew`, async () => {
    await using reader = await openPresent(path)
    const file = await PartialFile.replace(path, repackedReason)
    try {
      const needed = shrinks
        ? { paths: () => neededPaths(catalog, run), contents: neededContents(catalog, run) }
        : null
      const absorbed = absorbs.map((one) => ({
        path: archivePath(repository, one.host, one.archive!.name),
        paths: () => neededPaths(catalog, one),
      }))
      const { digest, archiveBytes, storedBytes } = await withMissingTold(() =>
        repackArchive(reader, { needed, absorbed, kept }, (bytes) =>
          withStorageErrors(`write ${path} anew`, () => file.write(bytes)),
        ),
      )
      await file.sync()
      const row = {
        ...{ run: run.id, digest, archiveBytes, storedBytes },
        absorbed: JSON.stringify(absorbs.map(({ id, archive }) => [id, archive!.name])),
      }
      const isRead = catalog.durableTransaction(() => {
        if (findReader(catalog, run.host) !== null) return true
        statements.insertRepack.run(row)
        return false
      })
      if (isRead) {
        await file.discard()
        return null
      }
      await file.commit()
      await finishRepack(catalog, repository, run.host, run.id)
      return { bytes: archiveBytes, storedBytes }
    } catch (error) {
      // Its name is gone once it has been committed; else `recoverRepacks` removes what is left.
      await file.discard().catch(() => {})
      throw error
    }
  })
}

function openPresent(path: string): Promise<ArchiveReader> {
  return withMissingTold(() => ArchiveReader.open(path))
}

/** An archive that is missing, or that the disk cannot read, is one that cannot be packed anew, and keeps no other from it. */
async function withMissingTold<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException
    if (isBadSector(error))
      throw new UnreadArchiveError('io-error', 'the disk cannot read an archive', { cause: error })
    if (code !== 'ENOENT') throw error
    throw new ArchiveError('repack-refused', `${path} is missing`, { cause: error })
  }
}

/**
 * Finds out of each archive that was being replaced when a process died which of the two is there. The caller holds the
 * host's lease.
 */
export async function recoverRepacks(catalog: Catalog, repository: Repository, host: string): Promise<void> {
  const { statements } = catalog
  const { partials } = await listArchives(repository, host)
  await removePartials(
    repository,
    host,
    partials.filter(({ reason }) => reason === repackedReason),
  )
  for (const { run, archive, digest } of statements.repacks.all(host)) {
    const path = archivePath(repository, host, archive)
    const found = await withStorageErrors(`read ${path}`, () => unlessMissing(digestOf(path)))
    if (found?.digest.equals(digest)) await finishRepack(catalog, repository, host, run)
    else catalog.transaction(() => statements.deleteRepack.run(run))
  }
}

/**
 * As `recoverRepacks`, for who wants to look at archives and has no lease: of hosts of which something was left in the
 * middle. Does nothing where a process is at work on the host, or the disk takes nothing.
 */
export async function settleRepacks(
  catalog: Catalog,
  repository: Repository,
  hosts: readonly string[],
): Promise<void> {
  for (const host of hosts.filter((host) => catalog.statements.repacks.all(host).length > 0)) {
    try {
      using _lease = takeLease(catalog, host)
      await recoverRepacks(catalog, repository, host)
    } catch (error) {
      if (!(error instanceof BusyError || error instanceof StorageError)) throw error
    }
  }
}

/**
 * The new archive has its name. What it has taken over is told of it in the catalog before the files go, so that there is
 * never a row without a file; each step can be done again.
 */
async function finishRepack(
  catalog: Catalog,
  repository: Repository,
  host: string,
  run: number,
): Promise<void> {
  const { statements } = catalog
  const { generation, absorbed } = statements.repacks.all(host).find((row) => row.run === run)!
  const runs = JSON.parse(absorbed) as [run: number, archive: string][]
  absorbRuns(
    catalog,
    { run, generation },
    runs.map(([id]) => id),
    () => statements.applyRepack.run(run),
  )
  await removeArchives(
    repository,
    host,
    runs.map(([, archive]) => archive),
  )
  catalog.durableTransaction(() => {
    statements.deleteRepackRefusal.run(run)
    statements.deleteRepack.run(run)
  })
}
