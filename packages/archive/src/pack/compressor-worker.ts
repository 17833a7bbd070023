/** Thread that compresses blocks and index batches, one at a time. Its owner is `CompressorPool`. */
import { parentPort } from 'node:worker_threads'
import binding from 'zstd-napi/binding.js'
import { indexFrameMagic, skippableHeaderBytes, writeSkippableHeader } from '../frame.ts'
import { indexFrameBytesMax } from '../limits.ts'

export type CompressorJob =
  | {
      kind: 'frame'
      /** Its first `length` bytes are compressed. */
      block: SharedArrayBuffer
      length: number
      /** Receives the frame; large enough for the worst case. */
      frame: SharedArrayBuffer
      /** zstd's. */
      level: number
    }
  | { kind: 'index'; batch: ArrayBuffer; level: number }

/** How many bytes the frame has; an index frame comes itself. */
export type CompressorResult = { length: number } | { index: ArrayBuffer }

// Not `compressFrame`: here the output is a buffer that is used again, so that nothing is allocated for a frame.
const context = new binding.CCtx()
context.setParameter(binding.CParameter.contentSizeFlag, 1)
context.setParameter(binding.CParameter.checksumFlag, 1)

let indexFrame: Buffer | null = null

/** A batch becomes a skippable frame, of exactly the bytes that it takes. */
function compressIndex(batch: ArrayBuffer): ArrayBuffer {
  indexFrame ??= Buffer.allocUnsafeSlow(indexFrameBytesMax)
  const payloadBytes = context.compress2(indexFrame.subarray(skippableHeaderBytes), new Uint8Array(batch))
  writeSkippableHeader(indexFrame, indexFrameMagic, payloadBytes)
  const frame = new ArrayBuffer(skippableHeaderBytes + payloadBytes)
  new Uint8Array(frame).set(indexFrame.subarray(0, frame.byteLength))
  // Given back now, and not when the collector comes by.
  batch.transfer(0)
  return frame
}

parentPort!.on('message', (job: CompressorJob) => {
  context.setParameter(binding.CParameter.compressionLevel, job.level)
  if (job.kind === 'frame') {
    const length = context.compress2(new Uint8Array(job.frame), new Uint8Array(job.block, 0, job.length))
    parentPort!.postMessage({ length } satisfies CompressorResult)
  } else {
    const index = compressIndex(job.batch)
    parentPort!.postMessage({ index } satisfies CompressorResult, [index])
  }
})
