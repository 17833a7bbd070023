/** What a tree holds, in a form that can be compared: with what a restore made, and with what `ls` tells. */
import { hash } from 'node:crypto'
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { textFromBytes } from '@central-backup/archive'

type Path = Parameters<typeof textFromBytes>[0]

export interface Seen {
  type: 'file' | 'directory' | 'symlink' | 'fifo' | 'other'
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  /** 0 for all but files. */
  size: number
  /** SHA-256 of a file, in hex. */
  digest: string | null
  target: string | null
  /** The first of the names of the same object in the tree, in the order of a walk: its own where it has no other. */
  first: string
}

/** By path below the root, one character a byte; `''` is the root itself. */
export type Snapshot = ReadonlyMap<string, Seen>

/** The bytes of a path below `root`, for calls of `node:fs`. */
export function at(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(root), Buffer.from(path === '' ? '' : `/${path}`, 'latin1')])
}

/** Reads a tree, without what has a name for which `leavesOut` holds, and what is below that. */
export function readSnapshot(root: string, leavesOut: (name: string) => boolean = () => false): Snapshot {
  const found = new Map<string, Seen>()
  const firstNames = new Map<string, string>()
  const visit = (path: string) => {
    const stats = lstatSync(at(root, path), { bigint: true })
    const key = `${stats.dev}:${stats.ino}`
    if (!firstNames.has(key)) firstNames.set(key, path)
    found.set(path, see(at(root, path), stats, firstNames.get(key)!))
    if (!stats.isDirectory()) return
    const names = readdirSync(at(root, path), 'latin1')
    for (const name of names.sort()) if (!leavesOut(name)) visit(path === '' ? name : `${path}/${name}`)
  }
  visit('')
  return found
}

function see(path: Buffer, stats: BigIntStats, first: string): Seen {
  const isFile = stats.isFile()
  return {
    type: typeOf(stats),
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    mtimeNs: stats.mtimeNs,
    size: isFile ? Number(stats.size) : 0,
    digest: isFile ? hash('sha256', readFileSync(path)) : null,
    target: stats.isSymbolicLink() ? readlinkSync(path, 'latin1') : null,
    first,
  }
}

function typeOf(stats: BigIntStats): Seen['type'] {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  if (stats.isSymbolicLink()) return 'symlink'
  return stats.isFIFO() ? 'fifo' : 'other'
}

/** A line for each path, in order: two trees are the same where these are. */
export function linesOf(snapshot: Snapshot): string[] {
  return [...snapshot].map(([path, { type, mode, uid, gid, mtimeNs, size, digest, target, first }]) => {
    const same = first === path ? '' : ` is ${JSON.stringify(first)}`
    const what = `${type} ${mode.toString(8)} ${uid}:${gid} ${mtimeNs} ${size} ${digest?.slice(0, 12)} ${target}`
    return `${JSON.stringify(path)} ${what}${same}`
  })
}

/** What `ls --json` gives for a tree that was backed up from `root`: JSON objects with these keys. */
export function listingOf(snapshot: Snapshot, root: string): { path: string; [key: string]: unknown }[] {
  return [...snapshot].map(([path, seen]) => {
    const isLink = seen.first !== path
    const absolute = (below: string) => textFromBytes(at(root, below).toString('latin1') as Path)
    const seconds = seen.mtimeNs / 1_000_000_000n - (seen.mtimeNs % 1_000_000_000n < 0n ? 1n : 0n)
    return {
      path: absolute(path),
      type: isLink ? 'hardlink' : seen.type,
      mode: seen.mode,
      uid: seen.uid,
      gid: seen.gid,
      size: isLink ? 0 : seen.size,
      mtime: Number(seconds) + Number(seen.mtimeNs - seconds * 1_000_000_000n) / 1e9,
      target: isLink ? absolute(seen.first).slice(1) : seen.target && textFromBytes(seen.target as Path),
      digest: isLink ? null : seen.digest,
    }
  })
}
