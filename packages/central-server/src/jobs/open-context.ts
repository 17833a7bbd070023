import { X509Certificate } from 'node:crypto'
import { identityFromAltNames } from '@central-backup/protocol'
import { type Logger, pino, stdTimeFunctions } from 'pino'
import { Catalog } from '../catalog/catalog.ts'
import { endInterruptedRuns } from '../catalog/lease.ts'
import type { Watched } from '../catalog/watched-rows.ts'
import type { ServerSettings } from '../config/settings.ts'
import { LogFile } from '../log-file.ts'
import { readServerCredentials } from '../pki/folder.ts'
import { openRepository } from '../storage/repository.ts'
import { renewServerIfDue } from './renew-server.ts'
import type { ServerContext } from './server-context.ts'

/**
 * Opens what a run needs: repository, catalog, credentials, log. Runs that an earlier process left behind are marked as
 * failed. `watched`: as for `Catalog`. The caller disposes of the result.
 */
export async function openContext(
  settings: ServerSettings,
  { watched, ...surroundings }: { now: () => number; signal: AbortSignal; watched: Watched | undefined },
): Promise<ServerContext & Disposable> {
  const repository = await openRepository(settings.repository)
  const own = await renewServerIfDue(settings.certs, surroundings.now())
  const credentials = await readServerCredentials(settings.certs)
  const serverName = identityFromAltNames(new X509Certificate(credentials.cert).subjectAltName).name
  using opened = new DisposableStack()
  const { log, close } = openLog(settings)
  opened.defer(close)
  if (own.renewed) log.info(`the server has a new certificate, until ${own.renewed.validTo}`)
  if (own.fault !== undefined) log.warn(own.fault)
  const catalog = opened.use(new Catalog(repository.catalogFile, { now: surroundings.now, watched }))
  for (const run of endInterruptedRuns(catalog))
    log.warn({ run }, `run ${run} was interrupted: backup-server ended in its middle`)
  const resources = opened.move()
  return {
    settings,
    repository,
    catalog,
    credentials,
    serverName,
    log,
    ...surroundings,
    [Symbol.dispose]: () => resources.dispose(),
  }
}

/** JSON lines, appended to a file that only this user can read. */
function openLog({ log: { file, level } }: ServerSettings): { log: Logger; close: () => void } {
  if (file === null) return { log: pino({ enabled: false }), close: () => {} }
  const stream = new LogFile(file)
  const formatters = { level: (label: string) => ({ level: label }) }
  const log = pino({ level, base: null, timestamp: stdTimeFunctions.isoTime, formatters }, stream)
  return { log, close: () => stream.close() }
}
