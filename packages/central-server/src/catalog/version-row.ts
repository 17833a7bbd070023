import {
  type BytePath,
  type Entry,
  type EntryType,
  type Extent,
  entryTypes,
  type Gone,
  quotePath,
} from '@central-backup/archive'
import { BackupError } from '../errors.ts'
import { catalogDamaged } from './failure.ts'
import type { References } from './references.ts'

/** A row of `versions`. Columns are explained in the schema. */
export interface VersionRow {
  generation: number
  path: Buffer
  first_run: number
  end_run: number | null
  end_reason: number | null
  type: number
  mode: number
  uid: number
  gid: number
  owner_id: number
  size: number
  mtime_s: number
  mtime_ns: number
  ctime_s: number
  ctime_ns: number
  ino: number | string
  dev: number | string
  nlink: number
  target: Buffer | null
  device_major: number | null
  device_minor: number | null
  xattrs: string | null
  flags: number | null
  project: number
  digest: Buffer | null
  content_run: number | null
  content_offset: number | null
  stored_size: number | null
  content_pieces: string | null
  marks: number
}

const changedWhileReadMark = 1
const ancestorMark = 2
const mountPointMark = 4

/** In the order of their numbers in `end_reason`. */
const endReasons: readonly Gone['reason'][] = ['deleted', 'unselected']

export function endReasonNumber(reason: Gone['reason']): number {
  return endReasons.indexOf(reason)
}

/** `null` where another version took its place, or it still stands. */
export function endReasonOf({ end_reason }: VersionRow): Gone['reason'] | null {
  return end_reason === null ? null : endReasons[end_reason]!
}

export function typeNumber(type: EntryType): number {
  return entryTypes.indexOf(type)
}

/** A path as it is stored: `memcmp` of two keys is `comparePaths` of the paths. */
export function sortKey(path: BytePath): Buffer {
  return Buffer.from(path.replaceAll('/', '\0'), 'latin1')
}

export function pathOfSortKey(key: Buffer): BytePath {
  return key.toString('latin1').replaceAll('\0', '/') as BytePath
}

/** Values for the columns of `insertVersion`, in their order. `runOf` finds the run whose archive has a name. */
export function toVersionValues(
  entry: Entry,
  place: { generation: number; run: number; owner: number; runOf: (archive: string) => number },
): unknown[] {
  const [piece] = entry.extents
  const single = entry.extents.length === 1
  const runOf = (extent: Extent) => (extent.archive === null ? place.run : place.runOf(extent.archive))
  const pieces = entry.extents.map((extent) => [runOf(extent), extent.offset, extent.length])
  return [
    place.generation,
    sortKey(entry.path),
    place.run,
    typeNumber(entry.type),
    entry.mode,
    entry.uid,
    entry.gid,
    place.owner,
    entry.size,
    entry.mtimeSeconds,
    entry.mtimeNanoseconds,
    entry.ctimeSeconds,
    entry.ctimeNanoseconds,
    typeof entry.ino === 'bigint' ? String(entry.ino) : entry.ino,
    typeof entry.dev === 'bigint' ? String(entry.dev) : entry.dev,
    entry.nlink,
    entry.target === null ? null : Buffer.from(entry.target, 'latin1'),
    entry.device?.major ?? null,
    entry.device?.minor ?? null,
    entry.xattrs === null ? null : encodeXattrs(entry.xattrs),
    entry.flags,
    entry.project,
    entry.digest,
    single ? runOf(piece!) : null,
    single ? piece!.offset : null,
    entry.storedSize,
    entry.extents.length > 1 ? JSON.stringify(pieces) : null,
    (entry.changedWhileRead ? changedWhileReadMark : 0) |
      (entry.ancestor ? ancestorMark : 0) |
      (entry.mountPoint ? mountPointMark : 0),
  ]
}

/** Throws a `CatalogError` where the row cannot be what was written. */
export function toEntry(row: VersionRow, references: References): Entry {
  try {
    requireTypes(row)
    return makeEntry(row, references)
  } catch (error) {
    if (error instanceof BackupError) throw error
    const path = Buffer.isBuffer(row.path) ? quotePath(pathOfSortKey(row.path)) : 'a path'
    throw catalogDamaged(references.file, `what it has of ${path}: ${(error as Error).message}`, error)
  }
}

const naturalColumns = [
  ...[
    'first_run',
    'mode',
    'uid',
    'gid',
    'owner_id',
    'size',
    'mtime_ns',
    'ctime_ns',
    'nlink',
    'project',
    'marks',
  ],
] as const satisfies readonly (keyof VersionRow)[]
const maybeNaturalColumns = [
  ...['end_run', 'end_reason', 'device_major', 'device_minor', 'flags'],
  ...['content_run', 'content_offset', 'stored_size'],
] as const satisfies readonly (keyof VersionRow)[]

/** SQLite reads what a page says, whatever the schema says of types. */
function requireTypes(row: VersionRow): void {
  const refuse = (column: keyof VersionRow) => {
    throw new TypeError(`${column} has no such value`)
  }
  for (const column of naturalColumns) if (!isNatural(row[column])) refuse(column)
  for (const column of maybeNaturalColumns)
    if (row[column] !== null && !isNatural(row[column])) refuse(column)
  for (const column of ['mtime_s', 'ctime_s'] as const) if (!Number.isSafeInteger(row[column])) refuse(column)
  for (const column of ['ino', 'dev'] as const) {
    const value = row[column]
    if (!isNatural(value) && !(typeof value === 'string' && /^\d{1,20}$/.test(value))) refuse(column)
  }
  if (!Buffer.isBuffer(row.path)) refuse('path')
  if (row.target !== null && !Buffer.isBuffer(row.target)) refuse('target')
  if (row.digest !== null && !(Buffer.isBuffer(row.digest) && row.digest.length === 32)) refuse('digest')
  if (entryTypes[row.type] === undefined) refuse('type')
  if (row.end_reason !== null && endReasons[row.end_reason] === undefined) refuse('end_reason')
  if ((row.device_major === null) !== (row.device_minor === null)) refuse('device_minor')
  if ((row.content_run === null) !== (row.content_offset === null)) refuse('content_offset')
}

function isNatural(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function makeEntry(row: VersionRow, references: References): Entry {
  const { user, group } = references.ownerOf(row.owner_id)
  return {
    path: pathOfSortKey(row.path),
    type: entryTypes[row.type]!,
    mode: row.mode,
    uid: row.uid,
    gid: row.gid,
    user,
    group,
    size: row.size,
    storedSize: row.stored_size,
    mtimeSeconds: row.mtime_s,
    mtimeNanoseconds: row.mtime_ns,
    ctimeSeconds: row.ctime_s,
    ctimeNanoseconds: row.ctime_ns,
    ino: typeof row.ino === 'string' ? BigInt(row.ino) : row.ino,
    dev: typeof row.dev === 'string' ? BigInt(row.dev) : row.dev,
    nlink: row.nlink,
    target: row.target === null ? null : (row.target.toString('latin1') as BytePath),
    device: row.device_major === null ? null : { major: row.device_major, minor: row.device_minor! },
    xattrs: row.xattrs === null ? null : decodeXattrs(row.xattrs),
    flags: row.flags,
    project: row.project,
    digest: row.digest,
    extents: extentsOf(row, references),
    changedWhileRead: (row.marks & changedWhileReadMark) !== 0,
    ancestor: (row.marks & ancestorMark) !== 0,
    ...((row.marks & mountPointMark) !== 0 && { mountPoint: true }),
  }
}

function extentsOf(row: VersionRow, { archiveOf }: References): Extent[] {
  if (row.content_run !== null) {
    const length = row.stored_size ?? row.size
    return [{ archive: archiveOf(row.content_run), offset: row.content_offset!, length }]
  }
  if (row.content_pieces === null) return []
  const pieces = JSON.parse(row.content_pieces) as [run: number, offset: number, length: number][]
  return pieces.map(([run, offset, length]) => ({ archive: archiveOf(run), offset, length }))
}

function encodeXattrs(xattrs: NonNullable<Entry['xattrs']>): string {
  return JSON.stringify([...xattrs].map(([name, value]) => [name, Buffer.from(value).toString('base64')]))
}

function decodeXattrs(text: string): ReadonlyMap<string, Uint8Array> {
  const pairs = JSON.parse(text) as [name: string, value: string][]
  return new Map(pairs.map(([name, value]) => [name, Buffer.from(value, 'base64')]))
}
