import type { Entry } from '../entry.ts'
import { close, cName, openFileAt } from '../native/libc.ts'
import type { BytePath } from '../path.ts'
import { sealingFlags, setInodeFlags } from './inode-flags.ts'
import { standingAt, standingOf } from './standing.ts'
import type { RestoreWork } from './work.ts'

/**
 * Sets the flags of files after which they take no change: last of all, as such files get no further names, and can
 * neither be renamed nor replaced. A pass of its own, where there are any, so that they need not be remembered.
 */
export async function sealFiles(work: RestoreWork): Promise<void> {
  if (!work.hasSealed) return
  work.begin('attributes')
  for (const entry of work.source.entries('path', ['file', 'hardlink'])) {
    await work.turn()
    const first = entry.type === 'hardlink' ? work.source.entryAt(entry.target!) : entry
    if (first?.type === 'file' && ((first.flags ?? 0) & sealingFlags) !== 0)
      sealFile(work, { ...first, path: entry.path })
  }
}

/** Leaves alone what is not as it was backed up: it was kept, or changed meanwhile. */
function sealFile(work: RestoreWork, entry: Entry): void {
  const slash = entry.path.lastIndexOf('/')
  const folder = work.tree.folder(entry.path.slice(0, Math.max(0, slash)) as BytePath, false)
  if (folder < 0) return
  const name = cName(entry.path.slice(slash + 1) as BytePath)
  const standing = standingAt(folder, name, 'file')
  if (standing === null || typeof standing === 'number') return
  if (!work.isMade(entry, { folder, name }, standing)) return
  const fd = openFileAt(folder, name)
  if (fd < 0) {
    work.unsetOf(entry)('flags', fd)
    return
  }
  const opened = standingOf(fd)
  if (typeof opened !== 'number' && opened.ino === standing.ino && opened.dev === standing.dev)
    setInodeFlags(fd, entry, 0, work.unsetOf(entry))
  close(fd)
}
