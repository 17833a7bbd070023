import { lstatSync, readlinkSync } from 'node:fs'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  isWithin,
  joinPath,
} from '@central-backup/archive'

/** Links that the kernel follows in one look-up. */
const linksMax = 40

export type Resolution =
  | { kind: 'resolved'; path: BytePath; links: BytePath[]; isLink: boolean }
  | { kind: 'not-allowed' }
  | { kind: 'not-found' }
  | { kind: 'unreadable'; message: string }

/**
 * Resolves the links in the parents of a path, and with `followLast` the last component too. The walk follows none,
 * so it needs the path that lies behind them; the links themselves are told, to be packed beside it.
 *
 * Nothing outside `allowed` is looked at, so the answer tells nothing about what is there. Paths are without leading `/`.
 */
export function resolvePath(path: BytePath, allowed: readonly BytePath[], followLast: boolean): Resolution {
  const components = splitPath(path)
  const links: BytePath[] = []
  let real = '' as BytePath
  let isLink = false
  while (components.length > 0) {
    const name = components.shift()!
    if (name === '..') {
      real = real.slice(0, Math.max(0, real.lastIndexOf('/'))) as BytePath
      continue
    }
    const next = joinPath(real, name)
    if (!allowed.some((one) => isWithin(next, one) || isWithin(one, next))) return { kind: 'not-allowed' }
    const target = linkTarget(next)
    if (typeof target === 'object' && target !== null) return target
    const last = components.length === 0
    isLink = target !== null
    if (target === null || (last && !followLast)) {
      real = next
      continue
    }
    links.push(next)
    if (links.length > linksMax) return { kind: 'unreadable', message: 'too many links in its path' }
    if (target.startsWith('/')) real = '' as BytePath
    components.unshift(...splitPath(target))
    isLink = false
  }
  if (!allowed.some((one) => isWithin(real, one))) return { kind: 'not-allowed' }
  return { kind: 'resolved', path: real, links, isLink }
}

/** Components of a path, without empty ones and `.`. */
export function splitPath(path: string): BytePath[] {
  return path.split('/').filter((name) => name !== '' && name !== '.') as BytePath[]
}

/** Target where a link stands, `null` where something else does. */
function linkTarget(path: BytePath): BytePath | null | Resolution {
  const absolute = bufferFromBytePath(`/${path}` as BytePath)
  try {
    if (!lstatSync(absolute).isSymbolicLink()) return null
    return bytePathFromBuffer(readlinkSync(absolute, { encoding: 'buffer' }))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'not-found' }
    return { kind: 'unreadable', message }
  }
}
