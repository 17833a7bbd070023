import type { Entry } from '../entry.ts'
import type { BytePath } from '../path.ts'
import { Remembered } from './remembered.ts'

/**
 * Which names are of one socket. Tar has no sockets, so that none of their names can be a link to another: each is an
 * entry of its own, and the number of the inode tells that they belong together. Names are asked for in path order. Of
 * sockets that are not remembered, each name becomes one of its own.
 */
export class SocketNames {
  readonly #firstNames = new Remembered<BytePath>()

  /** The name that came before this one; `null` where this is the first or the only one. */
  firstNameOf({ type, nlink, dev, ino, ctimeSeconds, ctimeNanoseconds, path }: Entry): BytePath | null {
    if (type !== 'socket' || nlink < 2) return null
    const key = `${dev}:${ino}:${ctimeSeconds}:${ctimeNanoseconds}`
    const first = this.#firstNames.get(key)
    if (first === undefined) this.#firstNames.set(key, path)
    return first ?? null
  }
}
