import type { Credentials } from '@central-backup/protocol'
import type { Logger } from 'pino'
import type { Catalog } from '../catalog/catalog.ts'
import type { ServerSettings } from '../config/settings.ts'
import type { Repository } from '../storage/repository.ts'

/** What the jobs of one call of the program share. */
export interface ServerContext {
  settings: ServerSettings
  repository: Repository
  catalog: Catalog
  credentials: Credentials
  /** The name in the server's own certificate. */
  serverName: string
  log: Logger
  /** Milliseconds since 1970. */
  now: () => number
  /** Aborted where the program is to end. */
  signal: AbortSignal
}
