import type { Outcome } from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { clockToleranceMs } from '../clock.ts'
import type { Host } from '../config/hosts.ts'

/** How a host stands. */
export interface HostStatus {
  host: string
  /** `late`: the last good run is older than the host's `expectEvery`, or there never was one. */
  state: 'good' | 'late' | 'disabled'
  lastGood: {
    run: number
    startedAtMs: number
    ageMs: number
    outcome: Outcome
    archiveBytes: number
    contentBytes: number
  } | null
  /** The run that was begun last, which may have failed or be at work. */
  lastRun: { run: number; startedAtMs: number; outcome: Run['outcome']; error: Run['error'] } | null
  expectEveryMs: number
}

/** A run from the future proves nothing. */
function isRecent(ageMs: number, { expectEveryMs }: Host): boolean {
  return ageMs >= -clockToleranceMs && ageMs <= expectEveryMs
}

/** Looks at the catalog only: instant, and without a word to the host. */
export function hostStatus(catalog: Catalog, host: Host, nowMs: number): HostStatus {
  const good = catalog.lastGoodRun(host.name)
  const last = catalog.lastRun(host.name)
  const ageMs = good === null ? Number.POSITIVE_INFINITY : nowMs - good.startedAtMs
  return {
    host: host.name,
    state: isRecent(ageMs, host) ? 'good' : host.disabled ? 'disabled' : 'late',
    lastGood: good && {
      run: good.id,
      startedAtMs: good.startedAtMs,
      ageMs,
      outcome: good.outcome as Outcome,
      archiveBytes: good.archive?.bytes ?? 0,
      contentBytes: good.contentBytes,
    },
    lastRun:
      last === null
        ? null
        : { run: last.id, startedAtMs: last.startedAtMs, outcome: last.outcome, error: last.error },
    expectEveryMs: host.expectEveryMs,
  }
}
