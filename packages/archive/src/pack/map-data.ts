import { errno, seekData, seekHole } from '../native/libc.ts'
import { SparseMap } from '../sparse-map.ts'
import { tarBlockBytes } from '../tar-header.ts'

/** Regions between two calls of `onAdvance`. */
const regionsAtOnce = 1024

/**
 * Asks the file system where the data of a file of `size` bytes lies. `null` where it cannot tell. What is written into
 * holes while it is asked may be missing. `onAdvance` is told now and then of how many regions more were found, and may throw.
 * Moves the file's position.
 */
export function mapData(fd: number, size: number, onAdvance: (regions: number) => void): SparseMap | null {
  const map = new SparseMap(size)
  let asked = 0
  for (let at = 0; at < size; ) {
    const start = seekData(fd, at)
    if (start === -errno.ENXIO || start >= size) break
    if (start < 0) return null
    const end = seekHole(fd, start)
    // It was cut off meanwhile: what is not there any more is found out by reading.
    if (end === -errno.ENXIO) {
      map.add(start, size)
      break
    }
    if (end < 0) return null
    map.add(start, end)
    // Data that has become a hole in between has no length, and must not be asked for again and again.
    at = Math.max(end, start + tarBlockBytes)
    if (++asked % regionsAtOnce === 0) onAdvance(regionsAtOnce)
  }
  return map
}
