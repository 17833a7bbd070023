import {
  enrolmentConnectionsPerAddressMax,
  enrolmentFailuresMax,
  enrolmentFailuresPerAddressMax,
} from '@central-backup/protocol'

interface Visitor {
  connections: number
  failures: number
}

const unknown: Readonly<Visitor> = { connections: 0, failures: 0 }

/**
 * Who may try to enrol this host. A stranger shall neither keep the server out by holding connections, nor void the code
 * by wrong proofs, so both are counted by address.
 */
export class EnrolmentGate {
  /** Bounded: an address stays only while it is connected, or has failed, and failures in all are bounded. */
  readonly #visitors = new Map<string, Visitor>()
  #failures = 0

  /** Whether so many proofs were wrong that the code is void. */
  get isVoid(): boolean {
    return this.#failures >= enrolmentFailuresMax
  }

  /** Whether a connection from there is let in. If so, `leave` is called when it ends. */
  enter(address: string): boolean {
    const visitor = this.#visitors.get(address) ?? { ...unknown }
    if (this.isVoid || visitor.failures >= enrolmentFailuresPerAddressMax) return false
    if (visitor.connections >= enrolmentConnectionsPerAddressMax) return false
    visitor.connections++
    this.#visitors.set(address, visitor)
    return true
  }

  leave(address: string): void {
    const visitor = this.#visitors.get(address)!
    visitor.connections--
    if (visitor.connections === 0 && visitor.failures === 0) this.#visitors.delete(address)
  }

  /** A proof from there was wrong, of a connection that may have ended by now. */
  fail(address: string): void {
    const visitor = this.#visitors.get(address) ?? { ...unknown }
    visitor.failures++
    this.#visitors.set(address, visitor)
    this.#failures++
  }
}
