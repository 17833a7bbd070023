/** A TCP proxy whose every piece arrives late, in both directions: a line with much latency. */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { pipeline, Transform } from 'node:stream'

const latenessMs = 40

export class SlowLine implements Disposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(targetPort: number) {
    this.#server = createServer((near) => {
      const far = connect({ port: targetPort, host: '127.0.0.1' })
      for (const socket of [near, far]) {
        this.#sockets.add(socket)
        socket.on('close', () => this.#sockets.delete(socket))
      }
      // An end of one side is one of the other; both sides tell their own programs of errors.
      pipeline(near, late(), far, () => {})
      pipeline(far, late(), near, () => {})
    })
  }

  static async start(targetPort: number): Promise<SlowLine> {
    const line = new SlowLine(targetPort)
    await new Promise<void>((resolve) => line.#server.listen(0, '127.0.0.1', resolve))
    return line
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  [Symbol.dispose](): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

function late(): Transform {
  return new Transform({
    transform(piece, _, done) {
      setTimeout(() => done(null, piece), latenessMs)
    },
  })
}
