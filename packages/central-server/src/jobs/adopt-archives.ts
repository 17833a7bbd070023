import { ArchiveError } from '@central-backup/archive'
import { ingestArchive } from '../catalog/ingest-archive.ts'
import type { Lease } from '../catalog/lease.ts'
import { archivePath, listArchives } from '../storage/archive-list.ts'
import type { ServerContext } from './server-context.ts'

/**
 * Takes archives of a host into the catalog that it does not know: a crash came between the rename of the file and the
 * row. One that cannot be read is left as it is, and told. The caller holds the host's lease. Returns the ids of the runs.
 */
export async function adoptArchives(
  context: Pick<ServerContext, 'catalog' | 'repository' | 'log'>,
  lease: Lease,
): Promise<number[]> {
  const { catalog, repository, log } = context
  const { host } = lease
  const known = new Set(catalog.archiveNames(host))
  const { archives } = await listArchives(repository, host)
  const adopted: number[] = []
  for (const { name } of archives) {
    if (known.has(name)) continue
    try {
      const run = await ingestArchive(catalog, lease, {
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
