import { constants } from 'node:fs'
import { close, cName, FileStatus, openFileAt, readInto } from '../native/libc.ts'
import type { BytePath } from '../path.ts'

/** The file that marks a folder as a cache, and how its content begins (https://bford.info/cachedir/). */
export const cacheTagName = 'CACHEDIR.TAG' as BytePath
const signature = Buffer.from('Signature: 8a477f597d28d172789f06886806bc55', 'latin1')

/** Whether a folder holds a tag with the signature: a regular file, and no link to one. */
export function hasCacheTag(directory: number): boolean {
  const fd = openFileAt(directory, cName(cacheTagName))
  if (fd < 0) return false
  try {
    const status = new FileStatus()
    if (status.ofDescriptor(fd) < 0 || (status.mode & constants.S_IFMT) !== constants.S_IFREG) return false
    const begin = Buffer.alloc(signature.length)
    return readInto(fd, begin, 0, begin.length) === begin.length && begin.equals(signature)
  } finally {
    close(fd)
  }
}
