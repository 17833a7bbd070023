import type { Entry, EntryType } from '../entry.ts'
import { errno } from '../native/libc.ts'
import { putInPlace, settle } from './files.ts'
import { beginSpecial } from './placement.ts'
import { SocketNames } from './socket-names.ts'
import { standingAt } from './standing.ts'
import type { RestoreWork } from './work.ts'

const types: readonly EntryType[] = ['symlink', 'fifo', 'socket', 'character-device', 'block-device']

/** What says that this user or this file system cannot have such a thing at all. */
const notToBeHad = new Set(
  [errno.EPERM, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS].map((number) => -number),
)

/** Restores all symbolic links, fifos, sockets and devices, but for further names of sockets. */
export async function restoreSpecials(work: RestoreWork): Promise<void> {
  work.begin('links')
  const sockets = new SocketNames()
  for (const entry of work.source.entries('path', types)) {
    await work.turn()
    if (sockets.firstNameOf(entry) !== null) continue
    restoreSpecial(work, entry)
    work.advance(entry.path, 1, 0)
  }
}

/** Restores one. Returns whether what counts as it stands there now; where it does not, that is reported. */
export function restoreSpecial(work: RestoreWork, entry: Entry): boolean {
  const spot = work.spot(entry)
  if (spot === null) return false
  const standing = standingAt(spot.folder, spot.name, entry.type)
  if (typeof standing === 'number') {
    work.failed(entry.path, 'cannot look at what stands there', standing)
    return false
  }
  const action = work.decide(entry, spot, standing)
  if (action === 'equal' || action === 'keep') return settle(work, entry, action, standing)
  const begun = beginSpecial(spot, entry)
  if (typeof begun === 'number') {
    if (notToBeHad.has(begun)) work.record.unset('special', entry.path, begun)
    else work.failed(entry.path, `cannot make the ${entry.type}`, begun)
    return false
  }
  work.setAttributes(begun, entry)
  if (entry.nlink > 1) work.noteMade(entry, begun.fd)
  return putInPlace(work, entry, spot, begun, action)
}
