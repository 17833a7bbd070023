import type { HookMoment } from '@central-backup/protocol'

/** A command of the host's settings that is run before or after backups. */
export interface Hook {
  name: string
  /** The program, an absolute path, and its arguments. No shell is between. */
  command: readonly string[]
  when: HookMoment
  /** It runs with every backup; else where the server asks for it. */
  always: boolean
  timeLimitMs: number
  /** Of one before the run: its failure is the failure of the run. */
  failsRun: boolean
  runsPerHour: number
  /** Where it fails, the server hears what it said. */
  tellsOutput: boolean
}
