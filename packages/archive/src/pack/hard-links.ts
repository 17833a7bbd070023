import type { Entry } from '../entry.ts'
import type { BytePath } from '../path.ts'

/** What tells one object from all others. */
type ObjectIdentity = Pick<Entry, 'dev' | 'ino' | 'ctimeSeconds' | 'ctimeNanoseconds' | 'nlink'>

/** The first name of an object that has several, and how many are still to come. */
interface FirstName {
  path: BytePath
  left: number
}

/** First names of objects that have several, held until all names have been seen. */
export class HardLinks {
  readonly #firstNames = new Map<string, FirstName>()

  /** The name under which the object has been met before; `null` where this one would be the first. */
  firstNameOf(object: ObjectIdentity): BytePath | null {
    return this.#firstNames.get(keyOf(object))?.path ?? null
  }

  /** Notes that a name of the object has been met. */
  meet(object: ObjectIdentity, path: BytePath): void {
    const key = keyOf(object)
    const first = this.#firstNames.get(key)
    if (first === undefined) this.#firstNames.set(key, { path, left: object.nlink - 1 })
    else if (--first.left === 0) this.#firstNames.delete(key)
  }

  /** The first name that was met is not in the archive, so that the next one is to be the first. */
  forget(object: ObjectIdentity): void {
    this.#firstNames.delete(keyOf(object))
  }
}

/** With the ctime, as the number of an inode may pass to a new file during the run. */
function keyOf({ dev, ino, ctimeSeconds, ctimeNanoseconds }: ObjectIdentity): string {
  return `${dev}:${ino}:${ctimeSeconds}:${ctimeNanoseconds}`
}
