import { type Dirent, readdirSync } from 'node:fs'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  joinPath,
  textFromBytes,
} from '@central-backup/archive'
import fastGlob, { type FileSystemAdapter } from 'fast-glob'

/** What a pattern matches. A link is none, whatever it points at. */
export interface GlobMatch {
  path: BytePath
  isDirectory: boolean
}

/** Who wants to know how the file system answers. Paths are without leading `/`. */
export interface GlobObserver {
  onUnreadable(path: BytePath, message: string): void
  /** Called before anything is done with a path that may block. */
  approach(path: BytePath): void
  /** Whether a folder is not to be read, as if it were empty. The base always is. */
  isClosed(path: BytePath): boolean
}

/**
 * Wildcards in one component of a pattern, and `**` in all of it: each one multiplies the time that the name of somebody's
 * file may take.
 */
const wildcardsMax = 3

/**
 * Finds what matches `pattern`, a glob without braces, below the folder `base`, whose path has no links. Throws a `TypeError`
 * for one that could take too long.
 */
export function findMatches(
  base: BytePath,
  pattern: string,
  onlyDirectories: boolean,
  observer: GlobObserver,
): GlobMatch[] {
  requireFewWildcards(pattern)
  const options = {
    cwd: lineSafe(`/${textFromBytes(base)}`),
    fs: globFileSystem(base, observer),
    dot: true,
    followSymbolicLinks: false,
    onlyFiles: false,
    onlyDirectories,
    braceExpansion: false,
    unique: true,
    objectMode: true,
  } as const
  return fastGlob.sync(lineSafe(plainGlob(pattern)), options).map(({ path, dirent }) => {
    return { path: joinPath(base, bytesFromText(lineTrue(path))), isDirectory: dirent.isDirectory() }
  })
}

function requireFewWildcards(pattern: string): void {
  const components = pattern.replace(/\\./gs, '').split('/')
  const deep = components.filter((component) => component.includes('**')).length
  const most = Math.max(deep, ...components.map((component) => component.match(/\*+/g)?.length ?? 0))
  if (most > wildcardsMax) {
    const limit = `at most ${wildcardsMax} in a name, and at most ${wildcardsMax} of **`
    throw new TypeError(`the path pattern '${pattern.slice(0, 200)}' has too many wildcards: ${limit}`)
  }
}

/**
 * The file system as fast-glob sees it, with three differences: names that are not UTF-8 come as the text of
 * `textFromBytes` and are not lost; a folder that cannot be read is told and not dropped; and no folder is read but the
 * base and those that were listed as folders, whatever way a pattern finds to name others.
 */
function globFileSystem(base: BytePath, observer: GlobObserver): Partial<FileSystemAdapter> {
  const folders = new Set([base])
  const readdir = (path: string): ShownDirent[] => {
    const folder = bytesFromText(lineTrue(path)).replace(/^\/+/, '') as BytePath
    // Each is listed once, so the set holds only those whose turn is to come.
    if (!folders.delete(folder)) return []
    if (folder !== base && observer.isClosed(folder)) return []
    observer.approach(folder)
    const dirents = readFolder(folder, observer)
    for (const dirent of dirents) {
      if (dirent.isDirectory()) folders.add(joinPath(folder, bytePathFromBuffer(dirent.name)))
    }
    return dirents.map(shownDirent)
  }
  const look = (path: string): never => {
    throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
  }
  return {
    lstatSync: look,
    statSync: look,
    readdirSync: readdir as unknown as FileSystemAdapter['readdirSync'],
  }
}

function readFolder(folder: BytePath, { onUnreadable }: GlobObserver): Dirent<Buffer>[] {
  try {
    return readdirSync(bufferFromBytePath(`/${folder}` as BytePath), {
      encoding: 'buffer',
      withFileTypes: true,
    })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR') onUnreadable(folder, message)
    return []
  }
}

type ShownDirent = Pick<
  Dirent,
  | 'name'
  | 'isFile'
  | 'isDirectory'
  | 'isSymbolicLink'
  | 'isFIFO'
  | 'isSocket'
  | 'isBlockDevice'
  | 'isCharacterDevice'
>

function shownDirent(entry: Dirent<Buffer>): ShownDirent {
  return {
    name: lineSafe(textFromBytes(bytePathFromBuffer(entry.name))),
    isFile: () => entry.isFile(),
    isDirectory: () => entry.isDirectory(),
    isSymbolicLink: () => entry.isSymbolicLink(),
    isFIFO: () => entry.isFIFO(),
    isSocket: () => entry.isSocket(),
    isBlockDevice: () => entry.isBlockDevice(),
    isCharacterDevice: () => entry.isCharacterDevice(),
  }
}

/** What `?` matches, from U+0001 to `.` and on from `0`. */
const anyCharacter = '[\u0001-.0-\uffff]'

/**
 * The pattern without what fast-glob would misunderstand: a `!` at its beginning, as if it told what not to match; quotes,
 * as if they were to be removed; and in the first component a `?`, as if that were the name of a folder.
 */
function plainGlob(pattern: string): string {
  const [first] = pattern.split('/', 1)
  const rest = pattern.slice(first!.length)
  const shown = first!.replace(/\\.|\[[^\]]*\]|\?(?!\()/gs, (one) => (one === '?' ? anyCharacter : one))
  const positive = /^!(?!\()/.test(shown) ? `\\${shown}` : shown
  return `${positive}${rest}`.replace(/\\.|"/gs, (one) => (one === '"' ? '\\"' : one))
}

/**
 * In the regular expressions of fast-glob, `**` does not match what ends a line, and names may have that. So such
 * characters are shown to it as lone surrogates, U+DC0A for U+000A, of a range that no name's text has.
 */
function lineSafe(text: string): string {
  return text.replace(/[\n\r\u2028\u2029]/g, (end) =>
    String.fromCharCode(0xdc00 + (end.charCodeAt(0) & 0xff)),
  )
}

function lineTrue(text: string): string {
  return text
    .replace(/[\udc0a\udc0d]/g, (shown) => String.fromCharCode(shown.charCodeAt(0) & 0xff))
    .replace(/[\udc28\udc29]/g, (shown) => String.fromCharCode(0x2000 + (shown.charCodeAt(0) & 0xff)))
}
