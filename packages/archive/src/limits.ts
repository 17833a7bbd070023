/**
 * Every maximum of the archive format, version 1. Writers keep below them, readers refuse what is above them, so that
 * neither a damaged file nor a hostile host can make a reader allocate without bound. A change here is a change of
 * the format (docs/archive-format.md). Path lengths are limited in `path.ts`.
 */

/** Content of a data frame: tar stream, uncompressed. */
export const frameBytesMax = 4 * 1024 * 1024

/** Content of an index frame: one msgpack batch, uncompressed. */
export const indexBatchBytesMax = 2 * 1024 * 1024

/** A compressed data frame. */
export const frameCompressedBytesMax = compressedBytesMax(frameBytesMax)

/** A whole index frame, with the 8 bytes that make it skippable. */
export const indexFrameBytesMax = 8 + compressedBytesMax(indexBatchBytesMax)

/** Window that a frame may ask of its reader: what RFC 8878 wants every decoder to support. */
export const windowBytesMax = 8 * 1024 * 1024

/** Frames of an archive, index frames included: 32 TiB of tar stream; the seek table then has 64 MiB. */
export const framesMax = 2 ** 23

/** Tar stream of one archive, and so the end of every extent. */
export const tarBytesMax = framesMax * frameBytesMax

/** Size of a file. Sizes, offsets and times are exact as JavaScript numbers. */
export const fileBytesMax = Number.MAX_SAFE_INTEGER

/** uid, gid and nlink are 32 bits wide on Linux. */
export const idMax = 2 ** 32 - 1

/** Major and minor numbers of devices; Linux uses 12 and 20 bits of them, GNU tar reads 31. */
export const deviceNumberMax = 2 ** 31 - 1

/** User and group names: LOGIN_NAME_MAX of Linux. */
export const ownerNameBytesMax = 256

/** Name of one extended attribute (Linux: XATTR_NAME_MAX). */
export const xattrNameBytesMax = 255

/** Extended attributes of an entry. */
export const xattrsMax = 4096

/** Names and values of all extended attributes of an entry together. */
export const xattrsBytesMax = 512 * 1024

/** Pieces of content of an entry. */
export const extentsMax = 8192

/** Regions of data of a sparse file: a map then has at most some 35 MiB, and takes 16 MiB of memory. */
export const sparseRegionsMax = 2 ** 20

/** Other archives that one batch refers to. */
export const batchArchivesMax = 1024

/** File name of an archive (Linux: NAME_MAX). */
export const archiveNameBytesMax = 255

/** A host's name, and the name and version of the program that packed. */
export const headerTextBytesMax = 256

/** Paths of a header, and its exclude patterns, each. */
export const headerPatternsMax = 4096

/** A path or an exclude pattern of a header, and all of them together. */
export const headerPatternsBytesMax = 256 * 1024

/** zstd's `ZSTD_compressBound`: what incompressible content can grow to. */
export function compressedBytesMax(contentBytes: number): number {
  const small = 128 * 1024
  return contentBytes + (contentBytes >> 8) + (contentBytes < small ? (small - contentBytes) >> 11 : 0)
}

/** Most archives that each list in the header of a repacked archive names. */
export const headerArchivesMax = 4096
