import { ProtocolError, plainText } from './errors.ts'
import { headerBytes } from './limits.ts'
import {
  type Message,
  type MessageType,
  messageKindOf,
  messageKindOfNumber,
  protocolVersion,
} from './messages.ts'
import { decodePayload, encodePayload } from './payload.ts'
import type { PayloadMemory } from './payload-memory.ts'

/**
 * The bytes of a message, as Buffers to be written one after the other. The payload of a data message is the caller's
 * own Buffer, not a copy: it must not change until it is written. Throws `internal` for a message that the other side
 * would refuse: that is a mistake of this side.
 */
export function encodeMessage(message: Message): Buffer[] {
  const kind = messageKindOf(message.type)
  const payload = 'payload' in message ? message.payload : encodePayload(checkedFields(message))
  if (payload.length < 1 || payload.length > kind.payloadBytesMax) {
    const limit = `1 to ${kind.payloadBytesMax} bytes`
    throw new ProtocolError(
      'internal',
      `a message ${kind.type} of ${payload.length} bytes was to be sent; it may have ${limit}`,
    )
  }
  const header = Buffer.allocUnsafe(headerBytes)
  header.writeUInt8(kind.number, 0)
  header.writeUInt32BE(payload.length, 1)
  return kind.schema === null ? [header, payload] : [Buffer.concat([header, payload])]
}

function checkedFields(message: Message): object {
  const { type, ...fields } = message
  const checked = messageKindOf(type).schema!.safeParse(fields)
  if (checked.success) return checked.data
  throw new ProtocolError(
    'internal',
    `a message ${type} was to be sent that is not valid: ${problemsOf(checked.error)}`,
  )
}

/** The message of a whole payload. Throws `message-malformed`, or `version-unsupported` for the `hello` of another version. */
export function decodeMessage(type: MessageType, payload: Buffer): Message {
  const { schema } = messageKindOf(type)
  if (schema === null) return { type, payload } as Message
  const fields = decodePayload(payload)
  if (type === 'hello') checkVersion(fields.protocol)
  const checked = schema.safeParse(fields)
  if (!checked.success) {
    throw new ProtocolError(
      'message-malformed',
      plainText(`a message ${type} is not valid: ${problemsOf(checked.error)}`),
    )
  }
  return { type, ...checked.data } as Message
}

/** Looked at before the other fields, as these may be different in another version. */
function checkVersion(version: unknown): void {
  if (!Number.isSafeInteger(version) || version === protocolVersion) return
  throw new ProtocolError(
    'version-unsupported',
    `the other side speaks version ${version} of the protocol, this side version ${protocolVersion}`,
  )
}

/**
 * Fields and what is wrong with them. Values are left out: they may be a password, or a megabyte. Names of fields that
 * are not known come from the other side, and are made safe to print.
 */
function problemsOf(error: { issues: readonly { path: PropertyKey[]; message: string }[] }): string {
  const problems = error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.join('.') || 'fields'}: ${issue.message}`)
  return plainText(problems.join('; '))
}

/**
 * Whether a message whose header has arrived may go on: `true` reads its payload, `false` holds it, so that nothing of
 * the payload is read until `next` is called again and `admit` says `true`. It throws to refuse the message.
 */
export type Admit = (type: MessageType) => boolean

/**
 * Makes messages out of bytes that come in pieces of any size. It knows no sockets: pieces are given to `push`, and
 * `next` is called until it has no more. A message is checked as soon as its header is there, before anything of its
 * payload is kept: unknown types, lengths beyond the limit of the type, and what `admit` refuses are thrown as
 * `ProtocolError`. After an error the parser is not to be used any more.
 *
 * It keeps the pieces that `next` has not used, so whoever pushes must stop while `unreadBytes` is not 0, and calls
 * `keepUnread` before the memory of the last piece is used for something else.
 */
export class MessageParser {
  /** Where the payloads of data messages go, for whoever gives it back; `null` for memory of their own. */
  memory: PayloadMemory | null = null
  readonly #admit: Admit
  readonly #header = Buffer.alloc(headerBytes)
  #headerFilled = 0
  /** The message whose payload is awaited, once it is admitted. */
  #type: MessageType | null = null
  #payloadBytes = 0
  #payload: Buffer | null = null
  #payloadFilled = 0
  #pieces: Buffer[] = []
  #unreadBytes = 0

  constructor(admit: Admit = () => true) {
    this.#admit = admit
  }

  /** Bytes that were pushed and not yet used. */
  get unreadBytes(): number {
    return this.#unreadBytes
  }

  /** What the parser is in the middle of, for an error that says so; `null` between two messages. */
  get unfinished(): MessageType | 'header' | null {
    if (this.#type !== null) return this.#type
    return this.#headerFilled > 0 ? 'header' : null
  }

  push(piece: Buffer): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#unreadBytes += piece.length
  }

  /** Copies what is left of the last piece. */
  keepUnread(): void {
    const last = this.#pieces.at(-1)
    if (last !== undefined) this.#pieces[this.#pieces.length - 1] = Buffer.from(last)
  }

  /** The next message, or `null` where there is none yet, or it is held. */
  next(): Message | null {
    if (this.#type === null && !this.#readHeader()) return null
    while (this.#payloadFilled < this.#payloadBytes) {
      if (this.#unreadBytes === 0) return null
      // Not before there is something to put in, so that a header alone costs no memory.
      this.#payload ??= this.#takeMemory()
      this.#payloadFilled += this.#take(this.#payload, this.#payloadFilled)
    }
    const message = decodeMessage(this.#type!, this.#payload!)
    this.#type = null
    this.#payload = null
    this.#payloadFilled = 0
    this.#headerFilled = 0
    return message
  }

  #takeMemory(): Buffer {
    const memory = messageKindOf(this.#type!).schema === null ? this.memory : null
    return memory?.take(this.#payloadBytes) ?? Buffer.allocUnsafeSlow(this.#payloadBytes)
  }

  /** Whether a header is complete and admitted. */
  #readHeader(): boolean {
    while (this.#headerFilled < headerBytes) {
      if (this.#unreadBytes === 0) return false
      this.#headerFilled += this.#take(this.#header, this.#headerFilled)
    }
    const number = this.#header.readUInt8(0)
    const kind = messageKindOfNumber(number)
    if (kind === undefined) {
      throw new ProtocolError('message-unknown', `a message of the unknown type ${number} arrived`)
    }
    const length = this.#header.readUInt32BE(1)
    if (length > kind.payloadBytesMax) {
      const limit = `it may have ${kind.payloadBytesMax}`
      throw new ProtocolError(
        'message-too-large',
        `a message ${kind.type} of ${length} bytes arrived; ${limit}`,
      )
    }
    if (length === 0)
      throw new ProtocolError('message-malformed', `a message ${kind.type} without payload arrived`)
    if (!this.#admit(kind.type)) return false
    this.#type = kind.type
    this.#payloadBytes = length
    return true
  }

  /** Moves what fits of the first piece into `target` and says how much that was. */
  #take(target: Buffer, filled: number): number {
    const piece = this.#pieces[0]!
    const taken = piece.copy(target, filled)
    if (taken === piece.length) this.#pieces.shift()
    else this.#pieces[0] = piece.subarray(taken)
    this.#unreadBytes -= taken
    return taken
  }
}
