import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { holdsNoData, type RestoreObserver, type RestoreSource } from '@central-backup/archive'
import { TargetWatchState } from './target-watch-state.ts'
import type { TargetWatchRequest } from './target-watch-worker.ts'

/** What does not get on for so long is told; and again each time that it has taken twice as long. */
const stallMsDefault = 30_000

const beatIntervalMs = 1000

/**
 * A restore that is over by then needs no other thread, which costs as much as it does itself. Where a mount may hang
 * there is one at once: the first thing that a restore does may be what hangs.
 */
const beginMs = 1000

/** File systems that this machine answers for, and that hold data. */
const localTypes: ReadonlySet<string> = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'zfs', 'bcachefs', 'vfat', 'exfat', 'ntfs3', 'jfs'],
  ...['tmpfs', 'ramfs', 'overlay', 'squashfs', 'erofs', 'iso9660', 'udf', 'autofs'],
])

/**
 * Tells on standard error where a restore does not get on because the file system of its target, or that of the archives,
 * does not answer, like one of a server that is gone. A restore works with synchronous calls, and so its own thread cannot tell
 * anything then: another one does. It ends nothing, as a target may just be slow.
 */
export class TargetWatch implements Disposable {
  readonly #state = new TargetWatchState()
  readonly #request: TargetWatchRequest
  #worker: Worker | null = null
  #begin: NodeJS.Timeout | undefined
  readonly #beat: NodeJS.Timeout

  /** `target`, a path, is for people. Dispose of it in the end. */
  constructor(target: string, stallMs = stallMsDefault) {
    this.#request = { state: this.#state.buffer, target, stallMs, pid: process.pid }
    if (hasRemoteMount()) this.#start()
    else this.#begin = setTimeout(() => this.#start(), beginMs).unref()
    this.#beat = setInterval(() => this.#state.beat(), beatIntervalMs).unref()
  }

  /** The source, which notes from now on how far it was read. */
  follow(source: RestoreSource): RestoreSource {
    const state = this.#state
    return {
      *entries(order, types) {
        for (const entry of source.entries(order, types)) {
          state.approach(entry.path)
          yield entry
        }
      },
      entryAt: (path) => source.entryAt(path),
      async *content(entry) {
        for await (const piece of source.content(entry)) {
          state.approach(entry.path)
          yield piece
        }
      },
    }
  }

  /** The observer, which notes the end of the work. */
  observe(observer: RestoreObserver): RestoreObserver {
    return {
      ...observer,
      onProgress: (progress) => {
        if (progress.phase === 'sync') this.#state.beginSync()
        observer.onProgress?.(progress)
      },
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#begin)
    clearInterval(this.#beat)
    void this.#worker?.terminate()
  }

  #start(): void {
    const script = new URL(`./target-watch-worker${import.meta.url.slice(-3)}`, import.meta.url)
    this.#worker = new Worker(script, { workerData: this.#request })
    this.#worker.unref()
    // The restore goes on without it.
    this.#worker.on('error', () => {})
  }
}

/** Whether something is mounted that another machine or program answers for. Asked of the kernel, which answers at once. */
function hasRemoteMount(): boolean {
  try {
    const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n')
    const types = new Set(lines.map((line) => / - (\S+) /.exec(line)?.[1] ?? 'proc'))
    return [...types].some((type) => !localTypes.has(type) && !holdsNoData({ type }))
  } catch {
    return true
  }
}
