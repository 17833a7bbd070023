import { Worker } from 'node:worker_threads'
import { BlockMemory, type BlockRoom } from './block-memory.ts'
import type { CompressorJob, CompressorResult } from './compressor-worker.ts'

interface Pending {
  job: CompressorJob
  resolve(result: CompressorResult): void
  reject(error: Error): void
}

interface Member {
  worker: Worker
  /** Jobs that were posted to it, in order. */
  posted: Pending[]
}

/** One job is being compressed and one waits in the thread's own queue, so that it never waits for the main thread. */
const postedMax = 2

/**
 * Threads that compress, shared by all runs of a process. They start with the first job and do not keep the process
 * alive while they have none. Who makes the pool closes it.
 */
export class CompressorPool {
  /** Of the packings that use the pool. */
  readonly memory = new BlockMemory()
  readonly #threads: number
  readonly #members: Member[] = []
  readonly #queue: Pending[] = []
  #closed = false

  constructor(threads: number) {
    this.#threads = threads
  }

  get threads(): number {
    return this.#threads
  }

  /** Compresses the first `length` bytes of the block, and says how many the frame has. */
  async compressBlock({ block, frame }: BlockRoom, length: number, level: number): Promise<number> {
    const result = await this.#compress({ kind: 'frame', block, length, frame, level })
    return (result as { length: number }).length
  }

  /** The skippable frame of an index batch, whose buffer is gone from then on. */
  async compressIndex(batch: ArrayBuffer, level: number): Promise<Buffer> {
    const result = await this.#compress({ kind: 'index', batch, level })
    return Buffer.from((result as { index: ArrayBuffer }).index)
  }

  #compress(job: CompressorJob): Promise<CompressorResult> {
    if (this.#closed) return Promise.reject(new Error('the compressor pool is closed'))
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, resolve, reject })
      this.#dispatch()
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()))
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const member = this.#freeMember()
      if (member === undefined) return
      const pending = this.#queue.shift()!
      if (member.posted.length === 0) member.worker.ref()
      member.posted.push(pending)
      const { job } = pending
      member.worker.postMessage(job, job.kind === 'index' ? [job.batch] : [])
    }
  }

  #freeMember(): Member | undefined {
    let best: Member | undefined
    for (const member of this.#members) {
      if (member.posted.length < (best?.posted.length ?? postedMax)) best = member
    }
    if (best?.posted.length !== 0 && this.#members.length < this.#threads) best = this.#start()
    return best
  }

  #start(): Member {
    const worker = new Worker(new URL(`./compressor-worker${import.meta.url.slice(-3)}`, import.meta.url))
    const member: Member = { worker, posted: [] }
    worker.on('message', (result: CompressorResult) => {
      const pending = member.posted.shift()!
      if (member.posted.length === 0) worker.unref()
      pending.resolve(result)
      this.#dispatch()
    })
    worker.on('error', (error) =>
      this.#lose(member, error instanceof Error ? error : new Error(String(error))),
    )
    worker.on('exit', () => this.#lose(member, new Error('a compressor thread ended')))
    this.#members.push(member)
    return member
  }

  /** A thread that died takes its jobs with it; the next job starts another. */
  #lose(member: Member, error: Error): void {
    const at = this.#members.indexOf(member)
    if (at >= 0) this.#members.splice(at, 1)
    for (const pending of member.posted.splice(0)) pending.reject(error)
    if (!this.#closed) this.#dispatch()
  }
}
