import type { StatsFs } from 'node:fs'
import { lstat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { StorageError } from '../errors.ts'
import { withStorageErrors } from './failure.ts'
import { namesIfThere, unlessMissing } from './if-there.ts'
import { hostFolder, type Repository } from './repository.ts'

/** What is to stay free on a disk: bytes, or a part of the whole. */
export type FreeSpace = { bytes: number } | { percent: number }

/** Of what `statfs` tells, what matters here. */
type Numbers = Pick<StatsFs, 'bsize' | 'blocks' | 'bavail' | 'files' | 'ffree'>

/**
 * Throws `StorageError` `disk-full` where less of the file system of `folder` is free than is to stay so, or less than that
 * part of its inodes (one in a hundred, where bytes are given).
 */
export async function requireFreeSpace(
  folder: string,
  minFree: FreeSpace,
  measure: (folder: string) => Promise<Numbers> = statfs,
): Promise<void> {
  if ('bytes' in minFree ? minFree.bytes === 0 : minFree.percent === 0) return
  const space = await withStorageErrors(`look at the free space of ${folder}`, () => measure(folder))
  const freeBytes = space.bavail * space.bsize
  const wantedBytes =
    'bytes' in minFree ? minFree.bytes : (space.blocks * space.bsize * minFree.percent) / 100
  if (freeBytes < wantedBytes)
    throw tooLittle(folder, `${mebibytes(freeBytes)} MiB are free`, `${mebibytes(wantedBytes)} MiB`)
  // Some file systems make inodes as they need them, and say that they have none, or as many as fit.
  const percent = 'bytes' in minFree ? 1 : minFree.percent
  if (space.files > 0 && space.ffree < (space.files * percent) / 100)
    throw tooLittle(folder, `${space.ffree} inodes of ${space.files} are free`, `${percent} %`)
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 1024 / 1024)
}

function tooLittle(folder: string, found: string, wanted: string): StorageError {
  return new StorageError(
    'disk-full',
    `On the disk of ${folder} only ${found}, and ${wanted} are to stay free`,
    {
      hint: 'Make space (`backup-server prune`, or a larger disk) and run again. `minFree` in settings.ts is the limit.',
    },
  )
}

/** What all files of a host take in the repository: archives, what broken runs left, and the trash. */
export async function hostBytes(repository: Repository, host: string): Promise<number> {
  let bytes = 0
  for (const area of ['archives', 'trash'] as const)
    bytes += await folderBytes(hostFolder(repository, host, area))
  return bytes
}

async function folderBytes(folder: string): Promise<number> {
  return withStorageErrors(`list ${folder}`, async () => {
    let bytes = 0
    for (const name of await namesIfThere(folder)) {
      // Retention may be at work in the trash.
      const status = await unlessMissing(lstat(join(folder, name)))
      bytes += status?.size ?? 0
    }
    return bytes
  })
}
