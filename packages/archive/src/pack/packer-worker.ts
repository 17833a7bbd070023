/** Thread that walks, reads and fills blocks. Its owner is a `Packing`; the messages between the two are types here. */
import { type MessagePort, parentPort, receiveMessageOnPort, type Transferable } from 'node:worker_threads'
import type { ArchiveEnd, ArchiveHeader, Counts, Entry } from '../entry.ts'
import { decompressFrame, indexFrameMagic, unwrapSkippable } from '../frame.ts'
import { freeBuffer } from '../free-buffer.ts'
import { entriesOfBatch } from '../index-batch.ts'
import { indexBatchBytesMax } from '../limits.ts'
import type { NextBaselineEntry } from './baseline.ts'
import { FreeBlocks } from './block-memory.ts'
import { BlockWriter } from './block-writer.ts'
import { PackingCancelled } from './file-content.ts'
import { IndexWriter } from './index-writer.ts'
import { outcomeOf, packSelection } from './packer.ts'
import type { Selection } from './rules.ts'
import { SharedState } from './shared-state.ts'
import { bytesOfWarning, type PackWarning } from './sinks.ts'

export interface PackerRequest {
  selection: Selection
  header: ArchiveHeader
  /** Named paths that could not be selected: they make the outcome `incomplete` at best. */
  missing: number
  listOnly: boolean
  state: SharedArrayBuffer
  /** Blocks to be filled, and which of them are free (`FreeBlocks`). */
  blocks: readonly SharedArrayBuffer[]
  freeBlocks: SharedArrayBuffer
  /** Brings the baseline, an index frame for each `baseline-wanted` and `null` in the end; `null` for a full run. */
  baseline: MessagePort | null
}

export type PackerMessage =
  | { type: 'block'; sequence: number; block: number; length: number }
  | { type: 'index'; sequence: number; batch: ArrayBuffer }
  | { type: 'baseline-wanted' }
  | { type: 'warning'; warning: PackWarning }
  | { type: 'done'; parts: number; counts: Counts; end: ArchiveEnd }
  | { type: 'failed'; message: string; stack: string }

/** Warnings that the owner was told of, and is not done with: a listing tells of each object that is left out. */
const warningBytesAheadMax = 2 * 1024 * 1024

/** Index batches in use at once. A listing has no blocks that would bound them. */
const batchesMax = 8

function run(request: PackerRequest): void {
  const state = new SharedState(request.state)
  let sequence = 0
  const free = new FreeBlocks(request.freeBlocks)
  const buffers: Buffer[] = request.blocks.map((block) => Buffer.from(block))
  const post = (message: PackerMessage, transfer: Transferable[] = []) =>
    parentPort!.postMessage(message, transfer)
  const takeFree = () => free.take()

  let batchesSent = 0
  const index = new IndexWriter(request.header, (encoded) => {
    const hasRoom = () => batchesSent - state.batchesDone < batchesMax || undefined
    if (state.waitFor(hasRoom) === null) throw new PackingCancelled()
    batchesSent++
    const batch = encoded.buffer as ArrayBuffer
    post({ type: 'index', sequence: sequence++, batch }, [batch])
  })
  const blocks = new BlockWriter({
    take() {
      const number = state.waitFor(takeFree)
      if (number === null) throw new PackingCancelled()
      return buffers[number]!
    },
    give(block, length) {
      post({ type: 'block', sequence: sequence++, block: buffers.indexOf(block), length })
      index.blockSent()
    },
  })
  let warningBytes = 0
  const warn = (warning: PackWarning) => {
    // Both wrap around.
    const hasRoom = () => ((warningBytes - state.warningBytesDone) | 0) < warningBytesAheadMax || undefined
    if (state.waitFor(hasRoom) === null) throw new PackingCancelled()
    warningBytes = (warningBytes + bytesOfWarning(warning)) | 0
    post({ type: 'warning', warning })
  }
  const baseline =
    request.baseline === null
      ? null
      : baselineReader(request.baseline, state, () => post({ type: 'baseline-wanted' }))
  const { listOnly } = request
  const packed = packSelection(request.selection, { blocks, index, state, warn }, { listOnly, baseline })
  const { counts } = packed
  const end: ArchiveEnd = {
    outcome: outcomeOf(packed, request.missing),
    counts,
    finishedAtMs: Date.now(),
    broken: false,
  }
  index.finish(end)
  post({ type: 'done', parts: sequence, counts, end })
}

/** Batches that are asked for ahead, so that the next is there when the last is done with. */
const batchesAhead = 2

function baselineReader(port: MessagePort, state: SharedState, want: () => void): NextBaselineEntry {
  let content: Buffer | null = null
  let nextOfBatch: () => Entry | null = () => null
  const take = () => receiveMessageOnPort(port) as { message: Uint8Array | null } | undefined
  for (let i = 0; i < batchesAhead; i++) want()
  let ended = false
  return () => {
    for (;;) {
      const entry = nextOfBatch()
      if (entry !== null || ended) return entry
      // Nothing is kept of the entries before: what was compared is written or forgotten.
      if (content !== null) freeBuffer(content)
      const answer = state.waitFor(take)
      if (answer === null) throw new PackingCancelled()
      ended = answer.message === null
      nextOfBatch = () => null
      if (answer.message === null) continue
      want()
      content = decompressFrame(unwrapSkippable(indexFrameMagic, answer.message), indexBatchBytesMax)
      nextOfBatch = entriesOfBatch(content)
    }
  }
}

parentPort!.once('message', (request: PackerRequest) => {
  try {
    run(request)
  } catch (error) {
    if (error instanceof PackingCancelled) return
    const { message, stack } = error instanceof Error ? error : new Error(String(error))
    parentPort!.postMessage({ type: 'failed', message, stack: stack ?? '' } satisfies PackerMessage)
  } finally {
    // With nothing more to listen to, the thread ends.
    parentPort!.unref()
  }
})
