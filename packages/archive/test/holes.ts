import { closeSync, constants, fstatSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs'
import { errno, seekData, seekHole } from '../src/native/libc.ts'

/** Files with holes, for tests: made, and looked at as the file system tells. */

/** Start and end of a region of data. */
export type Region = readonly [start: number, end: number]

/** Makes a file of `size` bytes that are a hole but for `regions`, which get bytes that differ from each other. */
export function makeSparse(path: string | Buffer, size: number, regions: readonly Region[]): void {
  const fd = openSync(path, 'w')
  try {
    ftruncateSync(fd, size)
    for (const [start, end] of regions) writeSync(fd, bytesAt(start, end), 0, null, start)
  } finally {
    closeSync(fd)
  }
}

/** What `makeSparse` puts into a region: never zeros. */
export function bytesAt(start: number, end: number): Buffer {
  const bytes = Buffer.alloc(end - start, `data from ${start} on; `)
  return bytes
}

/** Where the data of a file lies, as the file system tells it. */
export function regionsOf(path: string | Buffer): Region[] {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const { size } = fstatSync(fd)
    const regions: Region[] = []
    for (let at = 0; at < size; ) {
      const start = seekData(fd, at)
      if (start === -errno.ENXIO) break
      const end = seekHole(fd, start)
      if (start < 0 || end <= start) throw new Error(`no data at ${at}: ${start}, ${end}`)
      regions.push([start, end])
      at = end
    }
    return regions
  } finally {
    closeSync(fd)
  }
}

/** Why the file system of a folder cannot show holes; `false` where it can. */
export function lacksHoles(folder: string): string | false {
  const path = `${folder}/.holes`
  makeSparse(path, 2 ** 20, [[2 ** 19, 2 ** 19 + 4096]])
  const regions = regionsOf(path)
  rmSync(path)
  return regions.length === 1 && regions[0]![0] === 2 ** 19
    ? false
    : 'the file system of the temporary folder does not tell where holes are'
}
