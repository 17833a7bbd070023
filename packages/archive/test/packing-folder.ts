import { spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import {
  type BytePath,
  bufferFromBytePath,
  bytePathFromBuffer,
  bytesFromText,
  joinPath,
  type Root,
  textFromBytes,
} from '../src/index.ts'

/**
 * A folder with what is packed in tests. Names are text in which `\udc80` to `\udcff` are bytes that are not UTF-8;
 * folders above what is made are made, too. All of it is removed at the end of the block that holds it with `using`.
 */
export class PackingFolder implements Disposable {
  readonly path: string

  constructor(base = tmpdir()) {
    this.path = realpathSync(mkdtempSync(join(base, 'archive-packing-')))
  }

  /** For very many files: in memory, where the machine has a place for that. */
  static forMany(): PackingFolder {
    return new PackingFolder(existsSync('/dev/shm') ? '/dev/shm' : tmpdir())
  }

  /** The path of something in it as the packer names it. */
  pathOf(name = ''): BytePath {
    return bytesFromText(join(this.path, name).slice(1))
  }

  /** The same as an absolute path for Node. */
  at(name = ''): Buffer {
    return bufferFromBytePath(`/${this.pathOf(name)}` as BytePath)
  }

  root(name = '', recursive = true): Root {
    return { path: this.pathOf(name), recursive }
  }

  /** What `pathOf` has made of a name. */
  nameOf(path: BytePath): string {
    return textFromBytes(path.slice(this.pathOf().length + 1) as BytePath)
  }

  folder(name: string): void {
    mkdirSync(this.at(name), { recursive: true })
  }

  file(name: string, content: string | Uint8Array = ''): void {
    this.#folderOf(name)
    writeFileSync(this.at(name), content)
  }

  symlink(name: string, target: string): void {
    this.#folderOf(name)
    symlinkSync(bufferFromBytePath(bytesFromText(target)), this.at(name))
  }

  hardLink(name: string, first: string): void {
    this.#folderOf(name)
    linkSync(this.at(first), this.at(name))
  }

  fifo(name: string): void {
    this.#folderOf(name)
    runProgram('mkfifo', [join(this.path, name)])
  }

  [Symbol.dispose](): void {
    // Not Node's: this one knows trees whose paths are longer than the kernel takes.
    if (process.geteuid!() !== 0) runProgram('chmod', ['-R', 'u+rwX', this.path])
    runProgram('rm', ['-rf', '--one-file-system', this.path])
  }

  #folderOf(name: string): void {
    const above = dirname(name)
    if (above !== '.') this.folder(above)
  }
}

/** The deepest of a chain of folders. Each call is relative to the folder above, so its path may have any length. */
export class DeepFolder implements Disposable {
  #fd: number

  /** Makes the folders, one in the other, in `top`. */
  constructor(top: Buffer, names: readonly string[]) {
    this.#fd = openSync(top, constants.O_DIRECTORY)
    for (const name of names) {
      mkdirSync(this.at(name))
      const below = openSync(this.at(name), constants.O_DIRECTORY)
      closeSync(this.#fd)
      this.#fd = below
    }
  }

  /** A path of something in it that is short enough for Node, while this is not disposed of. */
  at(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** Paths of everything below a folder, listed in another way than the packer's. */
export function listTree(folder: BytePath): BytePath[] {
  const dirents = readdirSync(bufferFromBytePath(`/${folder}` as BytePath), {
    encoding: 'buffer',
    withFileTypes: true,
  })
  return dirents.flatMap((dirent) => {
    const path = joinPath(folder, bytePathFromBuffer(dirent.name))
    return dirent.isDirectory() ? [path, ...listTree(path)] : [path]
  })
}

export function runProgram(program: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args)
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(' ')}: ${stderr}`)
}

/** Nanoseconds since 1970, exactly. */
export function mtimeOf(path: Buffer): bigint {
  return lstatSync(path, { bigint: true }).mtimeNs
}

const nobody = 65_534

/** Does synchronous work without the rights of root, also where the tests have them. */
export function withoutRights<T>(work: () => T): T {
  if (process.geteuid!() !== 0) return work()
  process.setegid!(nobody)
  process.seteuid!(nobody)
  try {
    return work()
  } finally {
    process.seteuid!(0)
    process.setegid!(0)
  }
}
