import binding from 'zstd-napi/binding.js'
import { ArchiveError } from './errors.ts'
import { freeBuffer } from './free-buffer.ts'
import { compressedBytesMax, frameBytesMax, windowBytesMax } from './limits.ts'

/** Frames of RFC 8878: what an archive is made of. Everything here is synchronous and knows bytes only. */

const zstdMagic = 0xfd2fb528
const blockBytesMax = 128 * 1024
const checksumBytes = 4
/** Magic number and size of a skippable frame. */
export const skippableHeaderBytes = 8

/** Skippable frame that holds one index batch, compressed. */
export const indexFrameMagic = 0x184d2a5b
/** Skippable frame that holds the seek table; the number is of zstd's seekable format. */
export const seekTableMagic = 0x184d2a5e

/** What a frame says about itself. */
export interface ZstdFrame {
  /** Size of what it decompresses to. */
  contentBytes: number
  /** Memory that a streaming decoder needs for it. */
  windowBytes: number
}

/**
 * Walks the headers of a zstd frame, without decompressing, and says what is in it. Throws an `ArchiveError` unless
 * `bytes` is exactly one frame as the format wants it: content size named and at most `contentBytesMax`, window at most
 * `windowBytesMax`, no larger than zstd makes such content at worst, a content checksum, no dictionary, nothing before
 * and nothing behind it.
 */
export function parseZstdFrame(bytes: Uint8Array, contentBytesMax: number = frameBytesMax): ZstdFrame {
  const frameBytesAllowed = compressedBytesMax(contentBytesMax)
  if (bytes.length > frameBytesAllowed) {
    throw tooLarge(`a frame has ${bytes.length} bytes, more than the ${frameBytesAllowed} allowed`)
  }
  const { end, ...frame } = walkZstdFrame(viewOf(bytes), contentBytesMax)
  if (end < bytes.length) throw invalid(`${bytes.length - end} bytes follow it`)
  return frame
}

/**
 * Size of the data or index frame that `bytes` begin with; `null` where another kind of skippable frame begins there.
 * Throws an `ArchiveError` where no frame does, or not all of it is there.
 */
export function measureFrame(bytes: Uint8Array): { kind: 'data' | 'index'; frameBytes: number } | null {
  const buffer = viewOf(bytes)
  const magic = buffer.length < skippableHeaderBytes ? zstdMagic : buffer.readUInt32LE(0)
  if (magic === zstdMagic) return { kind: 'data', frameBytes: walkZstdFrame(buffer, frameBytesMax).end }
  if (magic === seekTableMagic) return null
  if (magic !== indexFrameMagic) throw invalid('it does not begin as one')
  const frameBytes = skippableHeaderBytes + buffer.readUInt32LE(4)
  if (frameBytes > buffer.length) throw invalid('it is cut off')
  return { kind: 'index', frameBytes }
}

/** Walks one frame at the beginning of `buffer`; `end` is where it ends. */
function walkZstdFrame(buffer: Buffer, contentBytesMax: number): ZstdFrame & { end: number } {
  if (buffer.length < 6 || buffer.readUInt32LE(0) !== zstdMagic) {
    throw invalid('it does not begin as a zstd frame')
  }
  const descriptor = buffer[4]!
  const contentSizeFlag = descriptor >> 6
  const singleSegment = (descriptor & 0x20) !== 0
  if ((descriptor & 0x08) !== 0) throw invalid('a reserved bit is set')
  if ((descriptor & 0x04) === 0) throw invalid('it has no content checksum')
  if ((descriptor & 0x03) !== 0) throw invalid('it needs a dictionary')
  if (contentSizeFlag === 0 && !singleSegment) throw invalid('it does not name the size of its content')

  let at = singleSegment ? 5 : 6
  const contentBytes = readContentSize(buffer, at, contentSizeFlag)
  if (contentBytes > contentBytesMax) {
    throw tooLarge(`a frame holds ${contentBytes} bytes of content, more than the ${contentBytesMax} allowed`)
  }
  const windowBytes = singleSegment ? contentBytes : windowOf(buffer[5]!)
  if (windowBytes > windowBytesMax) {
    throw tooLarge(`a frame needs a window of ${windowBytes} bytes, more than the ${windowBytesMax} allowed`)
  }
  at += contentSizeFlag === 0 ? 1 : 1 << contentSizeFlag
  const blocks = readBlocks(buffer, at)
  if (contentBytes < blocks.contentBytesMin || contentBytes > blocks.contentBytesMax)
    throw invalid(`it names ${contentBytes} bytes of content, which its blocks cannot be`)
  const end = blocks.end + checksumBytes
  if (end > buffer.length) throw invalid('it is cut off')
  return { contentBytes, windowBytes, end }
}

/** Size of the content field: 1, 2 (counted from 256), 4 or 8 bytes. */
function readContentSize(buffer: Buffer, at: number, flag: number): number {
  if (at + (1 << flag) > buffer.length) throw invalid('it is cut off')
  if (flag === 0) return buffer[at]!
  if (flag === 1) return buffer.readUInt16LE(at) + 256
  if (flag === 2) return buffer.readUInt32LE(at)
  return Number(buffer.readBigUInt64LE(at))
}

function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3))
  return base + (base / 8) * (descriptor & 7)
}

/**
 * Follows the block headers from `at` to the end of the last block. What a compressed block holds is not known without
 * decompressing it, but for its maximum.
 */
function readBlocks(
  buffer: Buffer,
  start: number,
): { end: number; contentBytesMin: number; contentBytesMax: number } {
  let at = start
  let contentBytesMin = 0
  let compressedBlocks = 0
  for (;;) {
    if (at + 3 > buffer.length) throw invalid('it is cut off')
    const header = buffer.readUIntLE(at, 3)
    const type = (header >> 1) & 3
    const size = header >> 3
    if (type === 3) throw invalid('a block is of a reserved type')
    if (size > blockBytesMax) throw invalid(`a block of ${size} bytes is larger than zstd allows`)
    // A run-length block stands for `size` bytes, but has one.
    at += 3 + (type === 1 ? 1 : size)
    if (at > buffer.length) throw invalid('it is cut off')
    if (type === 2) compressedBlocks++
    else contentBytesMin += size
    if ((header & 1) === 1) {
      const contentBytesMax = contentBytesMin + compressedBlocks * blockBytesMax
      return { end: at, contentBytesMin, contentBytesMax }
    }
  }
}

/**
 * Content of exactly one zstd frame, in a buffer of its own. Allocates the content size that the frame names and no
 * more, after that has been found to be at most `contentBytesMax`.
 */
export function decompressFrame(bytes: Uint8Array, contentBytesMax: number = frameBytesMax): Buffer {
  const { contentBytes } = parseZstdFrame(bytes, contentBytesMax)
  const content = Buffer.allocUnsafeSlow(contentBytes)
  let written: number
  try {
    written = decoder().decompress(content, bytes)
  } catch (cause) {
    throw new ArchiveError('frame-damaged', `a frame cannot be decompressed: ${(cause as Error).message}`, {
      hint: 'The archive is damaged. Check the disk, and take the file from another run.',
      cause,
    })
  }
  if (written !== contentBytes) {
    throw new ArchiveError('frame-damaged', `a frame of ${contentBytes} bytes decompresses to ${written}`)
  }
  return content
}

// A context is about 160 KiB outside the heap and freed late, so that a thread has one.
let sharedDecoder: InstanceType<typeof binding.DCtx> | undefined
function decoder(): InstanceType<typeof binding.DCtx> {
  sharedDecoder ??= new binding.DCtx()
  return sharedDecoder
}

/**
 * One frame of the format with `content`, in a buffer that nothing else uses. `level` as in `zstd -LEVEL`.
 * Synchronous: some 20 ms for a full frame, so that much data belongs in other threads.
 */
export function compressFrame(content: Uint8Array, level = 3): Buffer {
  if (content.length > frameBytesMax) {
    throw tooLarge(`a frame of ${content.length} bytes of content is more than the ${frameBytesMax} allowed`)
  }
  const context = encoder()
  context.setParameter(binding.CParameter.compressionLevel, level)
  const bound = Buffer.allocUnsafeSlow(compressedBytesMax(content.length))
  const frame = Buffer.allocUnsafeSlow(context.compress2(bound, content))
  frame.set(bound.subarray(0, frame.length))
  freeBuffer(bound)
  return frame
}

let sharedEncoder: InstanceType<typeof binding.CCtx> | undefined
function encoder(): InstanceType<typeof binding.CCtx> {
  if (sharedEncoder === undefined) {
    sharedEncoder = new binding.CCtx()
    sharedEncoder.setParameter(binding.CParameter.contentSizeFlag, 1)
    sharedEncoder.setParameter(binding.CParameter.checksumFlag, 1)
  }
  return sharedEncoder
}

/** Makes the first `skippableHeaderBytes` of `frame` those of a skippable frame with `payloadBytes` after them. */
export function writeSkippableHeader(frame: Buffer, magic: number, payloadBytes: number): void {
  frame.writeUInt32LE(magic, 0)
  frame.writeUInt32LE(payloadBytes, 4)
}

/** A skippable frame around `payload`, which is copied. */
export function wrapSkippable(magic: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(skippableHeaderBytes + payload.length)
  writeSkippableHeader(frame, magic, payload.length)
  frame.set(payload, skippableHeaderBytes)
  return frame
}

/** The payload of exactly one skippable frame with this magic number, as a view of `bytes`. */
export function unwrapSkippable(magic: number, bytes: Uint8Array): Buffer {
  const buffer = viewOf(bytes)
  if (buffer.length < skippableHeaderBytes) throw invalid('it is cut off')
  const found = buffer.readUInt32LE(0)
  if (found !== magic) {
    throw invalid(
      `it begins with 0x${found.toString(16)} where the skippable frame 0x${magic.toString(16)} belongs`,
    )
  }
  const size = buffer.readUInt32LE(4)
  if (size !== buffer.length - skippableHeaderBytes) {
    throw invalid(`it says ${size} bytes of payload, and ${buffer.length - skippableHeaderBytes} are there`)
  }
  return buffer.subarray(skippableHeaderBytes)
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function invalid(reason: string): ArchiveError {
  return new ArchiveError('frame-invalid', `this is no frame of an archive: ${reason}`)
}

function tooLarge(message: string): ArchiveError {
  return new ArchiveError('frame-too-large', message)
}
