import type { BytePath } from './path.ts'

/**
 * What an entry is. A `hardlink` is a further name of an object that stands earlier in the same run under `target`; its
 * first name carries the content. Indexes and catalogs know a type by its place here: only ever add to the end.
 */
export const entryTypes = [
  'file',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'socket',
  'character-device',
  'block-device',
] as const
export type EntryType = (typeof entryTypes)[number]

/** A piece of content: `length` bytes at `offset` of the tar stream (decompressed) of an archive. */
export interface Extent {
  /** File name of the archive, below the same host; `null` for the archive that holds the index. */
  archive: string | null
  offset: number
  length: number
}

/** One file-system object of a run: its path, attributes and, where it has content, where that lies. */
export interface Entry {
  /** Relative to the root directory, without leading or trailing `/`. */
  path: BytePath
  type: EntryType
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  mode: number
  uid: number
  gid: number
  /** Names of the owners on the host; `''` where they have none. */
  user: BytePath
  group: BytePath
  /** Bytes of content, holes included; 0 for all but files. */
  size: number
  /**
   * Of a sparse file, the bytes that stand for its content in the tar stream: the map of its data, and the data. Extents
   * and digest are of these bytes. `null` where content stands there as it is; always less than `size` where not.
   */
  storedSize: number | null
  /** Seconds since 1970, negative before it, and the nanoseconds (0 to 999,999,999) that come on top. */
  mtimeSeconds: number
  mtimeNanoseconds: number
  ctimeSeconds: number
  ctimeNanoseconds: number
  /** 64 bits; a bigint only where a number would not be exact. */
  ino: number | bigint
  dev: number | bigint
  nlink: number
  /** Target of a symbolic link as it is, or path of the first name of a hard link. */
  target: BytePath | null
  /** Of a device only. */
  device: { major: number; minor: number } | null
  /** Names (one character a byte) and values of extended attributes, ACLs and capabilities among them; `null` for none. */
  xattrs: ReadonlyMap<string, Uint8Array> | null
  /**
   * Inode flags as `inodeFlags` names them, of files and directories; `null` for other types, and where the file system
   * has none.
   */
  flags: number | null
  /** Project that the object counts for in quotas; 0 for none. */
  project: number
  /** SHA-256 of what is stored of the content; files only. */
  digest: Uint8Array | null
  /** In order; their lengths add up to `storedBytes` where the entry is a file. */
  extents: readonly Extent[]
  /** The content changed while it was read: it is a mixture of two states, padded or cut to `size`. */
  changedWhileRead: boolean
  /** Packed only because something below it was selected, so that a restore can make it again as it was. */
  ancestor: boolean
  /** Of a directory on which another file system was mounted; not there on any other entry. */
  mountPoint?: true
}

/**
 * Inode flags that are kept: those of ioctl_iflags(2) that can be set. What the kernel keeps for itself there, like the
 * layout of a file on its disk, is not among them.
 */
export const inodeFlags = {
  'secure-deletion': 0x1,
  undeletable: 0x2,
  compressed: 0x4,
  sync: 0x8,
  immutable: 0x10,
  'append-only': 0x20,
  nodump: 0x40,
  noatime: 0x80,
  uncompressed: 0x400,
  'journalled-data': 0x4000,
  notail: 0x8000,
  dirsync: 0x1_0000,
  'top-of-hierarchy': 0x2_0000,
  nocow: 0x80_0000,
  dax: 0x200_0000,
  'inherit-project': 0x2000_0000,
  casefold: 0x4000_0000,
} as const

/** All of `inodeFlags`. */
export const inodeFlagsMask: number = Object.values(inodeFlags).reduce((all, flag) => all | flag, 0)

/** Bytes that stand for the content of an entry in the tar stream. */
export function storedBytes({ size, storedSize }: Entry): number {
  return storedSize ?? size
}

/** Outcome of a run, in the words of the design; from best to worst. */
export const outcomes = ['complete', 'complete-with-changes', 'incomplete', 'failed'] as const
export type Outcome = (typeof outcomes)[number]

export type RunKind = 'full' | 'incremental'

/** A path that stood in the run before and does not any more, and with it all that was below it. */
export interface Gone {
  path: BytePath
  /** `unselected`: what is selected has changed, and nothing is known of whether it still is there. */
  reason: 'deleted' | 'unselected'
}

/** What an archive says that was packed anew: most of what it held was needed no more, or it took over those before it. */
export interface Repack {
  /**
   * Archives of the runs of the generation that were to be kept then, in order. Of the runs up to the last of them, all
   * others are removed: what only they had may be missing from any archive.
   */
  kept: readonly string[]
  /**
   * Archives between its base and it that it has taken over, in order: its index is that of its run against its base, and
   * these are not to be read, where one is still there. The newest of them, if there were too many.
   */
  absorbed: readonly string[]
}

/** What an archive says about the run that made it; stands in its first index batch. */
export interface ArchiveHeader {
  host: string
  kind: RunKind
  /** The archive of the run that an incremental one is compared with: what its index does not name stands as it did there. */
  base: string | null
  /** Milliseconds since 1970, by the server's clock. */
  startedAtMs: number
  /** For people: name and version of the program that packed it. */
  software: string
  paths: readonly string[]
  exclude: readonly string[]
  /** `null` for an archive as its run left it. */
  repack: Repack | null
}

/** Counts of a run. All but bytes are numbers of entries. */
export interface Counts {
  files: number
  directories: number
  symlinks: number
  hardlinks: number
  /** Fifos and devices. */
  specials: number
  /** Sockets: counted, not packed. */
  sockets: number
  /** Stand as they did in the run before, so that the archive has nothing of them. Not among the counts above. */
  unchanged: number
  /** Paths that stood in the run before and do not any more, without what was below them. */
  gone: number
  /** Left out by a rule of the selection. What lies below what is left out is not counted. */
  excluded: number
  /** Changed while they were read. */
  changed: number
  /** Vanished between the listing and the opening. */
  vanished: number
  /** Could not be read. */
  unreadable: number
  /** Came without some of their attributes, which could not be read. */
  attributes: number
  /** Bytes of file content that are stored. */
  contentBytes: number
}

export function noCounts(): Counts {
  return {
    files: 0,
    directories: 0,
    symlinks: 0,
    hardlinks: 0,
    specials: 0,
    sockets: 0,
    unchanged: 0,
    gone: 0,
    excluded: 0,
    changed: 0,
    vanished: 0,
    unreadable: 0,
    attributes: 0,
    contentBytes: 0,
  }
}

/** How the packing ended; stands in the last index batch of an archive that was finished. */
export interface ArchiveEnd {
  outcome: Outcome
  counts: Counts
  finishedAtMs: number
  /** The run was broken off: of what was selected, the archive has the beginning, in path order. */
  broken: boolean
}
