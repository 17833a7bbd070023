import type { Duplex } from 'node:stream'
import { encodeMessage, MessageParser } from './codec.ts'
import { Deadline } from './deadline.ts'
import { errorReport, PeerError, ProtocolError } from './errors.ts'
import { closeMsMax, idleMsMax, messageMsMax, stallMsMax, undeliveredMessagesMax } from './limits.ts'
import type { Message, MessageOf, MessageType } from './messages.ts'
import type { Pace } from './pace.ts'
import type { PayloadMemory } from './payload-memory.ts'
import { Sender } from './sender.ts'
import { errorFromSocket } from './socket-errors.ts'

/** The waits of a channel. All have a default in `limits.ts`; a test sets shorter ones. */
export interface ChannelWaits {
  /** `receive`: silence of the other side. */
  idleMs: number
  /** One message, from its first byte to its last, in either direction. */
  messageMs: number
  /** `send`: the other side takes nothing. */
  stallMs: number
  /** `close` and `fail`, from the call to the closed connection. */
  closeMs: number
}

export interface ChannelOptions {
  /** Ends the session with `cancelled`, or with the signal's reason where that is a `ProtocolError`. */
  signal?: AbortSignal | undefined
  waits?: Partial<ChannelWaits>
}

export interface ReceiveOptions {
  /** The message must have arrived whole in this time. It replaces the deadline for silence. */
  timeoutMs?: number | undefined
}

interface Waiter {
  types: readonly MessageType[]
  resolve(message: Message): void
  reject(error: ProtocolError): void
}

/**
 * A conversation of messages over a duplex stream, which it owns from now on: it reads it, and closes it at the end.
 *
 * The first thing that goes wrong ends the session, whatever it is: a broken connection, an `error` message of the
 * other side (a `PeerError`), a message that is not due or not valid, a deadline, the signal. That error is then what
 * every pending and every later call is rejected with. Unless the connection itself is gone, the other side is told.
 *
 * It reads ahead by at most `undeliveredMessagesMax` messages, and nothing of the payload of a message whose type no
 * `receive` has asked for. An `error` message is always due. A stream error never goes unhandled.
 */
export class Channel {
  /** Aborted when the session ends; its reason is the error, or `connection-lost` after a `close` of this side. */
  readonly ended: AbortSignal
  /** Resolves when the stream is closed. Never rejects. */
  readonly closed: Promise<void>

  readonly #stream: Duplex
  readonly #waits: ChannelWaits
  readonly #sender: Sender
  readonly #ending = new AbortController()
  readonly #parser = new MessageParser((type) => this.#admit(type))
  readonly #undelivered: Message[] = []
  /** The types of the last `receive`: what is read ahead. */
  #expected: readonly MessageType[] = []
  #waiter: Waiter | null = null
  #end: ProtocolError | null = null
  /** This side has ended the session: what still arrives is thrown away. */
  #deaf = false
  #paused = false
  readonly #silence = new Deadline(() => this.#stalled(`nothing arrived for ${this.#waits.idleMs / 1000} s`))
  readonly #wholeMessage = new Deadline(() =>
    this.#stalled(`a message was not complete after ${this.#waits.messageMs / 1000} s`),
  )
  readonly #timeout = new Deadline(() => this.#stalled('it did not arrive in time'))
  readonly #force = new Deadline(() => this.#stream.destroy())

  constructor(stream: Duplex, options: ChannelOptions = {}) {
    this.#stream = stream
    this.#waits = {
      idleMs: idleMsMax,
      messageMs: messageMsMax,
      stallMs: stallMsMax,
      closeMs: closeMsMax,
      ...options.waits,
    }
    this.ended = this.#ending.signal
    this.#sender = new Sender(stream, this.#waits, (error) => void this.fail(error))
    const { promise, resolve } = Promise.withResolvers<void>()
    this.closed = promise
    stream.on('data', (piece: Buffer) => this.#read(piece))
    stream.on('end', () => this.#lose(this.#peerClosed()))
    stream.on('error', (error) => this.#lose(errorFromSocket(error)))
    stream.on('close', () => {
      this.#force.stop()
      this.#lose(this.#peerClosed())
      resolve()
    })
    if (stream.destroyed) {
      this.#lose(stream.errored ? errorFromSocket(stream.errored) : this.#peerClosed())
      resolve()
    }
    this.#obey(options.signal)
  }

  /**
   * Resolves when the connection has taken the message: not when the other side has it. Calls may overlap; messages go
   * out in the order of the calls. Whoever calls bounds how many are under way, and leaves a payload unchanged until then.
   */
  async send(message: Message): Promise<void> {
    if (this.#end !== null) throw this.#end
    await this.#sender.send(encodeMessage(message))
  }

  /**
   * Sends no faster than so from now on, averaged over seconds; `bytesPerSecondMin` at least, or else messages would miss
   * their deadlines. The last words of a session are not held up.
   */
  limitRate(bytesPerSecond: number): void {
    this.#sender.limitRate(bytesPerSecond)
  }

  /** Keeps to a pace as well that other channels share: all of them together send no faster than that. */
  shareRate(pace: Pace): void {
    this.#sender.shareRate(pace)
  }

  /** Reads the payloads of data messages into `memory` from now on; the receiver gives each back when it is done with it. */
  receiveInto(memory: PayloadMemory): void {
    this.#parser.memory = memory
  }

  /**
   * The next message, which must be of one of `types`: any other ends the session with `message-out-of-turn`. The other
   * side may be silent for `idleMs`, or the whole may take `timeoutMs` where that is given; to miss either ends the
   * session with `stalled`. What arrived before a connection broke is still delivered. One call at a time.
   */
  receive<T extends MessageType>(types: readonly T[], options: ReceiveOptions = {}): Promise<MessageOf<T>> {
    if (this.#waiter !== null) throw new Error('a channel has one receiver at a time')
    const { promise, resolve, reject } = Promise.withResolvers<Message>()
    this.#waiter = { types, resolve, reject }
    this.#expected = types
    if (options.timeoutMs === undefined) this.#silence.start(this.#waits.idleMs)
    else this.#timeout.start(options.timeoutMs)
    this.#pump()
    return promise as Promise<MessageOf<T>>
  }

  /**
   * Ends the session with an error: the other side gets an `error` message, if it still takes one, and the connection is
   * closed within `closeMs`. Of an error that is no `ProtocolError` the other side only hears that it was `internal`.
   * Messages that have not begun to go out are dropped. Resolves when the stream is closed; never rejects.
   */
  fail(error: unknown): Promise<void> {
    if (this.#end !== null) return this.closed
    const reason =
      error instanceof ProtocolError ? error : new ProtocolError('internal', undefined, { cause: error })
    this.#sender.dropWaiting(reason)
    this.#finish(reason, encodeMessage({ type: 'error', ...errorReport(reason) }))
    return this.closed
  }

  /**
   * Ends the session in good order, once what was sent is flushed, within `closeMs`. Await your sends first: after that
   * time they are lost. Resolves when the stream is closed; never rejects.
   */
  close(): Promise<void> {
    if (this.#end === null) {
      this.#finish(new ProtocolError('connection-lost', 'this side has closed the connection'), [])
    }
    return this.closed
  }

  /** Drops the connection at once, without a word. */
  destroy(): void {
    this.#lose(new ProtocolError('connection-lost', 'this side has dropped the connection'))
  }

  /** The last words go out, then the end of the stream. What comes in until it is closed is read, so that they arrive. */
  #finish(reason: ProtocolError, lastWords: Buffer[]): void {
    this.#sender.limitRate(null)
    this.#sender.shareRate(null)
    const flushed = this.#sender.send(lastWords)
    this.#deaf = true
    this.#undelivered.length = 0
    this.#endWith(reason)
    this.#force.start(this.#waits.closeMs)
    this.#stream.resume()
    flushed.then(
      () => this.#stream.end(),
      () => this.#stream.destroy(),
    )
  }

  /** The connection is gone, or the other side has ended the session. */
  #lose(reason: ProtocolError): void {
    this.#endWith(reason)
    this.#sender.stop(this.#end ?? reason)
    this.#stream.destroy()
  }

  #endWith(reason: ProtocolError): void {
    if (this.#end !== null) return
    this.#end = reason
    this.#ending.abort(reason)
    this.#pump()
  }

  #obey(signal: AbortSignal | undefined): void {
    if (signal === undefined) return
    const cancel = () => {
      const { reason } = signal
      void this.fail(
        reason instanceof ProtocolError
          ? reason
          : new ProtocolError('cancelled', undefined, { cause: reason }),
      )
    }
    if (signal.aborted) cancel()
    else signal.addEventListener('abort', cancel, { once: true, signal: this.ended })
  }

  #read(piece: Buffer): void {
    if (this.#deaf) return
    this.#silence.refresh()
    this.#parser.push(piece)
    this.#pump()
    this.#parser.keepUnread()
  }

  /** Takes messages out of what was read, as far as they are wanted, and sees to it that the rest waits. */
  #pump(): void {
    try {
      while (!this.#deaf) {
        this.#deliver()
        if (this.#undelivered.length >= undeliveredMessagesMax) break
        const message = this.#parser.next()
        if (message === null) break
        if (message.type === 'error') throw new PeerError(message)
        this.#undelivered.push(message)
      }
    } catch (error) {
      this.#abandon(error)
    }
    if (this.#end !== null) this.#release(this.#end)
    else this.#regulate()
  }

  #deliver(): void {
    const message = this.#waiter === null ? undefined : this.#undelivered.shift()
    if (message === undefined) return
    if (!this.#waiter!.types.includes(message.type)) throw this.#outOfTurn(message.type)
    const { resolve } = this.#waiter!
    this.#waiter = null
    this.#silence.stop()
    this.#timeout.stop()
    resolve(message)
  }

  /** After a message that cannot be read or was not due, nothing that follows it can. */
  #abandon(error: unknown): void {
    this.#deaf = true
    if (this.#end !== null && error instanceof ProtocolError) this.#end = error
    else if (error instanceof PeerError) this.#lose(error)
    else void this.fail(error)
  }

  #admit(type: MessageType): boolean {
    if (type === 'error' || this.#expected.includes(type)) return true
    if (this.#waiter !== null && this.#undelivered.length === 0) throw this.#outOfTurn(type)
    return false
  }

  #outOfTurn(type: MessageType): ProtocolError {
    const due = this.#expected.join(' or ')
    return new ProtocolError('message-out-of-turn', `a message ${type} arrived where ${due} was due`)
  }

  /** After the end: nobody waits any more. */
  #release(reason: ProtocolError): void {
    for (const deadline of [this.#silence, this.#wholeMessage, this.#timeout]) deadline.stop()
    this.#waiter?.reject(reason)
    this.#waiter = null
  }

  /** Stops and resumes reading; a message's time runs only while this side reads. */
  #regulate(): void {
    const paused = this.#undelivered.length >= undeliveredMessagesMax || this.#parser.unreadBytes > 0
    if (paused !== this.#paused) {
      this.#paused = paused
      if (paused) this.#stream.pause()
      else this.#stream.resume()
    }
    if (paused || this.#parser.unfinished === null) this.#wholeMessage.stop()
    else if (!this.#wholeMessage.running) this.#wholeMessage.start(this.#waits.messageMs)
  }

  #stalled(what: string): void {
    const awaited = this.#parser.unfinished ?? (this.#expected.join(' or ') || 'a message')
    void this.fail(new ProtocolError('stalled', `${what} (waiting for ${awaited})`))
  }

  #peerClosed(): ProtocolError {
    const { unfinished } = this.#parser
    if (unfinished === null)
      return new ProtocolError('connection-lost', 'the other side closed the connection')
    return new ProtocolError(
      'connection-lost',
      `the connection ended in the middle of a message (${unfinished})`,
    )
  }
}
