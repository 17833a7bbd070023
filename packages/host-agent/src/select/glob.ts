import { type Dirent, readdirSync } from 'node:fs'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  joinPath,
  shownBackslash,
  textFromBytes,
  whyTooSlow,
  withPlainCharacters,
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

/** Three wildcards in one component of a pattern, and what else leaves them quick. */
const waysMax = 2 ** 28

/** How often a pattern may have `**`: each one multiplies the time that the path of somebody's file may take. */
const anyDepthMax = 3

/** Beyond this, no file system has such paths, and to make regular expressions of a pattern takes seconds. */
const patternCharsMax = 4096
const groupsMax = 128

/**
 * Finds what matches `pattern`, a glob without braces that is not too slow (`whyTooSlowToFind`), below the folder `base`, whose
 * path has no links.
 */
export function findMatches(
  base: BytePath,
  pattern: string,
  onlyDirectories: boolean,
  observer: GlobObserver,
): GlobMatch[] {
  const options = {
    cwd: shownText(`/${textFromBytes(base)}`),
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
    return { path: joinPath(base, bytesFromText(trueText(path))), isDirectory: dirent.isDirectory() }
  })
}

/** What makes `pattern` one that could take too long, for a person, or `null`. */
export function whyTooSlowToFind(pattern: string): string | null {
  if (pattern.length > patternCharsMax) return `it has more than ${patternCharsMax} characters`
  if (pattern.split('(').length > groupsMax) return `it has more than ${groupsMax} groups in parentheses`
  const components = pattern.split('/')
  const deep = components.filter((component) => component.includes('**')).length
  if (deep > anyDepthMax) return `** stands in it ${deep} times, and may do so ${anyDepthMax} times`
  return components.map((component) => whyTooSlow(component, waysMax)).find((why) => why !== null) ?? null
}

/**
 * The file system as fast-glob sees it, with three differences: names that are not UTF-8 come as the text of
 * `textFromBytes` and are not lost; a folder that cannot be read is told and not dropped; and no folder is read but the
 * base and those that were listed as folders, whatever way a pattern finds to name others.
 */
function globFileSystem(base: BytePath, observer: GlobObserver): Partial<FileSystemAdapter> {
  const folders = new Set([base])
  const readdir = (path: string): ShownDirent[] => {
    const folder = bytesFromText(trueText(path)).replace(/^\/+/, '') as BytePath
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
    name: shownText(textFromBytes(bytePathFromBuffer(entry.name))),
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
 * The pattern without what fast-glob would misunderstand: a `!` at its beginning, as if it told what not to match; in the first
 * component a `?`, as if that were the name of a folder; and what micromatch does (`withPlainCharacters`), braces among it, of
 * which all that stood for something have been expanded.
 */
function plainGlob(pattern: string): string {
  const [first] = pattern.split('/', 1)
  const rest = pattern.slice(first!.length)
  const shown = first!.replace(/\\.|\[[^\]]*\]|\?(?!\()/gs, (one) => (one === '?' ? anyCharacter : one))
  const positive = /^!(?!\()/.test(shown) ? `\\${shown}` : shown
  return withPlainCharacters(`${positive}${rest}`).replace(/\\.|[{}]/gs, (one) =>
    one.startsWith('\\') ? one : `\\${one}`,
  )
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

/** The text of a name or path as fast-glob sees it. */
function shownText(text: string): string {
  return lineSafe(text).replaceAll('\\', shownBackslash)
}

/** What `shownText` was made of. */
function trueText(shown: string): string {
  return shown
    .replace(/[\udc0a\udc0d\udc5c]/g, (one) => String.fromCharCode(one.charCodeAt(0) & 0xff))
    .replace(/[\udc28\udc29]/g, (one) => String.fromCharCode(0x2000 + (one.charCodeAt(0) & 0xff)))
}
