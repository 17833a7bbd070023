import { ArchiveError } from '@central-backup/archive'
import { ingestArchive } from '../catalog/ingest-archive.ts'
import type { Lease } from '../catalog/lease.ts'
import { archivePath, listArchives } from '../storage/archive-list.ts'
import { finishPartial } from '../storage/broken-archive.ts'
import { recoverRepacks } from './repack.ts'
import type { ServerContext } from './server-context.ts'

type AdoptionContext = Pick<ServerContext, 'catalog' | 'repository' | 'log' | 'signal'>

/**
 * Takes archives of a host into the catalog that it does not know: those of broken runs, which are finished before, and
 * those whose row a crash prevented. One that cannot be read is left as it is, and told. The caller holds the host's
 * lease. Returns the ids of the runs.
 */
export async function adoptArchives(context: AdoptionContext, lease: Lease): Promise<number[]> {
  const { catalog, repository, log } = context
  const { host } = lease
  await recoverRepacks(catalog, repository, host)
  await finishPartials(context, lease)
  const known = new Set(catalog.archiveNames(host))
  const { archives } = await listArchives(repository, host)
  const adopted: number[] = []
  for (const { name } of archives) {
    if (known.has(name)) continue
    try {
      const { id: run } = await ingestArchive(catalog, lease, {
        host,
        name,
        path: archivePath(repository, host, name),
      })
      adopted.push(run)
      log.warn(
        { host, run, archive: name },
        `${host}: the archive ${name}, which the catalog did not know, is run ${run} now`,
      )
    } catch (error) {
      if (!(error instanceof ArchiveError)) throw error
      log.error(
        { host, archive: name, code: error.code },
        `${host}: the catalog cannot take in ${name}: ${error.message}`,
      )
    }
  }
  return adopted
}

async function finishPartials({ repository, log, signal }: AdoptionContext, lease: Lease): Promise<void> {
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
      case 'busy':
        log.warn(
          facts,
          `${host}: ${partial.name} is left alone, as the process that writes it still is there`,
        )
    }
  }
}
