import type { Entry } from '../entry.ts'
import { OwnerNumbers } from '../native/owner-names.ts'
import type { BytePath } from '../path.ts'

/** An owner who has another number here than on the host that was backed up. */
export interface MappedOwner {
  kind: 'user' | 'group'
  name: BytePath
  from: number
  to: number
  /** Objects that were given to it. */
  count: number
}

/** How many different owners are listed; others are mapped as well. */
const mappedMax = 1000

/**
 * Numbers that owners have here: by name, and where no such name is known here, the number that was backed up. Root stays
 * root, whatever it is called.
 */
export class TargetOwners {
  readonly #numeric: boolean
  readonly #numbers: OwnerNumbers
  readonly #mapped = new Map<string, MappedOwner>()

  /** `numeric`: the numbers that were backed up are taken in any case. */
  constructor(numeric: boolean, numbers = new OwnerNumbers()) {
    this.#numeric = numeric
    this.#numbers = numbers
  }

  uidOf({ uid, user }: Pick<Entry, 'uid' | 'user'>): number {
    if (this.#numeric || uid === 0 || user === '') return uid
    return this.#numbers.user(user) ?? uid
  }

  gidOf({ gid, group }: Pick<Entry, 'gid' | 'group'>): number {
    if (this.#numeric || gid === 0 || group === '') return gid
    return this.#numbers.group(group) ?? gid
  }

  /** Notes that the owners of the entry were given an object. */
  note(entry: Entry): void {
    const uid = this.uidOf(entry)
    const gid = this.gidOf(entry)
    if (uid !== entry.uid) this.#count('user', entry.user, entry.uid, uid)
    if (gid !== entry.gid) this.#count('group', entry.group, entry.gid, gid)
  }

  /** Those that have other numbers here. */
  mapped(): MappedOwner[] {
    return [...this.#mapped.values()]
  }

  #count(kind: MappedOwner['kind'], name: BytePath, from: number, to: number): void {
    const key = `${kind} ${from} ${name}`
    const known = this.#mapped.get(key)
    if (known !== undefined) known.count++
    else if (this.#mapped.size < mappedMax) this.#mapped.set(key, { kind, name, from, to, count: 1 })
  }
}
