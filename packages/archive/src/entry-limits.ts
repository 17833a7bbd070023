import { type Entry, storedBytes } from './entry.ts'
import { ArchiveError } from './errors.ts'
import {
  extentsMax,
  fileBytesMax,
  ownerNameBytesMax,
  tarBytesMax,
  xattrNameBytesMax,
  xattrsBytesMax,
  xattrsMax,
} from './limits.ts'
import { linkTargetBytesMax, pathBytesMax, quotePath } from './path.ts'

/** Throws an `ArchiveError` (`entry-limit`) where a reader would refuse the lengths of the entry. */
export function checkEntryLimits(entry: Entry): void {
  if (entry.path.length > pathBytesMax) throw overLimit(entry, 'its path', entry.path.length, pathBytesMax)
  const targetMax = entry.type === 'hardlink' ? pathBytesMax : linkTargetBytesMax
  if (entry.target !== null && entry.target.length > targetMax) {
    throw overLimit(entry, 'the target of the link', entry.target.length, targetMax)
  }
  if (entry.size > fileBytesMax) throw overLimit(entry, 'its size', entry.size, fileBytesMax)
  if (entry.type === 'file' && storedBytes(entry) > tarBytesMax) {
    throw overLimit(entry, 'what is stored of its content', storedBytes(entry), tarBytesMax)
  }
  const ownerBytes = Math.max(entry.user.length, entry.group.length)
  if (ownerBytes > ownerNameBytesMax) {
    throw overLimit(entry, 'the name of its owner', ownerBytes, ownerNameBytesMax)
  }
  if (entry.extents.length > extentsMax) {
    throw overLimit(entry, 'the number of its pieces', entry.extents.length, extentsMax)
  }
  if (entry.xattrs !== null) checkXattrLimits(entry, entry.xattrs)
}

function checkXattrLimits(entry: Entry, xattrs: ReadonlyMap<string, Uint8Array>): void {
  let bytes = 0
  for (const [name, value] of xattrs) {
    if (name.length > xattrNameBytesMax) {
      throw overLimit(entry, 'the name of an extended attribute', name.length, xattrNameBytesMax)
    }
    bytes += name.length + value.length
  }
  if (xattrs.size > xattrsMax) {
    throw overLimit(entry, 'the number of extended attributes', xattrs.size, xattrsMax)
  }
  if (bytes > xattrsBytesMax) throw overLimit(entry, 'the size of extended attributes', bytes, xattrsBytesMax)
}

function overLimit(entry: Entry, what: string, found: number, max: number): ArchiveError {
  const path = quotePath(entry.path)
  return new ArchiveError(
    'entry-limit',
    `${path} does not fit into an archive: ${what} is ${found}, at most ${max}`,
  )
}
