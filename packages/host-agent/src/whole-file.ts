import { constants } from 'node:fs'
import { open, rename, unlink } from 'node:fs/promises'

/**
 * Writes a file for this user only, beside its place, and renames it: there is never half a file, and a link that lies
 * there is replaced, not followed. The caller makes the folder safe against a power loss (`syncFolder`).
 */
export async function writeWhole(path: string, content: string): Promise<void> {
  const beside = `${path}.new`
  await unlink(beside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  await using file = await open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    await file.chmod(0o600)
    await file.writeFile(content)
    await file.sync()
    await rename(beside, path)
  } catch (error) {
    // What is left beside is replaced by the next who writes.
    await unlink(beside).catch(() => {})
    throw error
  }
}
