import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Catalog } from './catalog.ts'
import { keyRanges } from './key-ranges.ts'

/** More users and groups than a site has, mostly: with fewer, none are looked for that nobody needs. */
const ownersKeptMin = 10_000

/**
 * What the catalog has of a host, in bytes, nearly: versions and runs. Reads all of it, half a second for a million
 * versions, in pieces between which others have their turn. Throws `CatalogError`.
 */
export async function catalogBytes(catalog: Catalog, host: string): Promise<number> {
  const { statements } = catalog
  let bytes = statements.runsBytes.get(host) ?? 0
  for (const generation of statements.generationsOfHost.all(host)) {
    for (const range of keyRanges(catalog, generation)) {
      bytes += statements.versionsBytes.get(range) ?? 0
      await nextTurn()
    }
  }
  return bytes
}

/**
 * Removes names of users and groups that are of no version, where there are many. Does nothing beside another lease than
 * the caller's: a run remembers the numbers of names that it has met. The caller writes no versions. Returns how many went.
 */
export function forgetUnusedOwners(catalog: Catalog): number {
  const { countOwners, countLeases, deleteUnusedOwners } = catalog.statements
  if ((countOwners.get() ?? 0) <= ownersKeptMin) return 0
  return catalog.transaction(() => ((countLeases.get() ?? 0) > 1 ? 0 : deleteUnusedOwners.run().changes))
}
