import {
  type BytePath,
  ContentCheck,
  type Entry,
  encodeEntryHeader,
  endOfArchive,
  isWithin,
  paddingBytes,
  type RestoreSource,
  storedBytes,
} from '@central-backup/archive'

/** Takes the bytes of a tar stream in their order; it does not keep what it was given. */
export interface TarSink {
  write(bytes: Uint8Array): Promise<void>
}

export interface ExportOptions {
  /** The selection of the source: paths, and all below them. */
  under: readonly BytePath[]
  signal: AbortSignal
  /** Told of each entry that is not in the stream. */
  onMissing(path: BytePath, message: string): void
}

export interface ExportReport {
  entries: number
  contentBytes: number
  /** Files whose content is damaged, and further names of them: they are left out. */
  damaged: number
  /** Sockets, which tar has no form for. */
  sockets: number
}

/** A file up to this size is read once, as it is held until it is found to be good; a larger one is read twice. */
const heldBytesMax = 8 * 1024 * 1024

/** For how many objects it is remembered which further name stands for a first one that is not in the stream. */
const copiesMax = 100_000

/**
 * Writes what `source` selects to `sink` as a plain tar stream, in the order of paths. Nothing that is damaged gets into
 * it: the content of each file has been compared with its digest before its header is written. Throws what `sink` throws, or
 * the reason of the signal; the stream is of no use then.
 */
export async function exportTar(
  source: RestoreSource,
  sink: TarSink,
  options: ExportOptions,
): Promise<ExportReport> {
  const tar = new TarExport(source, sink, options)
  for (const entry of source.entries('path')) {
    options.signal.throwIfAborted()
    await tar.add(entry)
  }
  await sink.write(endOfArchive)
  return tar.report
}

class TarExport {
  readonly report: ExportReport = { entries: 0, contentBytes: 0, damaged: 0, sockets: 0 }
  readonly #source: RestoreSource
  readonly #sink: TarSink
  readonly #options: ExportOptions
  /** First names that are not in the stream, and the names that stand for them there. */
  readonly #copies = new Map<BytePath, BytePath>()
  readonly #missing = new Set<BytePath>()

  constructor(source: RestoreSource, sink: TarSink, options: ExportOptions) {
    this.#source = source
    this.#sink = sink
    this.#options = options
  }

  async add(entry: Entry): Promise<void> {
    switch (entry.type) {
      case 'file':
        if (!(await this.#addFile(entry))) this.#missing.add(entry.path)
        return
      case 'hardlink':
        return this.#addHardLink(entry)
      case 'socket':
        this.report.sockets++
        return
      default:
        return this.#addHeader(entry)
    }
  }

  async #addHardLink(entry: Entry): Promise<void> {
    const first = entry.target!
    const { under } = this.#options
    const inStream = under.some((path) => isWithin(first, path)) && !this.#missing.has(first)
    const target = inStream ? first : this.#copies.get(first)
    if (target !== undefined) return this.#addHeader({ ...entry, target })
    const original = this.#source.entryAt(first)
    if (original === null || original.type === 'hardlink' || original.type === 'directory') {
      return this.#leaveOut(entry.path, 'it is a further name of something that is not in the backup')
    }
    const copy = { ...original, path: entry.path }
    if (copy.type !== 'file') await this.add(copy)
    else if (!(await this.#addFile(copy))) return
    if (this.#copies.size < copiesMax) this.#copies.set(first, entry.path)
  }

  async #addHeader(entry: Entry): Promise<void> {
    // The bytes are overwritten by the next header.
    await this.#sink.write(Buffer.from(encodeEntryHeader(entry)))
    this.report.entries++
  }

  /** False where it is damaged and left out. */
  async #addFile(entry: Entry): Promise<boolean> {
    const held: Buffer[] | null = storedBytes(entry) <= heldBytesMax ? [] : null
    const fault = await this.#check(entry, held)
    if (fault !== null) {
      this.#leaveOut(entry.path, fault)
      return false
    }
    await this.#addHeader(entry)
    for await (const piece of held ?? this.#source.content(entry)) await this.#sink.write(piece)
    await this.#sink.write(Buffer.alloc(paddingBytes(storedBytes(entry))))
    this.report.contentBytes += storedBytes(entry)
    return true
  }

  async #check(entry: Entry, held: Buffer[] | null): Promise<string | null> {
    const check = new ContentCheck(entry)
    try {
      for await (const piece of this.#source.content(entry)) {
        this.#options.signal.throwIfAborted()
        if (!check.add(piece)) break
        held?.push(piece)
      }
      return check.fault()
    } catch (error) {
      this.#options.signal.throwIfAborted()
      return error instanceof Error ? error.message : String(error)
    }
  }

  #leaveOut(path: BytePath, message: string): void {
    this.report.damaged++
    this.#options.onMissing(path, message)
  }
}
