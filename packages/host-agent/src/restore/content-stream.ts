import {
  ArchiveError,
  type BytePath,
  decompressFrame,
  type Entry,
  freeBuffer,
  storedBytes,
} from '@central-backup/archive'
import { ProtocolError, restorePathsMax, restoreRequestsMax } from '@central-backup/protocol'
import { absolutePath } from '../warnings.ts'
import type { Conversation } from './conversation.ts'
import type { Lookahead } from './lookahead.ts'

/** Content that is asked for ahead, in all, and in the largest file that is. */
const aheadBytesMax = 4 * 1024 * 1024
const aheadFileBytesMax = 1024 * 1024

/** Paths of one request; a message has 1 MiB at most. */
const requestPathBytesMax = 512 * 1024

/** What was asked for, in the order in which it comes. */
interface Asked {
  path: BytePath
  bytesLeft: number
  /** The last file of its request. */
  endsRequest: boolean
}

/** Content that the server cannot read. The message is for people. */
export class ContentMissingError extends Error {}

/**
 * What is stored of the content of files, as the server sends it: all that was asked for in one stream, file after file,
 * each as long as its entry says.
 *
 * To ask for each file alone would cost a round trip each. So those that follow are asked for ahead, twice as many each
 * time, as long as all of them are used; what is not is thrown away, and the number falls back to one. Large files are
 * never asked for ahead. So little is sent in vain.
 */
export class ContentStream {
  readonly #conversation: Conversation
  readonly #asked: Asked[] = []
  #askedBytes = 0
  #requests = 0
  #ahead = 1
  /** What came and was not used; it belongs to the files in `#asked`. */
  #frame: Buffer | null = null
  #at = 0

  constructor(conversation: Conversation) {
    this.#conversation = conversation
  }

  /**
   * The content of a file, in pieces that stay valid until the next one is asked for. `following` are the files that will
   * probably be asked for after it. Throws `ContentMissingError`, or what ended the session.
   */
  *read(entry: Entry, following: Pick<Lookahead, 'peek' | 'take'>): Generator<Buffer, void, void> {
    if (storedBytes(entry) === 0) return
    const place = this.#asked.findIndex(({ path }) => path === entry.path)
    if (place !== 0) this.#discard(place === -1 ? this.#asked.length : place)
    this.#ask(entry, following)
    const asked = this.#asked[0]!
    let hasFailed = false
    try {
      while (asked.bytesLeft > 0) yield this.#nextPiece(asked)
    } catch (error) {
      hasFailed = !(error instanceof ContentMissingError)
      throw error
    } finally {
      // Where it is left in the middle, as the file cannot be written, the rest comes all the same.
      if (!hasFailed) this.#finish(asked)
    }
  }

  /** Takes what still comes of what was asked for and is not wanted. */
  drain(): void {
    this.#discard(this.#asked.length)
  }

  #discard(count: number): void {
    if (count > 0) this.#ahead = 1
    for (let i = 0; i < count; i++) this.#finish(this.#asked[0]!)
  }

  /** Takes the rest of the first file, and forgets it. */
  #finish(asked: Asked): void {
    try {
      while (asked.bytesLeft > 0) this.#nextPiece(asked)
    } catch (error) {
      if (!(error instanceof ContentMissingError)) throw error
    }
    if (asked.endsRequest) this.#requests--
    this.#asked.shift()
  }

  #ask(entry: Entry, following: Pick<Lookahead, 'peek' | 'take'>): void {
    const isFirst = this.#asked.length === 0
    const runsOut = this.#asked.length <= this.#ahead / 2 && this.#askedBytes <= aheadBytesMax / 2
    if (!isFirst && (!runsOut || this.#requests >= restoreRequestsMax - 1)) return
    const request = isFirst ? [entry] : []
    let bytes = this.#askedBytes + (isFirst ? storedBytes(entry) : 0)
    let pathBytes = entry.path.length
    if (storedBytes(entry) <= aheadFileBytesMax) {
      for (let file = following.peek(); file !== null; file = following.peek()) {
        if (this.#asked.length + request.length >= this.#ahead || request.length === restorePathsMax) break
        const fileBytes = storedBytes(file)
        if (fileBytes > aheadFileBytesMax || bytes + fileBytes > aheadBytesMax) break
        pathBytes += file.path.length
        if (pathBytes > requestPathBytesMax) break
        following.take()
        if (fileBytes === 0) continue
        bytes += fileBytes
        request.push(file)
      }
    }
    this.#ahead = Math.min(2 * this.#ahead, restorePathsMax)
    if (request.length > 0) this.#send(request)
  }

  #send(request: readonly Entry[]): void {
    this.#conversation.send({
      type: 'restore-content',
      paths: request.map(({ path }) => absolutePath(path)),
    })
    this.#requests++
    for (const [i, entry] of request.entries()) {
      const bytes = storedBytes(entry)
      this.#asked.push({ path: entry.path, bytesLeft: bytes, endsRequest: i === request.length - 1 })
      this.#askedBytes += bytes
    }
  }

  #nextPiece(asked: Asked): Buffer {
    if (this.#frame !== null && this.#at === this.#frame.length) {
      freeBuffer(this.#frame)
      this.#frame = null
    }
    this.#frame ??= this.#receiveFrame(asked)
    const piece = this.#frame.subarray(this.#at, this.#at + asked.bytesLeft)
    this.#at += piece.length
    asked.bytesLeft -= piece.length
    this.#askedBytes -= piece.length
    return piece
  }

  #receiveFrame(asked: Asked): Buffer {
    const message = this.#conversation.receive(['frame', 'content-missing'])
    if (message.type === 'content-missing') {
      this.#askedBytes -= asked.bytesLeft
      asked.bytesLeft = 0
      throw new ContentMissingError(message.message)
    }
    const frame = decompress(message.payload)
    if (frame.length === 0 || frame.length > this.#askedBytes) {
      throw new ProtocolError(
        'message-malformed',
        `the server sent ${frame.length} bytes of content where 1 to ${this.#askedBytes} were due`,
      )
    }
    freeBuffer(message.payload)
    this.#at = 0
    return frame
  }
}

function decompress(payload: Buffer): Buffer {
  try {
    return decompressFrame(payload)
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error
    throw new ProtocolError('message-malformed', `the server sent no content: ${error.message}`, {
      cause: error,
    })
  }
}
