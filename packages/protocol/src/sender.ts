import type { Writable } from 'node:stream'
import { Deadline } from './deadline.ts'
import { ProtocolError } from './errors.ts'
import { writeSliceBytes } from './limits.ts'
import { Pace } from './pace.ts'

export interface SenderWaits {
  /** For the other side to take one slice. */
  stallMs: number
  /** For one whole message. */
  messageMs: number
}

interface Outgoing {
  slices: Buffer[]
  begun: boolean
  resolve(): void
  reject(error: ProtocolError): void
}

/**
 * The writing half of a channel: whole messages, one after the other, in slices, so that a peer that takes nothing is
 * told from one that takes it slowly. It neither ends nor destroys the stream.
 */
export class Sender {
  readonly #stream: Writable
  readonly #waits: SenderWaits
  /** The first is being written. */
  #queue: Outgoing[] = []
  #writing = false
  #stopped: ProtocolError | null = null
  /** Of its own, and shared with others. */
  #pace: Pace | null = null
  #shared: Pace | null = null
  readonly #resume = () => this.#next()
  readonly #slice: Deadline
  readonly #message: Deadline

  /** `onStalled` is called when a deadline is missed; nothing more is written then only if it calls `stop`. */
  constructor(stream: Writable, waits: SenderWaits, onStalled: (error: ProtocolError) => void) {
    this.#stream = stream
    this.#waits = waits
    const missed = (ms: number) => () =>
      onStalled(new ProtocolError('stalled', `the other side took nothing of a message for ${ms / 1000} s`))
    this.#slice = new Deadline(missed(waits.stallMs))
    this.#message = new Deadline(missed(waits.messageMs))
  }

  /** Sends on average no more than so many bytes in a second; `null` for as fast as the stream takes them. */
  limitRate(bytesPerSecond: number | null): void {
    const wasWaiting = this.#pace?.leave(this.#resume) ?? false
    this.#pace = bytesPerSecond === null ? null : new Pace(bytesPerSecond)
    if (wasWaiting) this.#next()
  }

  /** Keeps, with others, to a pace as well; `null` for none. */
  shareRate(pace: Pace | null): void {
    const wasWaiting = this.#shared?.leave(this.#resume) ?? false
    this.#shared = pace
    if (wasWaiting) this.#next()
  }

  /** Resolves when the stream has taken all of it; rejects with the reason of `stop` or `dropWaiting`. */
  send(buffers: readonly Buffer[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    if (this.#stopped !== null) {
      reject(this.#stopped)
    } else {
      this.#queue.push({ slices: buffers.flatMap(slicesOf), begun: false, resolve, reject })
      this.#next()
    }
    return promise
  }

  /** Rejects the messages of which nothing was written yet. */
  dropWaiting(reason: ProtocolError): void {
    const dropped = this.#queue.filter((outgoing) => !outgoing.begun)
    this.#queue = this.#queue.filter((outgoing) => outgoing.begun)
    for (const outgoing of dropped) outgoing.reject(reason)
  }

  /** Rejects all messages, and those to come. */
  stop(reason: ProtocolError): void {
    if (this.#stopped !== null) return
    this.#stopped = reason
    this.#slice.stop()
    this.#message.stop()
    this.#pace?.leave(this.#resume)
    this.#shared?.leave(this.#resume)
    for (const outgoing of this.#queue.splice(0)) outgoing.reject(reason)
  }

  #next(): void {
    if (this.#writing || this.#stopped !== null) return
    const current = this.#queue[0]
    if (current === undefined) return
    if (current.slices.length > 0 && this.#mustWait()) return
    const slice = current.slices.shift()
    if (slice === undefined) {
      this.#message.stop()
      this.#queue.shift()
      current.resolve()
      this.#next()
      return
    }
    if (!current.begun) this.#message.start(this.#waits.messageMs)
    current.begun = true
    this.#writing = true
    for (const pace of [this.#pace, this.#shared]) pace?.add(slice.length)
    this.#slice.start(this.#waits.stallMs)
    this.#stream.write(slice, (error) => {
      this.#writing = false
      this.#slice.stop()
      // The stream reports the error itself, and whoever listens to it stops this sender.
      if (error == null) this.#next()
    })
  }

  #mustWait(): boolean {
    return [this.#pace, this.#shared].some((pace) => pace?.mustWait(this.#resume))
  }
}

function slicesOf(buffer: Buffer): Buffer[] {
  const slices: Buffer[] = []
  for (let at = 0; at < buffer.length; at += writeSliceBytes) {
    slices.push(buffer.subarray(at, at + writeSliceBytes))
  }
  return slices
}
