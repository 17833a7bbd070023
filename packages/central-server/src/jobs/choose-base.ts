import type { Run } from '../catalog/catalog.ts'
import type { Host } from '../config/hosts.ts'
import { listArchives } from '../storage/archive-list.ts'
import type { ServerContext } from './server-context.ts'

/**
 * The run that the next one of a host is compared with: the last of the generation of the newest that left an archive, be
 * it incomplete. `null` where the next one is to be full: there is none, somebody wants it, the last full one is older
 * than `fullEvery`, or an archive that the comparison would rely on is not there any more.
 */
export async function chooseBase(
  { catalog, repository, now, log }: Pick<ServerContext, 'catalog' | 'repository' | 'now' | 'log'>,
  host: Host,
  full: boolean,
): Promise<Run | null> {
  const runs = catalog.runs(host.name).filter(({ archive }) => archive !== null)
  const newest = runs[0]
  if (full || newest === undefined) return null
  const last = catalog.lastOfGeneration(newest.generation)
  const base = runs.find(({ id }) => id === last)
  // Retention has removed it, which it does not do unless the clock was set back.
  if (base === undefined) return null
  const begun = catalog.generationBegan(base.generation)
  if (host.fullEveryMs !== null && begun !== null && now() - begun >= host.fullEveryMs) return null
  const { archives } = await listArchives(repository, host.name)
  const present = new Set(archives.map(({ name }) => name))
  const missing = catalog.archivesOfGeneration(base.generation).filter((name) => !present.has(name))
  if (missing.length === 0) return base
  log.error(
    { host: host.name, missing },
    `${host.name}: a full run is made, as archives are missing: ${missing.join(', ')}`,
  )
  return null
}
