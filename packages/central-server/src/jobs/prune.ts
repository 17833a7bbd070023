import type { Catalog, Run } from '../catalog/catalog.ts'
import { forgetUnusedOwners } from '../catalog/catalog-bytes.ts'
import { takeLease } from '../catalog/lease.ts'
import { findReader } from '../catalog/read-lease.ts'
import { forgetFailures, forgetUnneededRuns, oldFailures, purgeRemoved } from '../catalog/remove-run.ts'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { StorageError } from '../errors.ts'
import { hasRules, planRetention, type RetentionPlan } from '../retention/plan.ts'
import type { Repository } from '../storage/repository.ts'
import { emptyTrash, moveToTrash } from '../storage/trash.ts'
import { ChainComparison } from './chain-comparison.ts'
import { generationsNeededElsewhere } from './needed-elsewhere.ts'
import {
  compareBeforeRepacks,
  type RepackContext,
  type RepackResult,
  recoverRepacks,
  repackArchives,
} from './repack.ts'

export interface PruneContext {
  settings: ServerSettings
  repository: Repository
  catalog: Catalog
  now: () => number
}

/** What retention says of a host, and what it says it of. */
export interface PrunePlan extends RetentionPlan {
  host: string
  runs: Run[]
  /** The host has rules; without them none of these is ever removed. */
  hasRules: boolean
  /** Ids of runs that failed long ago and left nothing: these are forgotten, with rules or without. */
  oldFailures: number[]
}

/** What became of archives. */
export interface PruneResult extends RepackResult {
  /** Names of those that left the trash for good. */
  emptied: string[]
  /** Why nothing was done: somebody reads. The next prune makes up for it. `null` otherwise. */
  putOff: string | null
}

/** Reads the catalog and decides; changes nothing. */
export function planPrune({ catalog, now }: Pick<PruneContext, 'catalog' | 'now'>, host: Host): PrunePlan {
  // A failed run with an archive is one of which nothing is left: it stands in for what others had there.
  const runs = catalog
    .runs(host.name)
    .filter(({ archive, outcome }) => archive !== null && outcome !== 'failed')
  const retainable = runs.flatMap((run) =>
    run.outcome === 'running' ? [] : [{ ...run, outcome: run.outcome }],
  )
  const plan = planRetention(retainable, host.retention, now(), host.expectEveryMs)
  return {
    ...plan,
    host: host.name,
    runs,
    hasRules: hasRules(host.retention),
    oldFailures: plan.refusal === null ? oldFailures(catalog, host.name, now()) : [],
  }
}

/**
 * Does what a plan says: runs go from the catalog first, and archives that nothing needs then go to the trash, so that
 * a crash leaves an archive that the next run takes in again, and never a run without its archive. Archives that are
 * mostly needless by now are packed anew, and those that are wholly so merged into the ones after them. What the
 * catalog says is needed of them is compared with what the archives say before anything is done. Does nothing while
 * somebody reads archives of the host. The caller holds the host's lease. Throws `StorageError`, and `CatalogError`
 * where the catalog is damaged.
 */
export async function applyPrune(context: PruneContext, plan: PrunePlan): Promise<PruneResult> {
  const { catalog, repository, settings, now } = context
  const removedBeforeMs = now() - settings.trashMs
  const comparison = new ChainComparison(catalog, repository, plan.host)
  const repackContext = { catalog, repository, comparison }
  await compareIfThereIsRoom(repackContext, plan.host, removedBeforeMs)
  const going = new Set(plan.decisions.filter(({ action }) => action === 'remove').map(({ run }) => run))
  const removed = plan.runs.filter(({ id }) => going.has(id))
  // In one transaction: who begins to read afterwards chooses among the runs that stay, and nothing of them goes.
  const reader = catalog.durableTransaction(() => {
    const found = findReader(catalog, plan.host)
    if (found === null) for (const { id } of removed) catalog.statements.setRemoved.run({ id, atMs: now() })
    return found
  })
  if (reader !== null)
    return { emptied: [], repacked: [], refused: [], unread: [], putOff: `nothing is removed: ${reader}` }
  for (const generation of new Set(removed.map((run) => run.generation)))
    purgeRemoved(catalog, { generation })
  // Who verifies looks at all archives, also those that no run needs, and may have begun since.
  const later = catalog.transaction(() => findReader(catalog, plan.host))
  if (later !== null) {
    return {
      emptied: [],
      repacked: [],
      refused: [],
      unread: [],
      putOff: `archives stay where they are: ${later}`,
    }
  }
  forgetFailures(catalog, plan.oldFailures)
  const keptGenerations = await generationsNeededElsewhere(catalog, repository, plan.host)
  for (const archive of forgetUnneededRuns(catalog, plan.host, keptGenerations)) {
    await moveToTrash(repository, plan.host, archive, now())
  }
  const emptied = await emptyTrash(repository, plan.host, settings.trashMs, now())
  forgetUnusedOwners(catalog)
  const repacks = await repackArchives(repackContext, plan.host, { removedBeforeMs, keptGenerations })
  return { emptied, ...repacks, putOff: null }
}

/** On a full disk the trash is emptied all the same; before archives are packed anew, it is tried again. */
async function compareIfThereIsRoom(
  context: RepackContext,
  host: string,
  removedBeforeMs: number,
): Promise<void> {
  try {
    await compareBeforeRepacks(context, host, removedBeforeMs)
  } catch (error) {
    if (!(error instanceof StorageError)) throw error
  }
}

/** Plans and applies under a lease of its own. Throws `BusyError` where a run of the host is at work. */
export async function pruneHost(context: PruneContext, host: Host): Promise<PrunePlan & PruneResult> {
  using _lease = takeLease(context.catalog, host.name)
  await recoverRepacks(context.catalog, context.repository, host.name)
  const plan = planPrune(context, host)
  return { ...plan, ...(await applyPrune(context, plan)) }
}
