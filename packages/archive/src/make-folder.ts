import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder and those above it that are missing, only for this user. Folders that are there stay as they are.
 * Returns the first that was made, or `null`. Throws errors of the operating system, and an `Error` where the file
 * system takes no folder: `mkdir` of Node.js with `recursive` never ends there, as below /proc.
 */
export async function makeFolders(path: string): Promise<string | null> {
  const failure = await tryToMake(path)
  if (failure === null) return path
  if (failure.code !== 'ENOENT') return await requireFolder(path, failure)
  const parent = dirname(path)
  const first = parent === path ? null : await makeFolders(parent)
  const again = await tryToMake(path)
  if (again === null) return first ?? path
  if (again.code === 'ENOENT') throw new Error(`${parent} takes no folder`, { cause: again })
  await requireFolder(path, again)
  return first
}

async function tryToMake(path: string): Promise<NodeJS.ErrnoException | null> {
  try {
    await mkdir(path, { mode: 0o700 })
    return null
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

/** Somebody else may have made it. Where that cannot be seen, what kept it from being made is the reason. */
async function requireFolder(path: string, failure: NodeJS.ErrnoException): Promise<null> {
  const stats = await stat(path).catch(() => null)
  if (stats?.isDirectory()) return null
  throw failure
}
