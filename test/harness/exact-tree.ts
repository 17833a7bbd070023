/**
 * Everything that a tree is, to the last attribute, for comparing it with what a foreign program made of an archive. All
 * is looked at relative to open folders, so paths may be longer than the kernel takes; of files, only a digest is held.
 */
import { createHash } from 'node:crypto'
import {
  type BigIntStats,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'

const piece = Buffer.alloc(1024 * 1024)

/** A line for each path below `root`, one character a byte; `''` is the root itself. Sockets, which no tar has, are left out. */
export function describeExactly(root: string): Map<string, string> {
  const lines = new Map<string, string>()
  const firstNames = new Map<bigint, string>()
  const visit = (path: string, absolute: Buffer) => {
    const stats = lstatSync(absolute, { bigint: true })
    if (stats.isSocket()) return
    const first = stats.isDirectory() ? path : (firstNames.get(stats.ino) ?? path)
    firstNames.set(stats.ino, first)
    const same = first === path ? '' : ` as ${JSON.stringify(first)}`
    const mode = (stats.mode & 0o7777n).toString(8)
    lines.set(path, `${describe(absolute, stats)} ${mode} ${stats.uid}:${stats.gid} ${stats.mtimeNs}${same}`)
    if (!stats.isDirectory()) return
    const folder = openSync(absolute, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      const below = `/proc/self/fd/${folder}/`
      for (const name of readdirSync(below, 'latin1').sort()) {
        visit(path === '' ? name : `${path}/${name}`, Buffer.from(`${below}${name}`, 'latin1'))
      }
    } finally {
      closeSync(folder)
    }
  }
  visit('', Buffer.from(root))
  return lines
}

function describe(path: Buffer, stats: BigIntStats): string {
  if (stats.isFile()) return `file ${stats.size} ${digestOf(path)}`
  if (stats.isSymbolicLink()) return `link ${JSON.stringify(readlinkSync(path, 'latin1'))}`
  if (stats.isDirectory()) return 'folder'
  if (stats.isFIFO()) return 'fifo'
  return `${stats.isBlockDevice() ? 'block' : 'character'} device ${stats.rdev}`
}

function digestOf(path: Buffer): string {
  const digest = createHash('sha256')
  const file = openSync(path, 'r')
  try {
    for (let length = readSync(file, piece); length > 0; length = readSync(file, piece)) {
      digest.update(piece.subarray(0, length))
    }
  } finally {
    closeSync(file)
  }
  return digest.digest('hex').slice(0, 24)
}
