import { close, cName, readNames } from '../native/libc.ts'
import { lockFile, openPathAt, reopenFile, unlinkAt } from '../native/libc-write.ts'
import { mayBeSealed, reseal, unseal } from './inode-flags.ts'
import { isTemporary, type Spot } from './placement.ts'
import { type Standing, standingOf } from './standing.ts'
import type { TargetTree } from './target-tree.ts'

/** Removes what stands somewhere and is no folder, also where its flags forbid it. 0, or a negative error number. */
export function removeAt({ folder, name }: Spot, standing: Standing): number {
  const removed = unlinkAt(folder, name)
  const unsealed = mayBeSealed(removed) ? unseal(folder, name, standing) : null
  if (unsealed === null) return removed
  const again = unlinkAt(folder, name)
  reseal(unsealed)
  return again
}

/**
 * Removes what restores that were killed have left in a folder, which is open for reading. Not while another restore has
 * the same target, and no file that one writes to whose target is another: what cannot be told apart stays for the next.
 */
export function removeStale(tree: TargetTree, folder: number): void {
  const names = readNames(folder)
  const stale = typeof names === 'number' ? [] : names.filter(isTemporary)
  if (stale.length === 0) return
  tree.whileAlone(() => {
    for (const name of stale) removeIfStale({ folder, name: cName(name) })
  })
}

function removeIfStale(spot: Spot): void {
  const fd = openPathAt(spot.folder, spot.name)
  if (fd < 0) return
  const standing = standingOf(fd)
  if (typeof standing !== 'number' && standing.type !== 'directory' && !isAtWork(fd, standing))
    removeAt(spot, standing)
  close(fd)
}

/** Whether somebody writes to a file: who does has it locked. */
function isAtWork(fd: number, { type }: Standing): boolean {
  if (type !== 'file') return false
  const readable = reopenFile(fd)
  if (readable < 0) return true
  const locked = lockFile(readable)
  close(readable)
  return locked < 0
}
