import { close, cName, FileStatus, readNames } from '../native/libc.ts'
import { reopenDirectory } from '../native/libc-write.ts'
import { type BytePath, bytesFromText, textFromBytes } from '../path.ts'

const status = new FileStatus()

/**
 * Whether what stands at a name stands there under another one, which the file system does not tell from it (vfat, exFAT,
 * folders with casefold): to replace it would lose something that nobody has named. Costs a look at other spellings of
 * the name, and a look at the folder only where there is one of them.
 */
export function standsUnderOtherName(folder: number, name: Buffer): boolean {
  const own = name.latin1Slice(0, name.indexOf(0)) as BytePath
  // Not compared by their numbers: some file systems have another one for each spelling.
  if (!spellingsOf(own).some((other) => status.ofName(folder, cName(other)) === 0)) return false
  const readable = reopenDirectory(folder)
  if (readable < 0) return false
  const names = readNames(readable)
  close(readable)
  return typeof names !== 'number' && !names.includes(own)
}

/** Other spellings of a name that mean the same where names are folded, in case and in how letters are composed. */
function spellingsOf(name: BytePath): BytePath[] {
  const text = textFromBytes(name)
  const upper = text.toUpperCase()
  const spellings = [upper === text ? text.toLowerCase() : upper]
  if (!/^[\x00-\x7f]*$/.test(text)) spellings.push(text.normalize('NFC'), text.normalize('NFD'))
  return [...new Set(spellings)].filter((other) => other !== text).map(bytesFromText)
}
