/** Random changes of a tree, as people and programs make them. */
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  constants,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import type { Random } from './random.ts'
import { at } from './snapshot.ts'

/** Names that sort, print or decode badly, and some that patterns of the tests exclude. */
const names = [
  ...['a', 'b', 'c', 'a.b', 'a-b', 'a\x01', 'caf\xc3\xa9', '\xff', 'new\nline', '-rf', ' ', '[x]*'],
  ...['skip', 'skip-too', 'x.tmp'],
]
const sizes = [0, 1, 10, 511, 512, 513, 4096, 70_000]
const large = 4 * 1024 * 1024 + 12_345
/** Larger files get no more holes. */
const holeBytesMax = 1024 * 1024
const fileModes = [0o644, 0o600, 0o755, 0o640, 0o444]
const rootModes = [0o000, 0o4755, 0o2711, 0o1666]
const folderModes = [0o755, 0o700, 0o2775, 0o1777]
const isRoot = process.geteuid!() === 0

/** This one stays: a tree without files is no backup. */
const anchor = 'anchor'

const kinds = [
  ...[
    'create',
    'create',
    'create',
    'folder',
    'folder',
    'write',
    'append',
    'truncate',
    'hole',
    'hole',
    'rewrite',
  ],
  ...['rename', 'rename', 'remove', 'link', 'link', 'symlink', 'fifo', 'mode', 'owner', 'times', 'retype'],
] as const

export class Mutator {
  readonly #root: string
  readonly #random: Random
  readonly #folders: string[] = []
  readonly #files: string[] = []
  /** All but folders. */
  readonly #objects: string[] = []
  /** What was done, for people. */
  readonly log: string[] = []

  constructor(root: string, random: Random) {
    this.#root = root
    this.#random = random
    writeFileSync(at(root, anchor), 'this stays')
  }

  /** Makes so many changes. Some come to nothing, as there is nothing to change. */
  change(count: number): void {
    for (let n = 0; n < count; n++) {
      this.#look()
      this[this.#random.of(kinds)]()
    }
  }

  create(): void {
    const path = this.#free()
    const size = this.#random.chance(0.04) ? large : this.#random.of(sizes)
    this.#note('create', path, size)
    writeFileSync(at(this.#root, path), this.#random.bytes(size))
  }

  folder(): void {
    const path = this.#free()
    this.#note('folder', path)
    mkdirSync(at(this.#root, path))
  }

  /** As an editor does that replaces the file. */
  write(): void {
    const path = this.#pick(this.#files)
    if (path === null) return
    const size = this.#random.of(sizes)
    this.#note('write', path, size)
    rmSync(at(this.#root, path))
    writeFileSync(at(this.#root, path), this.#random.bytes(size))
  }

  append(): void {
    const path = this.#pick(this.#files)
    if (path === null) return
    this.#note('append', path)
    appendFileSync(at(this.#root, path), this.#random.bytes(1 + this.#random.below(600)))
  }

  truncate(): void {
    const path = this.#pick(this.#files)
    if (path === null) return
    const size = this.#random.below(lstatSync(at(this.#root, path)).size + 100)
    this.#note('truncate', path, size)
    truncateSync(at(this.#root, path), size)
  }

  /** Makes the file longer by a hole, and puts some data in its middle: where it was sparse, it has more holes then. */
  hole(): void {
    const path = this.#pick(this.#files)
    if (path === null) return
    const file = at(this.#root, path)
    const { size } = lstatSync(file)
    if (size > holeBytesMax) return
    this.#note('hole', path)
    truncateSync(file, size + 100_000 + this.#random.below(100_000))
    const fd = openSync(file, constants.O_WRONLY)
    writeSync(fd, this.#random.bytes(5000), 0, 5000, size + 50_000)
    closeSync(fd)
  }

  /** Some bytes in place, the size and the time of the change as they were. */
  rewrite(): void {
    const path = this.#pick(this.#files)
    if (path === null) return
    const file = at(this.#root, path)
    const { size, atimeMs, mtimeMs } = lstatSync(file)
    if (size === 0) return
    this.#note('rewrite', path)
    const fd = openSync(file, constants.O_WRONLY)
    writeSync(fd, this.#random.bytes(1), 0, 1, this.#random.below(size))
    closeSync(fd)
    utimesSync(file, atimeMs / 1000, mtimeMs / 1000)
  }

  /** Also over something else, where the system allows that. */
  rename(): void {
    const path = this.#pick([...this.#objects, ...this.#folders])
    if (path === null) return
    const target = this.#random.chance(0.2) ? this.#pick(this.#objects) : this.#free()
    if (target === null || target === path || target.startsWith(`${path}/`)) return
    if (this.#folders.includes(path) && this.#objects.includes(target)) return
    this.#note('rename', path, target)
    renameSync(at(this.#root, path), at(this.#root, target))
  }

  remove(): void {
    const path = this.#pick([...this.#objects, ...this.#folders])
    if (path === null) return
    this.#note('remove', path)
    rmSync(at(this.#root, path), { recursive: true })
  }

  link(): void {
    const path = this.#pick(this.#objects)
    if (path === null) return
    const name = this.#free()
    this.#note('link', path, name)
    linkSync(at(this.#root, path), at(this.#root, name))
  }

  symlink(): void {
    const path = this.#free()
    this.#note('symlink', path)
    const targets = ['a', '../b', '/nowhere', '\xff', '.', 'x'.repeat(300)]
    symlinkSync(Buffer.from(this.#random.of(targets), 'latin1'), at(this.#root, path))
  }

  fifo(): void {
    const path = this.#free()
    // Its name goes through the text of a command line.
    if (/[^\x21-\x7e]/.test(path) || !this.#random.chance(0.5)) return
    this.#note('fifo', path)
    spawnSync('mkfifo', ['--', `${this.#root}/${path}`])
  }

  mode(): void {
    const isFolder = this.#random.chance(0.4)
    const path = this.#pick(isFolder ? this.#folders : this.#files)
    if (path === null) return
    const mode = this.#random.of(isFolder ? folderModes : isRoot ? [...fileModes, ...rootModes] : fileModes)
    this.#note('mode', path, mode.toString(8))
    chmodSync(at(this.#root, path), mode)
  }

  owner(): void {
    const path = this.#pick([...this.#objects, ...this.#folders])
    if (path === null || !isRoot) return
    const [uid, gid] = [this.#random.of([0, 1, 1000, 65_534]), this.#random.of([0, 2, 4_000_000])]
    this.#note('owner', path, `${uid}:${gid}`)
    lchownSync(at(this.#root, path), uid, gid)
  }

  times(): void {
    const path = this.#pick([...this.#objects, ...this.#folders])
    if (path === null) return
    const seconds = this.#random.of([0, -1.5, 1e9 + 0.123456, 4e9, 1_700_000_000.999999])
    this.#note('times', path, seconds)
    lutimesSync(at(this.#root, path), seconds, seconds)
  }

  /** The same name is something else now: folder, file or link. */
  retype(): void {
    const path = this.#pick([...this.#objects, ...this.#folders])
    if (path === null) return
    const wasFolder = this.#folders.includes(path)
    rmSync(at(this.#root, path), { recursive: true })
    const next = this.#random.of(wasFolder ? ['file', 'symlink'] : ['folder', 'file', 'symlink'])
    this.#note('retype', path, next)
    if (next === 'file') writeFileSync(at(this.#root, path), this.#random.bytes(this.#random.of(sizes)))
    else if (next === 'symlink') symlinkSync('a', at(this.#root, path))
    else {
      mkdirSync(at(this.#root, path))
      writeFileSync(at(this.#root, `${path}/${this.#random.of(names)}`), 'below')
      mkdirSync(at(this.#root, `${path}/deep`))
      writeFileSync(at(this.#root, `${path}/deep/${this.#random.of(names)}`), 'deep below')
    }
  }

  #pick(paths: readonly string[]): string | null {
    return paths.length === 0 ? null : this.#random.of(paths)
  }

  /** A path where nothing stands, in a folder that is there. */
  #free(): string {
    for (;;) {
      const folder = this.#random.of(['', ...this.#folders])
      const name = this.#random.of(names) + (this.#random.chance(0.3) ? this.#random.below(50) : '')
      const path = folder === '' ? name : `${folder}/${name}`
      if (!this.#isThere(path)) return path
    }
  }

  #isThere(path: string): boolean {
    return existsSync(at(this.#root, path)) || this.#objects.includes(path)
  }

  #look(): void {
    for (const list of [this.#folders, this.#files, this.#objects]) list.length = 0
    const visit = (folder: string) => {
      for (const name of readdirSync(at(this.#root, folder), 'latin1').sort()) {
        const path = folder === '' ? name : `${folder}/${name}`
        const stats = lstatSync(at(this.#root, path))
        if (path === anchor) continue
        if (stats.isDirectory()) {
          this.#folders.push(path)
          visit(path)
        } else this.#objects.push(path)
        if (stats.isFile()) this.#files.push(path)
      }
    }
    visit('')
  }

  #note(what: string, path: string, more: string | number = ''): void {
    this.log.push(`${what} ${JSON.stringify(path)} ${JSON.stringify(more)}`)
  }
}
