/** A TCP proxy between a server and its agent that breaks the connection in a given way at a given byte. */
import { connect, createServer, type Server, type Socket } from 'node:net'

export type Direction = 'fromServer' | 'fromAgent'

export interface Fault {
  /** What carries the byte at which it strikes. */
  direction: Direction
  /** So many bytes of that direction still pass. */
  afterBytes: number
  /** It does not strike before so many bytes have passed in the other direction. */
  afterOtherBytes?: number
  /**
   * `cut`: both connections are ended (FIN). `reset`: both are reset (RST). `stall`: nothing passes any more, in either
   * direction, and nothing is closed. `corrupt`: one bit of the next byte is turned over, and all goes on.
   * `none`: all goes on; only `onStrike` is called.
   */
  what: 'cut' | 'reset' | 'stall' | 'corrupt' | 'none'
  /** Called at that moment, before what is left passes: to kill a program, for example. */
  onStrike?: () => void
}

export type Passed = Record<Direction, number>

/** Passes connections on to `targetPort` of loopback. Disposing of it breaks all of them. */
export class BreakingProxy implements Disposable {
  targetPort: number
  /** Bytes of the newest connection that were passed on. */
  passed: Passed = { fromServer: 0, fromAgent: 0 }
  #fault: Fault | null = null
  #struck = Promise.withResolvers<Passed>()
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(targetPort: number) {
    this.targetPort = targetPort
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket))
  }

  static async start(targetPort: number): Promise<BreakingProxy> {
    const proxy = new BreakingProxy(targetPort)
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject)
      proxy.#server.listen(0, '127.0.0.1', resolve)
    })
    return proxy
  }

  /** Where it listens. */
  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  /** The next connection is broken so; one at a time. Resolves when it has struck, with what had passed by then. */
  arm(fault: Fault): Promise<Passed> {
    this.#fault = fault
    this.#struck = Promise.withResolvers<Passed>()
    return this.#struck.promise
  }

  disarm(): void {
    this.#fault = null
  }

  /** Ends connections that were stalled. */
  breakAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  [Symbol.dispose](): void {
    this.#server.close()
    this.breakAll()
  }

  #accept(server: Socket): void {
    const agent = connect({ port: this.targetPort, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    server.setNoDelay(true)
    const passed: Passed = { fromServer: 0, fromAgent: 0 }
    this.passed = passed
    const fault = this.#fault
    this.#fault = null
    const connection = new Connection(server, agent, passed, fault, () => this.#struck.resolve({ ...passed }))
    for (const socket of [server, agent]) {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    }
    connection.begin()
  }
}

class Connection {
  readonly #sockets: Record<Direction, Socket>
  readonly #passed: Passed
  #fault: Fault | null
  readonly #onStrike: () => void
  #broken = false

  constructor(server: Socket, agent: Socket, passed: Passed, fault: Fault | null, onStrike: () => void) {
    this.#sockets = { fromServer: server, fromAgent: agent }
    this.#passed = passed
    this.#fault = fault
    this.#onStrike = onStrike
  }

  begin(): void {
    for (const direction of ['fromServer', 'fromAgent'] as const) this.#pump(direction)
  }

  #pump(direction: Direction): void {
    const from = this.#sockets[direction]
    const to = this.#sockets[other(direction)]
    from.on('data', (piece: Buffer) => this.#pass(direction, piece))
    from.on('end', () => {
      if (!this.#broken) to.end()
    })
    to.on('drain', () => from.resume())
    // A stalled connection stays as it is, whatever becomes of its other half.
    from.on('error', () => {
      if (!this.#broken) to.resetAndDestroy()
    })
    from.on('close', () => {
      if (!this.#broken && !to.destroyed && from.errored === null) to.end()
    })
  }

  #pass(direction: Direction, piece: Buffer): void {
    if (this.#broken) return
    const fault = this.#fault
    const due =
      fault?.direction === direction && this.#passed[other(direction)] >= (fault.afterOtherBytes ?? 0)
    const left = due ? fault.afterBytes - this.#passed[direction] : Number.POSITIVE_INFINITY
    if (left >= piece.length) {
      this.#forward(direction, piece)
      return
    }
    const before = Math.max(0, left)
    if (before > 0) this.#forward(direction, piece.subarray(0, before))
    this.#fault = null
    const rest = this.#strike(fault!, Buffer.from(piece.subarray(before)))
    if (rest !== null) this.#forward(direction, rest)
  }

  #forward(direction: Direction, piece: Buffer): void {
    const to = this.#sockets[other(direction)]
    this.#passed[direction] += piece.length
    if (to.destroyed || to.writableEnded) return
    if (!to.write(piece)) this.#sockets[direction].pause()
  }

  /** What still passes of the piece at whose beginning it strikes. */
  #strike(fault: Fault, rest: Buffer): Buffer | null {
    this.#onStrike()
    fault.onStrike?.()
    if (fault.what === 'none') return rest
    if (fault.what === 'corrupt') {
      rest[0]! ^= 0x10
      return rest
    }
    this.#broken = true
    for (const socket of Object.values(this.#sockets)) {
      // What comes in from now on is read and dropped, but for a stalled one, whose senders are to feel it.
      if (fault.what === 'stall') socket.pause()
      else if (fault.what === 'reset') socket.resetAndDestroy()
      else socket.end(() => socket.destroy())
    }
    return null
  }
}

function other(direction: Direction): Direction {
  return direction === 'fromServer' ? 'fromAgent' : 'fromServer'
}
