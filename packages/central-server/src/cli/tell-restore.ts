import { type PlannedStep, type RestoreReport, textFromBytes } from '@central-backup/archive'
import type { Run } from '../catalog/catalog.ts'
import { exitCodeOfRestore } from '../jobs/restore.ts'
import { formatBytes, formatCount, formatTime } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { describeReport, reportFields } from './restore-display.ts'

/** Which moment it is that comes back, as a time or a default may mean another than was thought. */
export function tellRun(
  invocation: Invocation,
  run: Run,
  target: string,
  toHost: string | null = null,
): void {
  const { id, host, startedAtMs, outcome } = run
  if (invocation.options.json) {
    invocation.report(
      { event: 'begin', host, run: id, startedAtMs, outcome, ...(toHost && { toHost }), target },
      [],
    )
    return
  }
  const where = toHost === null ? printable(target) : `${printable(target)} on ${toHost}`
  invocation.note(`${host}: run ${id} of ${formatTime(startedAtMs)}, to ${where}`)
  if (outcome === 'incomplete')
    invocation.warn(`${host}: that run is incomplete: what it could not read is missing`)
}

/** Tells the steps of a dry run, and what they come to. */
export function tellPlan(invocation: Invocation): { add(step: PlannedStep): void; end(): void } {
  const totals = { create: 0, replace: 0, update: 0, keep: 0, equal: 0 }
  let contentBytes = 0
  return {
    add({ path, type, action, bytes }) {
      totals[action]++
      contentBytes += bytes
      const shown = `/${textFromBytes(path)}`
      invocation.report({ event: 'entry', path: shown, type, action, bytes }, [
        `${action.padEnd(7)} ${printable(shown)}`,
      ])
    },
    end() {
      if (invocation.options.json) {
        invocation.report({ event: 'end', ...totals, contentBytes }, [])
        return
      }
      const { create, replace, update, keep, equal } = totals
      invocation.note(
        `would create ${formatCount(create)}, replace ${formatCount(replace)}, update ${formatCount(update)} folders, ` +
          `keep ${formatCount(keep)}; ${formatCount(equal)} are there already; ${formatBytes(contentBytes)} to write`,
      )
    },
  }
}

/** Tells what came of a restore, and has the exit code say so. */
export function tellReport(invocation: Invocation, report: RestoreReport): void {
  if (invocation.options.json) invocation.report({ event: 'end', ...reportFields(report) }, [])
  else for (const line of describeReport(report)) invocation.note(line)
  invocation.exitCode = exitCodeOfRestore(report)
}
