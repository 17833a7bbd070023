import { type Channel, ProtocolError, waitingSessionsMax } from '@central-backup/protocol'

/**
 * Sessions that have passed the password and not made their request yet. They do not count as sessions that are served,
 * since who only waits would keep others out; where there are too many, one of them has to go.
 */
export class WaitingSessions {
  /** The serial number of the server's certificate by channel, in the order in which they came. */
  readonly #waiting = new Map<Pick<Channel, 'fail'>, string>()

  get count(): number {
    return this.#waiting.size
  }

  /**
   * Lets a session wait until what is returned is disposed of. Where that is one too many, the oldest of the certificate that has
   * the most is ended as `busy`: who comes again and again pushes out himself, unless he has the certificate of the others.
   */
  enter(channel: Pick<Channel, 'fail'>, serial: string): Disposable {
    this.#waiting.set(channel, serial)
    if (this.#waiting.size > waitingSessionsMax) {
      const oldest = this.#oldestOfMost()
      this.#waiting.delete(oldest)
      void oldest.fail(
        new ProtocolError('busy', `${waitingSessionsMax} sessions after this one wait to make their request`),
      )
    }
    return { [Symbol.dispose]: () => void this.#waiting.delete(channel) }
  }

  #oldestOfMost(): Pick<Channel, 'fail'> {
    const bySerial = Map.groupBy(this.#waiting.keys(), (channel) => this.#waiting.get(channel)!)
    const [most] = [...bySerial.values()].sort((a, b) => b.length - a.length)
    return most![0]!
  }
}
