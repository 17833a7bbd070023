import type { Entry } from '../entry.ts'
import type { BytePath } from '../path.ts'

/** Sockets of several names that are remembered; beyond, their names become sockets of their own. */
const socketsMax = 100_000

/**
 * Which names are of one socket. Tar has no sockets, so that none of their names can be a link to another: each is an
 * entry of its own, and the number of the inode tells that they belong together. Names are asked for in path order.
 */
export class SocketNames {
  readonly #firstNames = new Map<string, BytePath>()

  /** The name that came before this one; `null` where this is the first or the only one. */
  firstNameOf({ type, nlink, dev, ino, ctimeSeconds, ctimeNanoseconds, path }: Entry): BytePath | null {
    if (type !== 'socket' || nlink < 2) return null
    const key = `${dev}:${ino}:${ctimeSeconds}:${ctimeNanoseconds}`
    const first = this.#firstNames.get(key)
    if (first === undefined && this.#firstNames.size < socketsMax) this.#firstNames.set(key, path)
    return first ?? null
  }
}
