import type { CompressorPool } from '@central-backup/archive'
import type { Channel } from '@central-backup/protocol'
import type { Logger } from 'pino'
import type { CertificateStore } from './certificates/store.ts'
import type { HourlyCount } from './hourly-count.ts'
import type { PasswordGate } from './password-gate.ts'
import type { RefusalLog } from './refusals.ts'
import type { AgentSettings } from './settings.ts'
import type { SharedPace } from './shared-pace.ts'
import type { WaitingSessions } from './waiting-sessions.ts'

/** What all sessions of an agent share. */
export interface Agent {
  /** The settings of now; a session keeps those that it began with. */
  settings: AgentSettings
  readonly gate: PasswordGate
  /** Of sessions that did not get past the password. */
  readonly failedLogins: RefusalLog
  readonly certificates: CertificateStore
  readonly pool: CompressorPool
  readonly log: Logger
  /** Aborted when the agent is to end. */
  readonly closing: AbortSignal
  /** Open connections, each with the serial number of the server's certificate. */
  readonly connections: Map<Channel, string>
  /** Sessions that passed the password and have not made their request. */
  readonly waiting: WaitingSessions
  /** Sessions that have made their request and have not ended. */
  sessions: number
  /** Backups that were begun. */
  readonly runs: HourlyCount
  /** How fast all sessions together may send. */
  readonly pace: SharedPace
  /** Hooks that were run, by name. */
  readonly hookRuns: HourlyCount
  /** From the first hook before a run to the last one after it, there is no other such run. */
  hooksAtWork: boolean
}
