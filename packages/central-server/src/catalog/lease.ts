import { randomUUID } from 'node:crypto'
import { BusyError, LeaseLostError } from '../errors.ts'
import type { Catalog } from './catalog.ts'
import { identifyProcess, isKnownDead, type ProcessIdentity } from './process-identity.ts'
import type { LeaseRow } from './statements.ts'

export const heartbeatMs = 10_000

/** A lease without a sign of life for this long may be taken over, whatever its owner is doing. */
export const leaseExpiryMs = 60_000

export interface LeaseOptions {
  self?: ProcessIdentity
  /** Whether another owner is known to be dead. */
  isDead?: (owner: ProcessIdentity) => boolean
}

/**
 * Makes this process the only one at work on `host`, until `release`. Takes over the lease of an owner who is dead or has
 * shown no sign of life for `leaseExpiryMs`, and marks the run that it left as failed. Throws `BusyError` where
 * somebody is at work.
 */
export function takeLease(catalog: Catalog, host: string, options: LeaseOptions = {}): Lease {
  const self = options.self ?? identifyProcess()
  const isDead = options.isDead ?? ((owner) => isKnownDead(owner, self))
  const token = randomUUID()
  catalog.transaction(() => {
    const { statements } = catalog
    statements.addHost.run(host)
    const current = statements.lease.get(host)
    if (current !== undefined) {
      if (!isExpired(current, catalog.now()) && !isDead(ownerOf(current))) throw busy(current)
      statements.deleteLease.run(current.token)
    }
    statements.insertLease.run({
      host,
      token,
      ...ownerColumns(self),
      acquired_at_ms: catalog.now(),
    })
    failOrphanedRuns(catalog)
  })
  return new Lease(catalog, host, token)
}

/** The right to work on a host, kept up by a heartbeat. */
export class Lease implements Disposable {
  readonly host: string
  readonly token: string
  readonly #catalog: Catalog
  readonly #timer: NodeJS.Timeout
  readonly #lost = new AbortController()
  /** When it was last renewed, on a clock that does not jump. */
  #renewedAtMs = performance.now()

  /** For `takeLease`. */
  constructor(catalog: Catalog, host: string, token: string) {
    this.#catalog = catalog
    this.host = host
    this.token = token
    this.#timer = setInterval(() => this.#beat(), heartbeatMs)
    this.#timer.unref()
  }

  /** Aborted with a `LeaseLostError` once the lease is lost: then the work has to stop. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  /** Shows a sign of life. Throws `LeaseLostError` where another process took the lease over. */
  heartbeat(): void {
    const { statements, now } = this.#catalog
    const { changes } = this.#catalog.transaction(() =>
      statements.renewLease.run({ token: this.token, atMs: now() }),
    )
    if (changes === 0) {
      throw new LeaseLostError(`Another process took over ${this.host} while this one was at work`, {
        hint: 'This process did not show a sign of life for a minute: was it stopped, or the machine asleep?',
      })
    }
    this.#renewedAtMs = performance.now()
  }

  /** Ends the lease. Never throws: a lease that cannot be deleted ends by itself when this process does. */
  release(): void {
    clearInterval(this.#timer)
    try {
      this.#catalog.transaction(() => this.#catalog.statements.deleteLease.run(this.token))
    } catch {
      // The disk may be full or gone, and the work is over all the same.
    }
  }

  [Symbol.dispose](): void {
    this.release()
  }

  #beat(): void {
    try {
      this.heartbeat()
    } catch (error) {
      const silentMs = performance.now() - this.#renewedAtMs
      // A database that is locked or full for a moment is no reason to stop, unless others may take over by now.
      if (!(error instanceof LeaseLostError) && silentMs < leaseExpiryMs - heartbeatMs) return
      clearInterval(this.#timer)
      this.#lost.abort(
        error instanceof LeaseLostError
          ? error
          : new LeaseLostError(`The lease of ${this.host} could not be renewed`, { cause: error }),
      )
    }
  }
}

/**
 * Ends what dead owners left, for when the program starts: their leases are deleted and their runs marked as failed
 * with the code `interrupted`. Returns the ids of those runs.
 */
export function endInterruptedRuns(catalog: Catalog, options: LeaseOptions = {}): number[] {
  const self = options.self ?? identifyProcess()
  const isDead = options.isDead ?? ((owner) => isKnownDead(owner, self))
  return catalog.transaction(() => {
    for (const lease of catalog.statements.leases.all()) {
      if (isExpired(lease, catalog.now()) || isDead(ownerOf(lease)))
        catalog.statements.deleteLease.run(lease.token)
    }
    return failOrphanedRuns(catalog)
  })
}

function failOrphanedRuns(catalog: Catalog): number[] {
  const { orphanedRuns, failRun } = catalog.statements
  return orphanedRuns.all().map(({ id, generation }) => {
    const message = 'backup-server ended in the middle of the run'
    failRun.run({ id, atMs: catalog.now(), code: 'interrupted', message })
    undoRun(catalog, id, generation ?? id)
    return id
  })
}

/** As `purgeRun`, within the transaction that takes the lease over. */
function undoRun({ statements }: Catalog, run: number, generation: number): void {
  statements.purgeAdded.run({ generation, run })
  if (generation !== run) statements.purgeEnded.run({ generation, run })
}

/** Whether the process that a row is of may be at work: it shows signs of life, and is not known to be dead. */
export function isLiving(row: LeaseRow, nowMs: number, options: LeaseOptions = {}): boolean {
  const self = options.self ?? identifyProcess()
  const isDead = options.isDead ?? ((owner) => isKnownDead(owner, self))
  return !isExpired(row, nowMs) && !isDead(ownerOf(row))
}

/** The columns of a row that tell whose it is. */
export function ownerColumns(
  self: ProcessIdentity,
): Pick<LeaseRow, 'machine' | 'boot_id' | 'pid_namespace' | 'pid' | 'process_start'> {
  return {
    machine: self.machine,
    boot_id: self.bootId,
    pid_namespace: self.pidNamespace,
    pid: self.pid,
    process_start: self.processStart,
  }
}

/** A heartbeat from the future is as useless as an old one: the clock was set back. */
function isExpired(lease: LeaseRow, nowMs: number): boolean {
  return Math.abs(nowMs - lease.heartbeat_at_ms) > leaseExpiryMs
}

function ownerOf(lease: LeaseRow): ProcessIdentity {
  return {
    machine: lease.machine,
    bootId: lease.boot_id,
    pidNamespace: lease.pid_namespace,
    pid: lease.pid,
    processStart: lease.process_start,
  }
}

function busy(lease: LeaseRow): BusyError {
  const since = new Date(lease.acquired_at_ms).toISOString()
  return new BusyError(`Process ${lease.pid} is at work on ${lease.host} since ${since}`, {
    hint: 'Wait until it has ended. If it hangs, stop it: its work is taken over by itself.',
  })
}
