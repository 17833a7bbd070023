import { ArchiveError } from '../errors.ts'
import { describeErrno } from '../native/libc.ts'
import type { BytePath } from '../path.ts'
import { restoreFiles } from './files.ts'
import { finishFolders, makeFolders } from './folders.ts'
import { restoreHardLinks } from './hard-links.ts'
import type { RestoreReport } from './report.ts'
import { sealFiles } from './seal-files.ts'
import type { RestoreSource } from './source.ts'
import { restoreSpecials } from './specials.ts'
import { openTarget } from './target.ts'
import { type RestoreOptions, RestoreWork } from './work.ts'

/**
 * Restores a selection below `target`, an absolute path of a folder that is there: `etc/hosts` comes back as
 * `TARGET/etc/hosts`. Everything is streamed in passes: folders; files; links and special files; further names; flags
 * that files take no change after; attributes of folders.
 *
 * - Nothing outside of the target is written, whatever the entries say and whatever others do in the target meanwhile:
 *   no link is followed below it.
 * - A file has its name only once it is whole and has all its attributes. What is damaged or cannot be written is
 *   reported, and all else comes back.
 * - What was broken off goes on where it ended when it is called again: see `decide` for what counts as done. What a
 *   restore that was killed had begun, under a temporary name, is removed from the folders that this one restores.
 *
 * Throws an `ArchiveError` (`restore-failed`) where the target takes nothing any more, and the reason of the signal
 * where that is aborted. When it returns, all that was written is on disk.
 */
export async function restoreTree(
  source: RestoreSource,
  target: string,
  options: RestoreOptions = {},
): Promise<RestoreReport> {
  using tree = openTarget(target, options.subfolder ?? ('' as BytePath), true)!
  tree.share()
  const work = new RestoreWork(source, tree, options)
  const obstructed = await makeFolders(work)
  await restoreFiles(work)
  await restoreSpecials(work)
  await restoreHardLinks(work)
  await sealFiles(work)
  await finishFolders(work, obstructed)
  work.begin('sync')
  work.advance('' as BytePath, 0, 0)
  const [failure] = tree.sync()
  if (failure !== undefined) {
    throw new ArchiveError(
      'restore-failed',
      `${target} cannot be written to disk: ${describeErrno(failure)}`,
      {
        hint: 'Look at dmesg: what was restored may not be there after the next start.',
      },
    )
  }
  work.record.report.mapped = work.rules.owners.mapped()
  return work.record.report
}
