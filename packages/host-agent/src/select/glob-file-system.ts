import { type Dirent, lstatSync, readdirSync, type Stats, statSync } from 'node:fs'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  textFromBytes,
} from '@central-backup/archive'
import type { FileSystemAdapter } from 'fast-glob'

/**
 * The file system as fast-glob sees it, with two differences: names that are not UTF-8 come as the text of
 * `textFromBytes` and are not lost, and a folder that cannot be read is told to `onUnreadable` instead of dropped.
 */
export function globFileSystem(
  onUnreadable: (path: BytePath, message: string) => void,
  approach: (path: BytePath) => void,
): Partial<FileSystemAdapter> {
  const bytes = (path: string): Buffer => {
    const converted = bytesFromText(path)
    approach(converted)
    return bufferFromBytePath(converted)
  }
  const readdir = (path: string): Dirent[] => {
    try {
      return readdirSync(bytes(path), { encoding: 'buffer', withFileTypes: true }).map(
        textDirent,
      ) as unknown as Dirent[]
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ENOTDIR') onUnreadable(bytesFromText(path), message)
      return []
    }
  }
  return {
    lstatSync: ((path: string): Stats => lstatSync(bytes(path))) as FileSystemAdapter['lstatSync'],
    statSync: ((path: string): Stats => statSync(bytes(path))) as FileSystemAdapter['statSync'],
    readdirSync: readdir as unknown as FileSystemAdapter['readdirSync'],
  }
}

function textDirent(
  entry: Dirent<Buffer>,
): Pick<
  Dirent,
  | 'name'
  | 'isFile'
  | 'isDirectory'
  | 'isSymbolicLink'
  | 'isFIFO'
  | 'isSocket'
  | 'isBlockDevice'
  | 'isCharacterDevice'
> {
  return {
    name: textFromBytes(bytePathFromBuffer(entry.name)),
    isFile: () => entry.isFile(),
    isDirectory: () => entry.isDirectory(),
    isSymbolicLink: () => entry.isSymbolicLink(),
    isFIFO: () => entry.isFIFO(),
    isSocket: () => entry.isSocket(),
    isBlockDevice: () => entry.isBlockDevice(),
    isCharacterDevice: () => entry.isCharacterDevice(),
  }
}
