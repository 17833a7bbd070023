import { lstatSync, mkdirSync, realpathSync } from 'node:fs'
import module from 'node:module'
import { dirname, isAbsolute, join } from 'node:path'

/**
 * Has Node keep what it compiles of the program, and of the modules of the hosts, so that the next start is a quarter shorter:
 * in $CACHE_DIRECTORY (of a systemd unit), $XDG_CACHE_HOME/central-backup or ~/.cache/central-backup.
 *
 * What lies there is run. So it is used only where nobody but root and this user can write to it, or to a folder that it is
 * in. Where there is no such folder, programs start without.
 *
 * @param {Record<string, string | undefined>} environment
 * @param {number} uid the effective one
 */
export function useCompileCache(environment, uid) {
  const folder = cacheFolder(environment)
  if (folder === null) return
  try {
    makeFolder(dirname(folder))
    makeFolder(folder)
    const real = realpathSync(folder)
    if (isOurs(real, uid)) module.enableCompileCache(real)
  } catch {
    // A home that is not there or read-only: a start that takes a little longer is no failure.
  }
}

/**
 * Not `recursive`: that never ends where a folder is there in which nothing can be made, as in /proc.
 *
 * @param {string} path
 */
function makeFolder(path) {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
  }
}

/** @param {Record<string, string | undefined>} environment */
function cacheFolder({ CACHE_DIRECTORY, XDG_CACHE_HOME, HOME }) {
  // A unit may have several, with colons between them.
  if (CACHE_DIRECTORY) return CACHE_DIRECTORY.split(':')[0]
  if (XDG_CACHE_HOME && isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, 'central-backup')
  return HOME && isAbsolute(HOME) ? join(HOME, '.cache', 'central-backup') : null
}

/**
 * @param {string} path a folder, without links on the way to it
 * @param {number} uid
 */
function isOurs(path, uid) {
  const stats = lstatSync(path)
  const foreign = stats.uid !== 0 && stats.uid !== uid
  // In a folder like /tmp, others can write, but not rename what is ours.
  const writable = (stats.mode & 0o022) !== 0 && (stats.mode & 0o1000) === 0
  if (!stats.isDirectory() || foreign || writable) return false
  return path === '/' || isOurs(dirname(path), uid)
}
