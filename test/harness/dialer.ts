/** A client that says to an agent what no server would. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import tls from 'node:tls'
import {
  applicationProtocol,
  type Credentials,
  encodeMessage,
  type Message,
  MessageParser,
} from '@central-backup/protocol'
import { patienceMs } from './program.ts'

/** A plain TCP connection to a port of loopback. Its errors are left to whoever looks at `ending`. */
export async function dialPlain(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** A TLS connection, as a server makes it but for `options`. Rejects where the handshake fails. */
export async function dialTls(
  port: number,
  credentials: Partial<Credentials>,
  options: tls.ConnectionOptions = {},
): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    port,
    host: '127.0.0.1',
    ALPNProtocols: [applicationProtocol],
    checkServerIdentity: () => undefined,
    ...credentials,
    ...options,
  })
  socket.setNoDelay(true)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  socket.once('secureConnect', resolve)
  socket.on('error', reject)
  socket.once('close', () => reject(new Error('the connection was closed in the handshake')))
  await promise
  return socket
}

/** All that the other side says until the connection is closed. Rejects where it is not, in bounded time. */
export async function hearOut(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = []
  socket.on('data', (piece: Buffer) => pieces.push(piece))
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const timer = setTimeout(() => reject(new Error('the connection was never closed')), patienceMs)
  socket.once('close', resolve)
  if (socket.destroyed) resolve()
  try {
    await promise
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
  return Buffer.concat(pieces)
}

/** The messages in what an agent said. */
export function messagesIn(bytes: Buffer): Message[] {
  const parser = new MessageParser()
  parser.push(bytes)
  const messages: Message[] = []
  for (let message = parser.next(); message !== null; message = parser.next()) messages.push(message)
  return messages
}

/** Writes `pieces` and returns the code of the `error` that the agent answers with, or `null` where it just closes. */
export async function provoke(socket: Socket, ...pieces: Buffer[]): Promise<string | null> {
  const said = hearOut(socket)
  for (const piece of pieces) socket.write(piece)
  const error = messagesIn(await said).find((message) => message.type === 'error')
  return error?.code ?? null
}

/** The bytes of a message. */
export function bytesOf(message: Message): Buffer {
  return Buffer.concat(encodeMessage(message))
}

/** A message with any type and payload, whatever the length in its header is to be. */
export function rawMessage(type: number, payload: Uint8Array, length = payload.length): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt8(type, 0)
  header.writeUInt32BE(length, 1)
  return Buffer.concat([header, payload])
}

/** A string of up to 255 bytes as msgpack has it. */
export function msgpackText(text: string): Buffer {
  return Buffer.concat([Buffer.from([0xd9, Buffer.byteLength(text)]), Buffer.from(text)])
}
