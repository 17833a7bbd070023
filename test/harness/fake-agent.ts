/**
 * An agent that says what a test wants: with the real certificate of its host, the real password gate left out. Up to
 * the request it behaves, unless the test takes over from the first byte.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Server, TLSSocket } from 'node:tls'
import { formatArchiveName } from '@central-backup/archive'
import { Channel, type Credentials, createListener, type MessageOf } from '@central-backup/protocol'
import type { TestHost } from './site.ts'

/** One session, after the server has made its request. */
export interface Conversation {
  readonly channel: Channel
  /** For bytes that no channel would send. */
  readonly socket: TLSSocket
  readonly request: MessageOf<'backup'>
  /** The name that the archive should have. */
  readonly archive: string
}

/** What the agent does once it has a request; whatever it throws ends the session without a word. */
export type Script = (conversation: Conversation) => Promise<void>

export function readCredentials(host: TestHost): Credentials {
  const read = (name: string) => readFileSync(join(host.folder, name))
  return { ca: read('ca.crt'), cert: read('host.crt'), key: read('host.key') }
}

export class FakeAgent implements AsyncDisposable {
  readonly host: TestHost
  script: Script
  /** In place of all: called with the bare connection. */
  onSocket: ((socket: TLSSocket) => void) | null = null
  readonly #listener: Server
  readonly #sockets = new Set<TLSSocket>()

  private constructor(host: TestHost, script: Script, credentials: Credentials) {
    this.host = host
    this.script = script
    this.#listener = createListener(credentials, {
      onConnection: (socket) => {
        this.#sockets.add(socket)
        socket.on('close', () => this.#sockets.delete(socket))
        if (this.onSocket !== null) this.onSocket(socket)
        else void this.#converse(socket)
      },
      onRefused: () => {},
    })
  }

  /** Listens in the place of the host's agent: its module gets the port. */
  static async start(
    host: TestHost,
    script: Script,
    credentials = readCredentials(host),
  ): Promise<FakeAgent> {
    const agent = new FakeAgent(host, script, credentials)
    agent.#listener.listen(0, '127.0.0.1')
    await once(agent.#listener, 'listening')
    host.setPort((agent.#listener.address() as AddressInfo).port)
    return agent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#listener, 'close')
    this.#listener.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #converse(socket: TLSSocket): Promise<void> {
    const channel = new Channel(socket)
    try {
      await greet(channel, this.host.name)
      const request = await channel.receive(['backup'])
      await this.script({ channel, socket, request, archive: formatArchiveName(request) })
      await channel.closed
    } catch {
      channel.destroy()
    }
  }
}

/** `hello` and `welcome`, as an agent says them that takes any password. */
export async function greet(channel: Channel, name: string): Promise<void> {
  await channel.send({ type: 'hello', protocol: 1, software: 'fake-agent 1', role: 'host', name })
  await channel.receive(['hello'])
  await channel.receive(['authenticate'])
  await channel.send({ type: 'welcome', name, policy: { read: [Buffer.from('/')] }, localCopy: false })
}
