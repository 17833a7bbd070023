/** Why an object, or what lies in a folder, is not packed though it lies below a root. */
export const leftOutReasons = [
  /** A pattern matches it, or a folder above it. */
  'excluded',
  /** Another file system is mounted there, and the rules are to stay on one. The folder itself is packed. */
  'mount-point',
  /** What is mounted there holds no data, or is another user's program. The folder itself is packed where it can be. */
  'pseudo-file-system',
  /** A snapshot of btrfs, where the rules are to stay on one file system. The folder itself is packed. */
  'snapshot',
  /** The folder has a CACHEDIR.TAG. Both are packed. */
  'cache-directory',
  /** The folder holds a file that says so. Both are packed. */
  'marker',
  /** It has the flag of `chattr +d`. */
  'nodump',
  /** The file is larger than the rules let it be. */
  'too-large',
] as const

export type LeftOutReason = (typeof leftOutReasons)[number]
