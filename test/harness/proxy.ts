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
   * `half-open`: the connection to where the bytes come from is reset, and the other side is told nothing. `slow`: all goes
   * on, a piece at a time. `none`: all goes on; only `onStrike` is called.
   */
  what: 'cut' | 'reset' | 'stall' | 'half-open' | 'slow' | 'corrupt' | 'none'
  /** Called at that moment, before what is left passes: to kill a program, for example. */
  onStrike?: () => void
}

export type Passed = Record<Direction, number>

/** Passes connections on to `targetPort` of loopback. Disposing of it breaks all of them. */
export class BreakingProxy implements Disposable {
  targetPort: number
  /** Bytes of the newest connection that were passed on. */
  passed: Passed = { fromServer: 0, fromAgent: 0 }
  /** Called with each piece that passes: where messages begin and end, as far as the network tells. */
  onPiece: ((direction: Direction, bytes: number) => void) | null = null
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
    const observer = {
      onPiece: (direction: Direction, bytes: number) => this.onPiece?.(direction, bytes),
      onStrike: () => this.#struck.resolve({ ...passed }),
    }
    const connection = new Connection(server, agent, passed, fault, observer)
    for (const socket of [server, agent]) {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    }
    connection.begin()
  }
}

interface Observer {
  onPiece(direction: Direction, bytes: number): void
  onStrike(): void
}

/** A slow line carries so many bytes, and then waits for so long. */
const slowBytes = 32 * 1024
const slowMs = 20

class Connection {
  readonly #sockets: Record<Direction, Socket>
  readonly #passed: Passed
  #fault: Fault | null
  readonly #observer: Observer
  #broken = false
  #slow = false

  constructor(server: Socket, agent: Socket, passed: Passed, fault: Fault | null, observer: Observer) {
    this.#sockets = { fromServer: server, fromAgent: agent }
    this.#passed = passed
    this.#fault = fault
    this.#observer = observer
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
    const from = this.#sockets[direction]
    const to = this.#sockets[other(direction)]
    this.#observer.onPiece(direction, piece.length)
    this.#passed[direction] += piece.length
    if (to.destroyed || to.writableEnded) return
    if (!to.write(piece)) from.pause()
    if (this.#slow && piece.length >= 1024) {
      from.pause()
      setTimeout(() => from.resume(), slowMs * Math.ceil(piece.length / slowBytes))
    }
  }

  /** What still passes of the piece at whose beginning it strikes. */
  #strike(fault: Fault, rest: Buffer): Buffer | null {
    this.#observer.onStrike()
    fault.onStrike?.()
    if (fault.what === 'slow') this.#slow = true
    if (fault.what === 'none' || fault.what === 'slow') return rest
    if (fault.what === 'corrupt') {
      rest[0]! ^= 0x10
      return rest
    }
    this.#broken = true
    if (fault.what === 'half-open') {
      this.#sockets[other(fault.direction)].pause()
      this.#sockets[fault.direction].resetAndDestroy()
      return null
    }
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
