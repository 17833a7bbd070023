import type { Outcome, RunKind } from '@central-backup/archive'
import type { Logger } from 'pino'
import type { Catalog, RunCounts, RunResult, RunWarning } from '../catalog/catalog.ts'
import { warningsKeptMax } from '../catalog/catalog.ts'
import type { ReceivedRun, RunObserver } from '../session/receive-run.ts'

/** How the run of a host ended. */
export interface HostResult {
  host: string
  /** `null` where it came to no run. */
  run: number | null
  kind: RunKind
  outcome: Outcome
  startedAtMs: number
  finishedAtMs: number
  /** Why it failed. */
  error: Error | null
  archive: { name: string; bytes: number; digest: string } | null
  counts: RunCounts
  contentBytes: number
  warningCount: number
  warnings: RunWarning[]
  /** What became of the copy on the host itself: its name, or why there is none. `null` where none was wanted. */
  localCopy: { kept: boolean; name: string; error?: string | undefined } | null
}

/** How the run of a host stands, which is what is told of it in the end. */
export class RunReport {
  readonly result: HostResult
  readonly #log: Logger
  readonly #observer: Pick<RunObserver, 'onWarning'>
  /** Warnings that the catalog has, or nothing of them yet. */
  #recordedWarnings: number | null = null

  constructor(host: string, startedAtMs: number, log: Logger, observer: Pick<RunObserver, 'onWarning'> = {}) {
    this.#log = log
    this.#observer = observer
    this.result = {
      host,
      run: null,
      kind: 'full',
      outcome: 'failed',
      startedAtMs,
      finishedAtMs: startedAtMs,
      error: null,
      archive: null,
      counts: {},
      contentBytes: 0,
      warningCount: 0,
      warnings: [],
      localCopy: null,
    }
  }

  fail(error: unknown, nowMs: number): void {
    // The first error is the reason; what follows, like a row that cannot be written either, comes of it.
    this.result.error ??= error instanceof Error ? error : new Error(String(error))
    this.result.outcome = 'failed'
    // An archive that is in its place without a row is taken in by the next run.
    this.result.archive = null
    this.result.finishedAtMs = nowMs
  }

  takeSummary({ summary }: ReceivedRun): void {
    const { contentBytes, ...counts } = summary.counts
    this.result.outcome = summary.outcome
    this.result.counts = counts
    this.result.contentBytes = contentBytes
  }

  /** A warning of this side, which nobody has seen yet. */
  tell(code: string, message: string): void {
    this.#observer.onWarning?.({ code, path: null, message })
    this.warn(code, message)
  }

  /** Keeps a warning that the observer has seen. */
  warn(code: string, message: string, path: string | null = null): void {
    const { host, warnings } = this.result
    this.result.warningCount++
    if (warnings.length < warningsKeptMax) warnings.push({ code, path, message })
    this.#log.warn({ host, code, path, message }, `${host}: ${message}`)
  }

  /** What the catalog is to know of the run when it ends. */
  record(): RunResult {
    const { outcome, kind, archive, contentBytes, counts, warningCount, warnings, error } = this.result
    this.#recordedWarnings = warningCount
    return {
      outcome,
      kind,
      contentBytes,
      counts,
      warningCount,
      warnings,
      error:
        error === null
          ? null
          : { code: (error as { code?: string }).code ?? 'internal', message: error.message },
      archive: archive && { ...archive, digest: Buffer.from(archive.digest, 'hex') },
    }
  }

  /**
   * Writes warnings to the catalog that came after the end, of hooks or of retention. A catalog that cannot take them
   * costs them.
   */
  recordLateWarnings(catalog: Catalog): void {
    const { host, run, warningCount, warnings } = this.result
    if (run === null || this.#recordedWarnings === null || this.#recordedWarnings === warningCount) return
    try {
      catalog.setWarnings(run, warningCount, warnings)
    } catch (error) {
      this.#log.error(
        { host, run },
        `${host}: the catalog lacks the last warnings: ${(error as Error).message}`,
      )
    }
  }

  /** The one line of the log that tells how it ended. */
  log(): void {
    const { host, run, outcome, archive, counts, warningCount, error } = this.result
    const facts = { host, run, outcome, archive: archive?.name, counts, warnings: warningCount }
    if (error === null) this.#log.info(facts, `${host}: ${outcome}`)
    else
      this.#log.error(
        { ...facts, code: (error as { code?: string }).code },
        `${host}: ${outcome}: ${error.message}`,
      )
  }
}
