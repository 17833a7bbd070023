/**
 * Whole trees, compared in everything that a file system keeps of them: kinds, content, holes, modes, owners, times to the
 * nanosecond, names of one object, link targets, device numbers, extended attributes, ACLs, inode flags, projects. Looks at
 * everything by calls of its own and relative to open folders, so that paths may be longer than the kernel takes.
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
import { inodeFlagsMask } from '@central-backup/archive'
import { regionsOf } from '../../packages/archive/test/holes.ts'
import { readFlags, readProject, readXattrs } from '../../packages/archive/test/object-attributes.ts'

/** What is compared of an object. `names`: which of the paths of the tree are names of the same object. */
export const aspects = [
  'kind',
  'content',
  'holes',
  'target',
  'device',
  'names',
  'mode',
  'owner',
  'mtime',
  'acls',
  'capabilities',
  'labels',
  'xattrs',
  'flags',
  'project',
] as const
export type Aspect = (typeof aspects)[number]

/** An object as text, aspect by aspect; those that its kind does not have are missing. */
export type Seen = Partial<Record<Aspect, string>>

/** By path below the root, one character a byte; `''` is the root itself. */
export type Tree = ReadonlyMap<string, Seen>

export interface Difference {
  path: string
  /** `presence`: it is in one of the trees only. */
  aspect: Aspect | 'presence'
  found: string | undefined
  expected: string | undefined
}

/** Reads a tree. Symbolic links are not followed, and only files are opened. */
export function readTree(root: string): Tree {
  const tree = new Map<string, Seen>()
  const firstNames = new Map<string, string>()
  const visit = (path: string, absolute: Buffer) => {
    const stats = lstatSync(absolute, { bigint: true })
    const key = `${stats.dev}:${stats.ino}`
    const first = firstNames.get(key) ?? path
    firstNames.set(key, first)
    tree.set(path, { ...see(absolute, stats), ...(stats.isDirectory() ? {} : { names: quote(first) }) })
    if (!stats.isDirectory()) return
    const folder = openSync(absolute, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
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
  return tree
}

/** All in which two trees differ, in the order of paths; what `ignored` names is not compared. */
export function compareTrees(
  found: Tree,
  expected: Tree,
  ignored: ReadonlySet<Aspect> = new Set(),
): Difference[] {
  const differences: Difference[] = []
  for (const path of [...new Set([...found.keys(), ...expected.keys()])].sort()) {
    const here = found.get(path)
    const there = expected.get(path)
    if (here === undefined || there === undefined) {
      differences.push({ path, aspect: 'presence', found: here?.kind, expected: there?.kind })
      continue
    }
    for (const aspect of aspects) {
      if (here[aspect] === there[aspect] || ignored.has(aspect)) continue
      differences.push({ path, aspect, found: here[aspect], expected: there[aspect] })
      // All else of another kind of object differs, or is the same by chance.
      if (aspect === 'kind') break
    }
  }
  return differences
}

function see(path: Buffer, stats: BigIntStats): Seen {
  const kind = kindOf(stats)
  const seen: Seen = {
    kind,
    owner: `${stats.uid}:${stats.gid}`,
    mtime: `${stats.mtimeNs}`,
    ...attributesOf(readXattrs(path)),
  }
  if (kind !== 'link') seen.mode = (stats.mode & 0o7777n).toString(8)
  if (kind === 'link') seen.target = quote(readlinkSync(path, 'latin1'))
  if (kind === 'block device' || kind === 'character device') seen.device = `${stats.rdev}`
  if (kind === 'file') {
    seen.content = `${stats.size} bytes, ${digestOf(path)}`
    seen.holes = holesOf(path, stats)
  }
  if (kind === 'file' || kind === 'folder') {
    const flags = readFlags(path)
    seen.flags = flags === null ? 'none' : (flags & inodeFlagsMask).toString(16)
    seen.project = `${readProject(path)}`
  }
  return seen
}

function kindOf(stats: BigIntStats): string {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'folder'
  if (stats.isSymbolicLink()) return 'link'
  if (stats.isFIFO()) return 'fifo'
  if (stats.isSocket()) return 'socket'
  return stats.isBlockDevice() ? 'block device' : 'character device'
}

function attributesOf(xattrs: ReadonlyMap<string, Buffer>): Seen {
  const seen: Seen = {}
  for (const aspect of ['acls', 'capabilities', 'labels', 'xattrs'] as const) {
    const chosen = [...xattrs].filter(([name]) => aspectOf(name) === aspect)
    if (chosen.length === 0) continue
    seen[aspect] = chosen.map(([name, value]) => `${quote(name)}=${shown(value)}`).join(' ')
  }
  return seen
}

function aspectOf(xattr: string): Aspect {
  if (xattr.startsWith('system.posix_acl_')) return 'acls'
  if (xattr === 'security.capability') return 'capabilities'
  return xattr.startsWith('security.') ? 'labels' : 'xattrs'
}

const shownBytesMax = 64

function shown(value: Buffer): string {
  if (value.length <= shownBytesMax) return value.toString('hex')
  return `${value.length} bytes, ${createHash('sha256').update(value).digest('hex').slice(0, 16)}`
}

function quote(bytes: string): string {
  return JSON.stringify(bytes)
}

/** What lies at the end of the file counts as well: a file that ends in a hole has no data there. */
function holesOf(path: Buffer, stats: BigIntStats): string {
  if (stats.size === 0n) return ''
  return regionsOf(path)
    .map(([start, end]) => `${start}-${end}`)
    .join(' ')
}

const piece = Buffer.alloc(1024 * 1024)

function digestOf(path: Buffer): string {
  const digest = createHash('sha256')
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    for (let length = readSync(file, piece); length > 0; length = readSync(file, piece)) {
      digest.update(piece.subarray(0, length))
    }
  } finally {
    closeSync(file)
  }
  return digest.digest('hex').slice(0, 24)
}
