import { type Entry, textFromBytes } from '@central-backup/archive'
import { formatTime } from './format.ts'
import { printable } from './printable.ts'

const typeLetters: Readonly<Record<Entry['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  hardlink: '-',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
}

/** An entry as `ls -l` shows it. `path` is what is shown of its path. */
export function entryLine(entry: Entry, path: string): string {
  const owner = `${nameOr(entry.user, entry.uid)}/${nameOr(entry.group, entry.gid)}`
  const { device } = entry
  const size = device === null ? String(entry.size) : `${device.major},${device.minor}`
  const time = formatTime(entry.mtimeSeconds * 1000)
  return `${typeLetters[entry.type]}${modeLetters(entry.mode)} ${printable(owner).padEnd(15)} ${size.padStart(12)} ${time} ${printable(path + suffix(entry))}`
}

/** An entry as `--json` gives it. */
export function entryReport(entry: Entry): object {
  return {
    path: `/${textFromBytes(entry.path)}`,
    type: entry.type,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    user: textFromBytes(entry.user),
    group: textFromBytes(entry.group),
    size: entry.size,
    mtime: entry.mtimeSeconds + entry.mtimeNanoseconds / 1e9,
    target: entry.target === null ? null : textFromBytes(entry.target),
    device: entry.device,
    // That of a sparse file is of its map and data, and would be taken for that of the file.
    digest:
      entry.digest === null || entry.storedSize !== null ? null : Buffer.from(entry.digest).toString('hex'),
    storedSize: entry.storedSize,
    changedWhileRead: entry.changedWhileRead,
  }
}

function nameOr(name: Entry['user'], id: number): string {
  return name === '' ? String(id) : textFromBytes(name)
}

function suffix({ type, target }: Entry): string {
  if (type === 'symlink') return ` -> ${textFromBytes(target!)}`
  if (type === 'hardlink') return ` link to /${textFromBytes(target!)}`
  return type === 'directory' ? '/' : ''
}

function modeLetters(mode: number): string {
  const letters = [...'rwxrwxrwx'].map((letter, i) => ((mode >> (8 - i)) & 1 ? letter : '-'))
  const special = (bit: number, at: number, letter: string) => {
    if ((mode & bit) !== 0) letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase()
  }
  special(0o4000, 2, 's')
  special(0o2000, 5, 's')
  special(0o1000, 8, 't')
  return letters.join('')
}
