import {
  type BytePath,
  bytePathFromBuffer,
  compressFrame,
  type Entry,
  frameBytesMax,
  freeBuffer,
  IndexBatchEncoder,
  indexFrameMagic,
  quotePath,
  type RestoreSource,
  storedBytes,
  wrapSkippable,
} from '@central-backup/archive'
import { type Message, type MessageOf, ProtocolError, restorePassesMax } from '@central-backup/protocol'

/** What an agent is fed from: besides what a restore reads, it tells what belongs to the selection. */
export interface SelectedSource extends RestoreSource {
  selects(path: BytePath): boolean
}

/** What an agent may ask for in a restore. */
export type FeedRequest = MessageOf<'restore-entries' | 'restore-next' | 'restore-firsts' | 'restore-content'>

/** Rows of one batch: some 100 KiB, compressed in a few milliseconds. */
const batchRowsMax = 4000

/** Content is compressed once more, quickly: it goes over a line, and the archives have it in frames of many files. */
const contentLevel = 1

/**
 * Answers what an agent asks for in a restore, in the order in which it asks. It gives out what is selected and nothing
 * else: content and first names are asked for by selected paths, so that no host can get at files of another that were
 * not meant for it. Nor can it keep the server at work for ever: what it may ask for is limited by what it was told of.
 */
export class RestoreFeed implements Disposable {
  readonly #source: SelectedSource
  #pass: Iterator<Entry> | null = null
  /** Files and hard links of the last batch, whose content is asked for as a rule: a look-up of each costs more. */
  readonly #recent = new Map<BytePath, Entry>()
  /** Had no room in the last batch. */
  #held: Entry | null = null
  #passes = 0
  #entriesGiven = 0
  #pathBytesGiven = 0
  /** Files whose content may still be asked for: each once, whenever it was named. */
  #contentDue = 0
  #linksDue = 0
  #bytesGiven = 0
  /** Content that waits until there is a frame of it. */
  readonly #content = Buffer.allocUnsafeSlow(frameBytesMax)

  constructor(source: SelectedSource) {
    this.#source = source
  }

  /** Entries that were given out, of all passes. */
  get entriesGiven(): number {
    return this.#entriesGiven
  }

  /** Bytes of their paths. */
  get pathBytesGiven(): number {
    return this.#pathBytesGiven
  }

  /** Bytes of content that were given out. */
  get bytesGiven(): number {
    return this.#bytesGiven
  }

  /**
   * The messages of an answer; one is to be sent before the next is asked for. Throws a `ProtocolError` for what the agent
   * may not ask for, and errors of the catalog.
   */
  async *answer(request: FeedRequest): AsyncGenerator<Message, void, void> {
    switch (request.type) {
      case 'restore-entries':
        this.#begin(request)
        yield this.#batch()
        break
      case 'restore-next':
        if (this.#pass === null) throw outOfTurn('it asks for more entries than there are')
        yield this.#batch()
        break
      case 'restore-firsts':
        if (--this.#linksDue < 0) throw outOfTurn('it asks for more first names than there are hard links')
        yield this.#firsts(request.paths.map(pathOf))
        break
      case 'restore-content':
        this.#contentDue -= request.paths.length
        if (this.#contentDue < 0) throw outOfTurn('it asks for the content of more files than there are')
        yield* this.#contents(request.paths.map(pathOf))
    }
  }

  [Symbol.dispose](): void {
    this.#pass?.return?.()
    this.#pass = null
  }

  #begin({ order, types }: MessageOf<'restore-entries'>): void {
    if (++this.#passes > restorePassesMax)
      throw outOfTurn(`it asks for more than ${restorePassesMax} passes over the entries`)
    this.#pass?.return?.()
    this.#held = null
    this.#pass = this.#source.entries(order, types ?? undefined)[Symbol.iterator]()
  }

  #batch(): Message {
    const encoder = new IndexBatchEncoder(null)
    this.#recent.clear()
    for (let rows = 0; rows < batchRowsMax; rows++) {
      const entry = this.#nextEntry()
      if (entry === null) break
      if (!encoder.add(entry)) {
        this.#held = entry
        break
      }
      this.#entriesGiven++
      this.#pathBytesGiven += entry.path.length
      if (entry.type === 'file' || entry.type === 'hardlink') {
        this.#contentDue++
        this.#recent.set(entry.path, entry)
      }
      if (entry.type === 'hardlink') this.#linksDue++
    }
    if (!encoder.isEmpty) return entriesMessage(encoder)
    this.#pass = null
    return { type: 'entries-end' }
  }

  #nextEntry(): Entry | null {
    const held = this.#held
    this.#held = null
    if (held !== null) return held
    const next = this.#pass!.next()
    return next.done ? null : next.value
  }

  /** As many as find room, in the order in which they are asked for. */
  #firsts(paths: readonly BytePath[]): Message {
    const encoder = new IndexBatchEncoder(null)
    const added = new Set<BytePath>()
    for (const path of paths) {
      const link = this.#selected(path)
      const first = link.type === 'hardlink' ? this.#source.entryAt(link.target!) : null
      if (first === null || added.has(first.path)) continue
      if (!encoder.add(first)) break
      added.add(first.path)
    }
    return encoder.isEmpty ? { type: 'entries-end' } : entriesMessage(encoder)
  }

  /** The content of several files, one after the other in frames that do not end where files do. */
  async *#contents(paths: readonly BytePath[]): AsyncGenerator<Message, void, void> {
    let bytes = 0
    const flush = (): Message => {
      const payload = compressFrame(this.#content.subarray(0, bytes), contentLevel)
      this.#bytesGiven += bytes
      bytes = 0
      return { type: 'frame', payload }
    }
    for (const path of paths) {
      const entry = this.#withContent(path)
      let left = storedBytes(entry)
      let fault: string | null = null
      try {
        for await (const piece of this.#source.content(entry)) {
          for (let at = 0; at < Math.min(piece.length, left); ) {
            const part = piece.subarray(at, Math.min(piece.length, left, at + frameBytesMax - bytes))
            this.#content.set(part, bytes)
            bytes += part.length
            at += part.length
            if (bytes === frameBytesMax) yield flush()
          }
          left -= Math.min(piece.length, left)
        }
      } catch (error) {
        fault = error instanceof Error ? error.message : String(error)
      }
      if (left === 0) continue
      if (bytes > 0) yield flush()
      fault ??= `its content ends ${left} bytes too early`
      yield { type: 'content-missing', message: fault }
    }
    if (bytes > 0) yield flush()
  }

  /** A further name has the content of its first one. */
  #withContent(path: BytePath): Entry {
    const entry = this.#selected(path)
    const first = entry.type === 'hardlink' ? this.#source.entryAt(entry.target!) : entry
    if (first?.type === 'file' && storedBytes(first) > 0) return first
    throw outOfTurn(`it asks for the content of ${quotePath(path)}, which has none`)
  }

  #selected(path: BytePath): Entry {
    const recent = this.#recent.get(path)
    if (recent !== undefined) return recent
    const entry = this.#source.selects(path) ? this.#source.entryAt(path) : null
    if (entry === null) throw outOfTurn(`it asks for ${quotePath(path)}, which is not to be restored`)
    return entry
  }
}

function entriesMessage(encoder: IndexBatchEncoder): Message {
  const batch = encoder.take()
  const frame = compressFrame(batch)
  freeBuffer(batch)
  return { type: 'entries', payload: wrapSkippable(indexFrameMagic, frame) }
}

function pathOf(absolute: Buffer): BytePath {
  const path = bytePathFromBuffer(absolute)
  if (!path.startsWith('/'))
    throw new ProtocolError('message-malformed', 'the agent asks for a path that is not absolute')
  return path.slice(1) as BytePath
}

function outOfTurn(what: string): ProtocolError {
  return new ProtocolError('message-out-of-turn', `the agent asks for what it cannot need: ${what}`)
}
