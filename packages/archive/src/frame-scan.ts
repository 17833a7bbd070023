import type { FileHandle } from 'node:fs/promises'
import { ArchiveError } from './errors.ts'
import { measureFrame } from './frame.ts'
import { frameCompressedBytesMax, indexFrameBytesMax } from './limits.ts'

/** A frame as it stands in a file, not looked into. */
export interface ScannedFrame {
  kind: 'data' | 'index'
  fileOffset: number
  /** Valid until the next frame is asked for. */
  bytes: Buffer
}

const frameMax = Math.max(frameCompressedBytesMax, indexFrameBytesMax)

/** What is read ahead at most: one system call for a few frames. */
const windowBytesMax = 4 * frameMax

/**
 * The frames of an archive from the first on, without its seek table. Ends before the seek table, at the end of the file,
 * and before anything that is not a whole frame, without saying which. Errors are those of the operating system.
 */
export async function* scanFrames(file: FileHandle): AsyncGenerator<ScannedFrame, void, void> {
  const { size } = await file.stat()
  const windowBytes = Math.min(size, windowBytesMax)
  const window = Buffer.allocUnsafeSlow(windowBytes)
  let fileOffset = 0
  let begin = 0
  let end = 0
  let atEnd = false
  for (;;) {
    if (end - begin < frameMax && !atEnd) {
      window.copyWithin(0, begin, end)
      end -= begin
      begin = 0
      while (end < windowBytes && !atEnd) {
        const { bytesRead } = await file.read(window, end, windowBytes - end, fileOffset + end)
        atEnd = bytesRead === 0
        end += bytesRead
      }
    }
    const frame = wholeFrame(window.subarray(begin, end))
    if (frame === null) return
    const { kind, frameBytes } = frame
    yield { kind, fileOffset, bytes: window.subarray(begin, begin + frameBytes) }
    begin += frameBytes
    fileOffset += frameBytes
  }
}

function wholeFrame(bytes: Buffer): ReturnType<typeof measureFrame> {
  try {
    return measureFrame(bytes)
  } catch (error) {
    if (error instanceof ArchiveError) return null
    throw error
  }
}
