import { ArchiveError } from '@central-backup/archive'
import { ingestArchive } from '../catalog/ingest-archive.ts'
import type { Lease } from '../catalog/lease.ts'
import { listAbsorbed } from '../storage/absorbed-archives.ts'
import { archivePath, listArchives, type StoredPartial, setArchiveAside } from '../storage/archive-list.ts'
import { finishPartial } from '../storage/broken-archive.ts'
import { isBadSector, toStorageError } from '../storage/failure.ts'
import { moveToTrash } from '../storage/trash.ts'
import { recoverRepacks } from './repack.ts'
import type { ServerContext } from './server-context.ts'

type AdoptionContext = Pick<ServerContext, 'catalog' | 'repository' | 'log' | 'signal'>

/**
 * Takes archives of a host into the catalog that it does not know: those of broken runs, which are finished before, and
 * those whose row a crash prevented. One that cannot be read is left as it is, and told; one whose base another was built on is
 * set aside. The caller holds the host's lease. Returns the ids of the runs.
 */
export async function adoptArchives(context: AdoptionContext, lease: Lease): Promise<number[]> {
  const { catalog, repository } = context
  const { host } = lease
  await recoverRepacks(catalog, repository, host)
  await finishPartials(context, lease)
  const known = new Set(catalog.archiveNames(host))
  const { archives } = await listArchives(repository, host)
  const unknown = archives.flatMap(({ name }) => (known.has(name) ? [] : name))
  if (unknown.length === 0) return []
  const absorbed = await listAbsorbed(repository, host)
  const adopted: number[] = []
  for (const archive of unknown) {
    if (absorbed.has(archive)) await discardAbsorbed(context, host, archive)
    else adopted.push(...(await adopt(context, lease, archive)))
  }
  return adopted
}

/** Takes one archive in. Returns the id of its run; none where that cannot be done. */
async function adopt(context: AdoptionContext, lease: Lease, archive: string): Promise<number[]> {
  const { catalog, repository, log } = context
  const { host } = lease
  const path = archivePath(repository, host, archive)
  try {
    const { id: run } = await ingestArchive(catalog, lease, { host, name: archive, path })
    log.warn(
      { host, run, archive },
      `${host}: the archive ${archive}, which the catalog did not know, is run ${run} now`,
    )
    return [run]
  } catch (failure) {
    // One bad sector is not to keep a host from being backed up.
    const error = failure instanceof ArchiveError ? failure : toStorageError(failure, `read ${path}`)
    if (!(error instanceof ArchiveError || isBadSector(failure))) throw error
    if (error instanceof ArchiveError && error.code === 'base-taken')
      await setTakenAside(context, host, archive, error)
    else
      log.error(
        { host, archive, code: error.code },
        `${host}: the catalog cannot take in ${archive}: ${error.message}`,
      )
    return []
  }
}

/** Of a server that was taken for dead and finished its run all the same: another has gone on meanwhile, and it never fits in. */
async function setTakenAside(
  { catalog, repository, log }: AdoptionContext,
  host: string,
  archive: string,
  { code, message }: ArchiveError,
): Promise<void> {
  const aside = await setArchiveAside(
    repository,
    host,
    { archive, name: archive },
    'superseded',
    catalog.now(),
  )
  log.error(
    { host, archive, code, aside },
    `${host}: ${message}. It is kept for 14 days as ${aside}; what it holds itself can be extracted with tar`,
  )
}

/** What it said is in another archive now. It may have come back with a copy of the repository. */
async function discardAbsorbed(
  { catalog, repository, log }: AdoptionContext,
  host: string,
  archive: string,
): Promise<void> {
  await moveToTrash(repository, host, archive, catalog.now())
  log.warn(
    { host, archive },
    `${host}: ${archive} was moved to the trash: another archive has taken over what it says`,
  )
}

async function finishPartials(context: AdoptionContext, lease: Lease): Promise<void> {
  const { repository, log, signal } = context
  const { host } = lease
  const { partials } = await listArchives(repository, host)
  for (const partial of partials) {
    if (partial.reason !== null) continue
    const became = await finishPartial(repository, host, partial, AbortSignal.any([signal, lease.signal]))
    const facts = { host, archive: partial.archive, became }
    switch (became) {
      case 'archive':
        log.warn(facts, `${host}: what came of the broken run ${partial.archive} is an archive now`)
        break
      case 'nothing-usable':
        log.info(facts, `${host}: of the broken run ${partial.archive} nothing had come that could be kept`)
        break
      case 'set-aside':
        log.error(facts, `${host}: ${partial.name} is not of this host and run, and was set aside`)
        break
      case 'unreadable':
        await setUnreadableAside(context, host, partial)
        break
      case 'busy':
        log.warn(
          facts,
          `${host}: ${partial.name} is left alone, as the process that writes it still is there`,
        )
    }
  }
}

/**
 * The disk cannot give all of what came of a broken run: that costs what came, and does not keep the host from being
 * backed up.
 */
async function setUnreadableAside(
  { catalog, repository, log }: AdoptionContext,
  host: string,
  { archive, name }: StoredPartial,
): Promise<void> {
  const aside = await setArchiveAside(repository, host, { archive, name }, 'unreadable', catalog.now())
  log.error(
    { host, archive, code: 'io-error', aside },
    `${host}: the disk reported an error where it was to read ${name}, which a broken run has left (EIO; look at dmesg and smartctl). It is kept for 14 days as ${aside}; what came with it is sent anew`,
  )
}
