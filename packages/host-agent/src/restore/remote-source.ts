import type { BytePath, Entry, EntryOrder, EntryType, RestoreSource } from '@central-backup/archive'
import { ProtocolError, restorePathsMax } from '@central-backup/protocol'
import { absolutePath } from '../warnings.ts'
import { ContentMissingError, ContentStream } from './content-stream.ts'
import type { Conversation } from './conversation.ts'
import { decodeEntries, EntryStream } from './entry-stream.ts'
import { Lookahead } from './lookahead.ts'

/** Paths of one request; a message has 1 MiB at most. */
const requestPathBytesMax = 512 * 1024

const nothing = { peek: () => null, take: () => {} }

/**
 * What a server wants restored, pulled from it as it is needed, and trusted in nothing. It holds one batch of entries, and
 * content of some 4 MiB.
 *
 * Content that the server cannot read is damage of one file. Everything else that goes wrong in the session aborts
 * `ended` before it is thrown, so that a restore does not take it for damage, too.
 */
export class RemoteSource implements RestoreSource {
  /** Aborted with what ended the session. */
  readonly ended: AbortSignal
  readonly #conversation: Conversation
  readonly #content: ContentStream
  readonly #lookahead: Lookahead
  readonly #ending = new AbortController()
  #batch: readonly Entry[] = []
  /** The entry that the iteration has come to. */
  #position = 0
  /** First names of some hard links of the batch. */
  #firsts = new Map<BytePath, Entry>()

  /** `wants` tells of files whether their content will probably be asked for. */
  constructor(conversation: Conversation, wants: (entry: Entry) => boolean = () => true) {
    this.ended = this.#ending.signal
    this.#lookahead = new Lookahead(wants)
    this.#conversation = conversation
    this.#content = new ContentStream(conversation)
  }

  *entries(order: EntryOrder, types?: readonly EntryType[]): Generator<Entry, void, void> {
    const stream = new EntryStream(order, types)
    const asked = types === undefined ? null : [...types]
    let batch = this.#guard(() => this.#ask({ type: 'restore-entries', order, types: asked }))
    while (batch !== null) {
      const entries = batch
      this.#guard(() => stream.accept(entries))
      this.#batch = entries
      this.#lookahead.begin(entries)
      this.#firsts.clear()
      for (this.#position = 0; this.#position < entries.length; this.#position++) {
        const entry = entries[this.#position]!
        this.#guard(() => this.#conversation.approach(entry.path))
        yield entry
      }
      batch = this.#guard(() => this.#ask({ type: 'restore-next' }))
    }
    this.#batch = []
  }

  /** Of the hard link that the iteration has come to: no other entry is asked for. */
  entryAt(path: BytePath): Entry | null {
    const link = this.#batch[this.#position]
    if (link?.type !== 'hardlink' || link.target !== path) return null
    if (!this.#firsts.has(path)) this.#guard(() => this.#askForFirsts())
    return this.#firsts.get(path) ?? null
  }

  async *content(entry: Entry): AsyncGenerator<Buffer, void, void> {
    const pieces = this.#content.read(entry, this.#following(entry))
    try {
      for (;;) {
        const next = this.#guard(() => pieces.next())
        if (next.done) return
        yield next.value
      }
    } finally {
      this.#guard(() => pieces.return())
    }
  }

  #ask(message: Parameters<Conversation['send']>[0]): Entry[] | null {
    this.#content.drain()
    this.#conversation.send(message)
    const answer = this.#conversation.receive(['entries', 'entries-end'])
    return answer.type === 'entries' ? decodeEntries(answer.payload) : null
  }

  /** Asks for those of the links that follow, too: an answer has as many as find room, the first at least. */
  #askForFirsts(): void {
    const links: Entry[] = []
    const targets = new Set<BytePath>()
    let pathBytes = 0
    for (const entry of this.#batch.slice(this.#position)) {
      pathBytes += entry.path.length
      if (links.length === restorePathsMax || (links.length > 0 && pathBytes > requestPathBytesMax)) break
      if (entry.type !== 'hardlink') continue
      links.push(entry)
      targets.add(entry.target!)
    }
    const answer = this.#ask({ type: 'restore-firsts', paths: links.map(({ path }) => absolutePath(path)) })
    this.#firsts.clear()
    for (const entry of answer ?? []) {
      if (!targets.has(entry.path))
        throw new ProtocolError('message-malformed', 'the server sent an entry that was not asked for')
      this.#firsts.set(entry.path, entry)
    }
  }

  /** The files behind the one that the iteration has come to; none for the content of a hard link. */
  #following(entry: Entry): Pick<Lookahead, 'peek' | 'take'> {
    if (this.#batch[this.#position] !== entry) return nothing
    this.#lookahead.moveTo(this.#position + 1)
    return this.#lookahead
  }

  #guard<T>(act: () => T): T {
    try {
      return act()
    } catch (error) {
      if (!(error instanceof ContentMissingError)) this.#ending.abort(error)
      throw error
    }
  }
}
