import { constants } from 'node:fs'
import { close, cName, FileStatus, openFileAt, readInto } from '../native/libc.ts'
import { type BytePath, textFromBytes } from '../path.ts'
import type { Rules } from './rules.ts'

/** The file that marks a folder as a cache, and how its content begins (https://bford.info/cachedir/). */
const cacheTagName = 'CACHEDIR.TAG' as BytePath
const signature = Buffer.from('Signature: 8a477f597d28d172789f06886806bc55', 'latin1')

/** What says of a folder that what lies in it is not to be packed. */
export interface FolderMark {
  reason: 'cache-directory' | 'marker'
  name: BytePath
  detail: string
}

/** The mark of an open folder that the rules ask for, or `null`. `names` are all that it holds. */
export function findMark(directory: number, names: readonly BytePath[], rules: Rules): FolderMark | null {
  if (rules.excludeCaches && names.includes(cacheTagName) && hasSignature(directory)) {
    return { reason: 'cache-directory', name: cacheTagName, detail: `it holds a ${cacheTagName}` }
  }
  const name = rules.excludeIfPresent.find((one) => names.includes(one))
  return name === undefined ? null : { reason: 'marker', name, detail: `it holds a ${textFromBytes(name)}` }
}

/** Whether the tag is a regular file, and no link to one, with the signature. */
function hasSignature(directory: number): boolean {
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
