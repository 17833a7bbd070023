import { close, cName, FileStatus, readNames } from '../native/libc.ts'
import { reopenDirectory } from '../native/libc-write.ts'
import { type BytePath, bytesFromText, textFromBytes } from '../path.ts'

/** Folders of which it is remembered what they tell apart. */
const foldersMax = 1000

/** In what a spelling of a name differs from it: the case of letters, or how they are composed. Bits. */
const byCase = 1
const byForm = 2

interface Spelling {
  name: BytePath
  by: number
}

/**
 * Knows whether what stands at a name stands there under another one, which the file system does not tell from it (vfat, exFAT,
 * folders with casefold): to replace it would lose something that nobody has named.
 *
 * Folders are listed for that, where there is something under another spelling of a name. In one that tells them apart
 * that is done once, and in others once for many names: who has n such names must not have n lists of n names read. So
 * one of these is for one restore, in which no other name takes the place of one that was listed.
 */
export class OtherNames {
  readonly #status = new FileStatus()
  /** By what folders were found to tell names apart. */
  readonly #toldApart = new Map<string, number>()
  #listed: { folder: string; names: readonly BytePath[] } = { folder: '', names: [] }

  /** Costs a look at other spellings of the name, and more only where there is something. */
  standsUnder(folder: number, name: Buffer): boolean {
    const own = name.latin1Slice(0, name.indexOf(0)) as BytePath
    // Not compared by their numbers: some file systems have another one for each spelling.
    const found = spellingsOf(own).filter((other) => this.#status.ofName(folder, cName(other.name)) === 0)
    if (found.length === 0) return false
    const key = this.#status.ofDescriptor(folder) < 0 ? '' : `${this.#status.dev}:${this.#status.ino}`
    const known = this.#toldApart.get(key) ?? 0
    if (found.every(({ by }) => (known & by) !== 0)) return false
    const names = this.#namesIn(folder, key, own)
    if (names === null) return false
    if (!isAmong(names, own)) return true
    const apart = found.reduce((all, other) => (isAmong(names, other.name) ? all | other.by : all), known)
    if (this.#toldApart.size === foldersMax) this.#toldApart.clear()
    if (apart !== 0 && key !== '') this.#toldApart.set(key, apart)
    return false
  }

  /** `null` where the folder cannot be listed. */
  #namesIn(folder: number, key: string, own: BytePath): readonly BytePath[] | null {
    if (key !== '' && this.#listed.folder === key && isAmong(this.#listed.names, own))
      return this.#listed.names
    const readable = reopenDirectory(folder)
    if (readable < 0) return null
    const names = readNames(readable)
    close(readable)
    if (typeof names === 'number') return null
    this.#listed = { folder: key, names }
    return names
  }
}

/** Whether `names`, which are sorted, have one. */
function isAmong(names: readonly BytePath[], name: BytePath): boolean {
  let [low, high] = [0, names.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (names[middle]! < name) low = middle + 1
    else high = middle
  }
  return names[low] === name
}

/** Other spellings of a name that mean the same where names are folded. */
function spellingsOf(name: BytePath): Spelling[] {
  const text = textFromBytes(name)
  const upper = text.toUpperCase()
  const spellings = [{ text: upper === text ? text.toLowerCase() : upper, by: byCase }]
  if (!/^[\x00-\x7f]*$/.test(text))
    spellings.push({ text: text.normalize('NFC'), by: byForm }, { text: text.normalize('NFD'), by: byForm })
  const others = spellings.filter((one, i) => {
    return one.text !== text && spellings.findIndex((other) => other.text === one.text) === i
  })
  return others.map((one) => ({ name: bytesFromText(one.text), by: one.by }))
}
