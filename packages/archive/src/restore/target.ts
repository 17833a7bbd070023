import { ArchiveError } from '../errors.ts'
import { errno } from '../native/libc.ts'
import { type BytePath, bytesFromText, joinPath, quotePath } from '../path.ts'
import { describeFailure } from './report.ts'
import { TargetTree } from './target-tree.ts'

/**
 * Opens the folder that a restore writes below; see `RestoreOptions` for `subfolder`. `make`: what is missing of
 * `subfolder` is made; without it, `null` where something is missing. Throws an `ArchiveError` (`restore-failed`) where
 * it is no folder that can be opened.
 */
export function openTarget(target: string, subfolder: BytePath, make: boolean): TargetTree | null {
  const tree = TargetTree.openBelow(bytesFromText(target), subfolder, make)
  if (typeof tree !== 'number') return tree
  if (tree === -errno.ENOENT && !make) return null
  const folder = bytesFromText(target).replace(/^\/+|\/+$/g, '') as BytePath
  const shown = quotePath(subfolder === '' ? folder : joinPath(folder, subfolder))
  const hint =
    tree === -errno.ENOENT || tree === -errno.ENOTDIR ? 'Make the folder, or choose another.' : undefined
  throw new ArchiveError('restore-failed', describeFailure(`cannot open the target ${shown}`, tree), { hint })
}
