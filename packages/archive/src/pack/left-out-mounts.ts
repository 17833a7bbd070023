import { isInMemory, type Mount } from '../native/mounts.ts'
import { type BytePath, quotePath } from '../path.ts'
import type { LeftOutReason } from './left-out.ts'
import type { PackWarning } from './sinks.ts'

/** Mounts that the warning names; the others are counted. */
const namedMax = 10

/**
 * The mounts that a run left out and that may hold data: told once, in the end, as nobody may have thought of them. Not
 * those that hold none, nor those in memory.
 */
export class LeftOutMounts {
  readonly #named: string[] = []
  #first: BytePath | null = null
  #count = 0

  add(path: BytePath, reason: LeftOutReason, mount: Mount | null): void {
    const holdsData = reason === 'mount-point' || reason === 'snapshot' || mount?.type === 'autofs'
    if (!holdsData || (mount !== null && isInMemory(mount))) return
    this.#first ??= path
    this.#count++
    if (this.#named.length === namedMax) return
    const type = reason === 'snapshot' ? 'a snapshot' : (mount?.type ?? 'another file system')
    this.#named.push(`${quotePath(path)} (${type})`)
  }

  /** `null` where there is nothing to tell. */
  warning(): PackWarning | null {
    if (this.#first === null) return null
    const more = this.#count > namedMax ? ` and ${this.#count - namedMax} more` : ''
    const message = `other file systems are left out: ${this.#named.join(', ')}${more}; name in paths what is to be packed, exclude what is not`
    return { code: 'mounts-left-out', path: this.#first, message }
  }
}
