/** Thread that compresses blocks and index batches, one at a time. Its owner is `CompressorPool`. */
import { parentPort } from 'node:worker_threads'
import binding from 'zstd-napi/binding.js'
import { indexFrameMagic, skippableHeaderBytes, writeSkippableHeader } from '../frame.ts'

export interface CompressorJob {
  /** An index batch becomes a skippable frame. */
  kind: 'frame' | 'index'
  /** Its first `length` bytes are compressed. */
  input: ArrayBuffer
  length: number
  /** Receives the frame; large enough for the worst case. */
  output: ArrayBuffer
  /** zstd's. */
  level: number
}

/** The buffers of the job, and how much of `output` the frame takes. */
export interface CompressorResult {
  input: ArrayBuffer
  output: ArrayBuffer
  length: number
}

// Not `compressFrame`: here the output is a buffer that comes and goes, so that nothing is allocated for a frame.
const context = new binding.CCtx()
context.setParameter(binding.CParameter.contentSizeFlag, 1)
context.setParameter(binding.CParameter.checksumFlag, 1)

function run(job: CompressorJob): number {
  context.setParameter(binding.CParameter.compressionLevel, job.level)
  const input = new Uint8Array(job.input, 0, job.length)
  const output = Buffer.from(job.output)
  if (job.kind === 'frame') return context.compress2(output, input)
  const payloadBytes = context.compress2(output.subarray(skippableHeaderBytes), input)
  writeSkippableHeader(output, indexFrameMagic, payloadBytes)
  return skippableHeaderBytes + payloadBytes
}

parentPort!.on('message', (job: CompressorJob) => {
  const result: CompressorResult = { input: job.input, output: job.output, length: run(job) }
  parentPort!.postMessage(result, [job.input, job.output])
})
