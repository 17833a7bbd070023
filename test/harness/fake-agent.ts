/**
 * An agent that says what a test wants: with the real certificate of its host, the real password gate left out. Up to
 * the request it behaves, unless the test takes over from the first byte.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
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
  const { authority, certificate, key } = JSON.parse(readFileSync(host.bundle, 'utf8')) as Bundle
  return { ca: authority, cert: certificate, key }
}

interface Bundle {
  authority: string
  certificate: string
  key: string
}

export class FakeAgent implements AsyncDisposable {
  readonly host: TestHost
  /** For a request to back up. */
  script: Script = async () => {}
  /** For a request to list. */
  listing: (channel: Channel) => Promise<void> = async () => {}
  /** For a request to restore, to folders below `/srv`. */
  restoring: (channel: Channel, request: MessageOf<'restore'>) => Promise<void> = async () => {}
  /** In the place of all: called with the connection, on which nothing was said yet. */
  greeting: ((channel: Channel, socket: TLSSocket) => Promise<void>) | null = null
  readonly #listener: Server
  readonly #sockets = new Set<TLSSocket>()

  private constructor(host: TestHost, credentials: Credentials) {
    this.host = host
    this.#listener = createListener(credentials, {
      onConnection: (socket) => {
        this.#sockets.add(socket)
        socket.on('close', () => this.#sockets.delete(socket))
        void this.#converse(socket)
      },
      onRefused: () => {},
    })
  }

  /** Listens in the place of the host's agent: its module gets the port. */
  static async start(host: TestHost, credentials = readCredentials(host)): Promise<FakeAgent> {
    const agent = new FakeAgent(host, credentials)
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
      if (this.greeting !== null) await this.greeting(channel, socket)
      else await this.#serve(channel, socket)
    } catch {
      channel.destroy()
    }
    await hearOut(channel)
    await channel.closed
  }

  async #serve(channel: Channel, socket: TLSSocket): Promise<void> {
    await greet(channel, this.host.name, [Buffer.from('/srv')])
    const request = await channel.receive(['backup', 'check', 'restore'])
    if (request.type === 'check') await this.listing(channel)
    else if (request.type === 'restore') await this.restoring(channel, request)
    else await this.script({ channel, socket, request, archive: formatArchiveName(request) })
  }
}

/** Reads on until the session ends, as the other side may be saying why. */
async function hearOut(channel: Channel): Promise<void> {
  try {
    for (;;) await channel.receive(['hello', 'authenticate', 'backup', 'check', 'stored'])
  } catch {
    // That was the end.
  }
}

/** `hello` and `welcome`, as an agent says them that takes any password. */
export async function greet(channel: Channel, name: string, restore: readonly Buffer[] = []): Promise<void> {
  await channel.send({ type: 'hello', protocol: 1, software: 'fake-agent 1', role: 'host', name })
  await channel.receive(['hello'])
  await channel.receive(['authenticate'])
  await channel.send({
    type: 'welcome',
    name,
    policy: { read: [Buffer.from('/')], restore: [...restore] },
    localCopy: false,
  })
}
