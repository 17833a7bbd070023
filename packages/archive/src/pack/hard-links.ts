import type { Entry } from '../entry.ts'
import { type BytePath, joinPath } from '../path.ts'

/** What tells one object from all others. */
type ObjectIdentity = Pick<Entry, 'dev' | 'ino' | 'ctimeSeconds' | 'ctimeNanoseconds' | 'nlink'>

/** The first name of an object that has several, and how many are still to come. */
interface FirstName {
  folder: BytePath
  name: BytePath
  left: number
}

/** Folders of which one string stands for all names in them. */
const sharedFoldersMax = 1024

/**
 * First names of objects that have several, held until all names have been seen. There may be as many as a user likes
 * to make, whose other names are elsewhere: of the path of each, no more than its name is held.
 */
export class HardLinks {
  readonly #firstNames = new Map<string, FirstName>()
  readonly #folders = new Map<string, BytePath>()

  /** The name under which the object has been met before; `null` where this one would be the first. */
  firstNameOf(object: ObjectIdentity): BytePath | null {
    const first = this.#firstNames.get(keyOf(object))
    return first === undefined ? null : joinPath(first.folder, first.name)
  }

  /** Notes that a name of the object has been met. */
  meet(object: ObjectIdentity, path: BytePath): void {
    const key = keyOf(object)
    const first = this.#firstNames.get(key)
    if (first !== undefined) {
      if (--first.left === 0) this.#firstNames.delete(key)
      return
    }
    const slash = path.lastIndexOf('/')
    const folder = this.#sharedFolder(path.slice(0, Math.max(0, slash)))
    this.#firstNames.set(key, { folder, name: copyOf(path.slice(slash + 1)), left: object.nlink - 1 })
  }

  /** The first name that was met is not in the archive, so that the next one is to be the first. */
  forget(object: ObjectIdentity): void {
    this.#firstNames.delete(keyOf(object))
  }

  #sharedFolder(path: string): BytePath {
    let folder = this.#folders.get(path)
    if (folder === undefined) {
      folder = copyOf(path)
      if (this.#folders.size === sharedFoldersMax) this.#folders.clear()
      this.#folders.set(folder, folder)
    }
    return folder
  }
}

/** A part of a string keeps the whole in memory. */
function copyOf(part: string): BytePath {
  return Buffer.from(part, 'latin1').latin1Slice() as BytePath
}

/** With the ctime, as the number of an inode may pass to a new file during the run. */
function keyOf({ dev, ino, ctimeSeconds, ctimeNanoseconds }: ObjectIdentity): string {
  return copyOf(`${dev}:${ino}:${ctimeSeconds}:${ctimeNanoseconds}`)
}
