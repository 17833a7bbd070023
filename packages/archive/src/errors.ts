/** Everything that can be wrong with an archive or with a request to one. Codes are stable: programs may compare them. */
export type ArchiveErrorCode =
  /** Bytes that are not exactly one frame as the format wants it. */
  | 'frame-invalid'
  /** A frame, its content or the piece asked for is over its maximum. */
  | 'frame-too-large'
  /** The frame is well formed, but its content does not come out of it: damaged data. */
  | 'frame-damaged'
  /** An index batch that breaks a rule of the format. */
  | 'index-invalid'
  /** Paths of the index are not strictly ascending. */
  | 'index-order'
  /** The index ends without its last batch. */
  | 'index-incomplete'
  /** What the archive builds on has been built on by another, so that it has no place among those of its host. */
  | 'base-taken'
  /** An entry cannot be encoded: a field is over a maximum of the format. */
  | 'entry-limit'
  /** The seek table contradicts itself or the file. */
  | 'seek-table-invalid'
  /** The file does not end in a seek table: something else, or cut off. */
  | 'not-an-archive'
  /** The file is shorter than it says, or became so while it was read. */
  | 'archive-truncated'
  /** Frames came to an assembly in an order that makes no archive. */
  | 'assembly-order'
  /** A range that lies outside the tar stream of the archive. */
  | 'range-invalid'
  /** The content lies in another archive of the same host. */
  | 'content-elsewhere'
  /** Packing a tree failed as a whole. */
  | 'pack-failed'
  /** The file system did not answer while a tree was packed. */
  | 'pack-stalled'
  /** The content that came out is not the content that was recorded. */
  | 'content-damaged'
  /** The tar stream is not the one that the index describes. */
  | 'members-differ'
  /** An archive cannot be packed anew, as it is not what it should be. */
  | 'repack-refused'
  /** A restore cannot go on: the target does not take anything any more. */
  | 'restore-failed'

/** The one error class of this package. Never carries bytes of names or content that have not been made printable. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError'
  readonly code: ArchiveErrorCode
  /** What the person can do about it, where there is something. */
  readonly hint: string | undefined

  constructor(
    code: ArchiveErrorCode,
    message: string,
    options: { hint?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.hint = options.hint
  }
}
