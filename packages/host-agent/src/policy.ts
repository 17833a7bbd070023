import {
  type BytePath,
  bytePathFromBuffer,
  bytesFromText,
  isSafePath,
  isWithin,
} from '@central-backup/archive'
import type { AgentSettings } from './settings.ts'

/** What a server may read, as paths without leading `/`. */
export function allowedPaths(settings: AgentSettings): BytePath[] {
  return settings.allow.read.map(pathOf)
}

/** A place that a server may restore to. */
export interface RestorePlace {
  /** A folder of the settings: links in the path to it are the host's own, and are followed. */
  folder: string
  /** The way down from it, on which no link is followed; `''` for none. */
  subfolder: BytePath
}

/**
 * Where the target of a request is; `null` where the settings do not allow it, or it is no absolute path without `.`, `..`
 * and empty components. Nothing is looked at to tell.
 */
export function findRestorePlace(settings: AgentSettings, target: Buffer): RestorePlace | null {
  const absolute = bytePathFromBuffer(target)
  const path = absolute.slice(1) as BytePath
  if (!absolute.startsWith('/') || (path !== '' && !isSafePath(path))) return null
  const above = settings.allow.restore
    .filter((folder) => isWithin(path, pathOf(folder)))
    .sort((a, b) => pathOf(b).length - pathOf(a).length)
  const folder = above[0]
  if (folder === undefined) return null
  const rest = pathOf(folder) === '' ? path : path.slice(pathOf(folder).length + 1)
  return { folder, subfolder: rest as BytePath }
}

/** Without the slashes around it, and those that stand twice; `.` is not a folder of its own. */
function pathOf(folder: string): BytePath {
  const names = bytesFromText(folder).split('/')
  return names.filter((name) => name !== '' && name !== '.').join('/') as BytePath
}
