import { constants } from 'node:fs'
import {
  AT_FDCWD,
  close,
  cName,
  describeErrno,
  errno,
  FileStatus,
  openDirectoryAt,
  readNames,
} from '../native/libc.ts'
import { type BytePath, isSafePath, joinPath, pathBytesMax, quotePath } from '../path.ts'
import type { Exclusion } from './exclusion.ts'

/** Where a walk begins. Paths have no links in their parents: whoever selects them has resolved those. */
export interface Root {
  path: BytePath
  /** False for a link that leads to another root: only the link itself is taken, whatever stands there by then. */
  recursive: boolean
}

/** An object that the walk has found. Valid during the call of `visit` only: buffers and `status` are reused. */
export interface Found {
  path: BytePath
  /** Descriptor of the folder it lies in, and its name there, for calls relative to it. */
  directory: number
  name: Buffer
  status: FileStatus
  /** It was not selected itself, but something below it was. */
  ancestor: boolean
  /**
   * A folder that is not gone into, as another file system begins there: no more may be asked of it than `status` tells,
   * since that one may hang.
   */
  sealed: boolean
}

/** What happened to a path that could not be packed as it should. */
export type WalkProblem = 'vanished' | 'unreadable' | 'excluded'

export interface Visitor {
  /** Called before anything is done with a path that may block. Throws to end the walk. */
  approach(path: BytePath): void
  visit(found: Found): void
  /** `message` says what failed and why; `''` for `excluded`. */
  problem(kind: WalkProblem, path: BytePath, message: string): void
}

/** A component of a root's path, and those below it. */
interface Branch {
  root: Root | null
  children: Map<BytePath, Branch>
}

/** A folder that is being walked. */
interface Level {
  path: BytePath
  /** -1 while it is closed because the tree is too deep to keep all open. */
  fd: number
  dev: number
  ino: number | bigint
  names: readonly BytePath[]
  next: number
  /** Roots at and below this folder, if any. */
  branch: Branch | null
  /** All its names are selected, not only those that lead to a root. */
  selected: boolean
}

/** Folders kept open at once: deeper trees have their upper folders closed and opened again on the way back. */
const openLevelsMax = 128

const root = '' as BytePath

/**
 * Walks the roots depth-first, names in byte order, so that paths come in the order of `comparePaths`, each once,
 * however the roots overlap. A root is taken even where an exclude pattern matches it; what leads to it comes as
 * `ancestor`. Everything is opened relative to its folder and never through a link, so that what is renamed or
 * replaced during the walk cannot lead it elsewhere, and so that paths may be longer than the kernel takes.
 */
export function walk(roots: readonly Root[], exclusion: Exclusion, visitor: Visitor): void {
  const tree = new TreeWalk(exclusion, visitor)
  try {
    tree.run(branchesOf(roots))
  } finally {
    tree.close()
  }
}

function branchesOf(roots: readonly Root[]): Branch {
  const top: Branch = { root: null, children: new Map() }
  for (const one of roots) {
    if (one.path !== '' && !isSafePath(one.path))
      throw new TypeError(`${quotePath(one.path)} is no path of a root`)
    let branch = top
    for (const name of one.path === '' ? [] : (one.path.split('/') as BytePath[])) {
      const below = branch.children.get(name) ?? { root: null, children: new Map() }
      branch.children.set(name, below)
      branch = below
    }
    if (branch.root === null || one.recursive) branch.root = one
  }
  return top
}

class TreeWalk {
  readonly #exclusion: Exclusion
  readonly #visitor: Visitor
  readonly #levels: Level[] = []
  readonly #name = Buffer.alloc(256)
  readonly #status = new FileStatus()
  readonly #found: Found

  constructor(exclusion: Exclusion, visitor: Visitor) {
    this.#exclusion = exclusion
    this.#visitor = visitor
    this.#found = {
      path: root,
      directory: -1,
      name: this.#name,
      status: this.#status,
      ancestor: false,
      sealed: false,
    }
  }

  run(top: Branch): void {
    const fd = openDirectoryAt(AT_FDCWD, cName('/' as BytePath))
    if (fd < 0) throw new Error(`cannot open /: ${describeErrno(fd)}`)
    this.#status.ofDescriptor(fd)
    this.#push(root, fd, top, top.root?.recursive === true)
    for (let level = this.#levels.at(-1); level !== undefined; level = this.#levels.at(-1)) {
      const name = level.names[level.next++]
      if (name === undefined) this.#pop()
      else this.#step(level, name)
    }
  }

  close(): void {
    for (const level of this.#levels) if (level.fd >= 0) close(level.fd)
    this.#levels.length = 0
  }

  /** One name of a folder: tells of it, and goes into it where it is a folder. */
  #step(level: Level, name: BytePath): void {
    const path = joinPath(level.path, name)
    const branch = level.branch?.children.get(name) ?? null
    this.#visitor.approach(path)
    if (path.length > pathBytesMax) {
      this.#visitor.problem(
        'unreadable',
        path.slice(0, 200) as BytePath,
        `a path of more than ${pathBytesMax} bytes`,
      )
      return
    }
    const named = branch?.root != null
    const excludedByName = level.selected && !named && this.#exclusion.excludes(path, name, false)
    if (excludedByName) this.#visitor.problem('excluded', path, '')
    // Not even looked at: what is excluded may be a mount that hangs.
    if (excludedByName && branch === null) return
    const cname = cName(name, this.#name)
    const failure = this.#status.ofName(level.fd, cname)
    if (failure < 0) {
      this.#failed(path, 'cannot look at it', failure)
      return
    }
    const isDirectory = (this.#status.mode & constants.S_IFMT) === constants.S_IFDIR
    const excluded =
      excludedByName ||
      (level.selected && !named && isDirectory && this.#exclusion.excludes(path, name, true))
    if (excluded && !excludedByName) this.#visitor.problem('excluded', path, '')
    const selected = named || (level.selected && !excluded)
    if (selected || branch !== null) this.#take(level, path, cname, branch, selected, isDirectory)
  }

  #take(
    level: Level,
    path: BytePath,
    cname: Buffer,
    branch: Branch | null,
    selected: boolean,
    isDirectory: boolean,
  ): void {
    if (!isDirectory && branch !== null && branch.children.size > 0) {
      const message = 'it was a folder when the paths were selected, and is none any more'
      this.#visitor.problem('vanished', path, message)
    }
    if (!selected && !isDirectory) return
    this.#found.path = path
    this.#found.directory = level.fd
    this.#found.name = cname
    this.#found.ancestor = !selected
    const { dev, ino } = this.#status
    this.#visitor.visit(this.#found)
    const linkOnly = branch?.root?.recursive === false && !level.selected
    if (!isDirectory || (linkOnly && branch.children.size === 0)) return
    this.#enter(level, path, cname, dev, ino, branch, selected && !linkOnly)
  }

  #enter(
    level: Level,
    path: BytePath,
    cname: Buffer,
    dev: number,
    ino: number | bigint,
    branch: Branch | null,
    selected: boolean,
  ): void {
    const fd = openDirectoryAt(level.fd, cname)
    if (fd < 0) {
      this.#failed(path, 'cannot open the folder', fd)
      return
    }
    const failure = this.#status.ofDescriptor(fd)
    if (failure < 0 || this.#status.ino !== ino || this.#status.dev !== dev) {
      close(fd)
      this.#visitor.problem('vanished', path, 'the folder was replaced by another while it was opened')
      return
    }
    this.#push(path, fd, branch, selected)
  }

  /** `#status` is that of `fd`. */
  #push(path: BytePath, fd: number, branch: Branch | null, selected: boolean): void {
    const { dev, ino } = this.#status
    let names: BytePath[] | number = branch === null ? [] : [...branch.children.keys()].sort()
    if (selected) names = readNames(fd)
    if (typeof names === 'number') {
      close(fd)
      this.#failed(path, 'cannot list the folder', names)
      return
    }
    const level: Level = { path, fd, dev, ino, names, next: 0, branch, selected }
    if (selected && branch !== null) this.#reportMissing(level, branch)
    this.#levels.push(level)
    const tooDeep = this.#levels[this.#levels.length - 1 - openLevelsMax]
    if (tooDeep !== undefined && tooDeep.fd >= 0) {
      close(tooDeep.fd)
      tooDeep.fd = -1
    }
  }

  /** A path that was named and is not in the list of its folder would otherwise be passed over without a word. */
  #reportMissing(level: Level, branch: Branch): void {
    const present = new Set(level.names)
    for (const name of branch.children.keys()) {
      if (!present.has(name))
        this.#visitor.problem(
          'vanished',
          joinPath(level.path, name),
          'it was there when the paths were selected',
        )
    }
  }

  #pop(): void {
    const level = this.#levels.pop()!
    const parent = this.#levels.at(-1)
    if (parent !== undefined && parent.fd < 0) this.#reopen(parent, level.fd)
    close(level.fd)
  }

  /** Opens a folder again from the one below it, unless that was moved to another place meanwhile. */
  #reopen(parent: Level, child: number): void {
    const fd = openDirectoryAt(child, cName('..' as BytePath))
    if (
      fd >= 0 &&
      this.#status.ofDescriptor(fd) === 0 &&
      this.#status.ino === parent.ino &&
      this.#status.dev === parent.dev
    ) {
      parent.fd = fd
      return
    }
    if (fd >= 0) close(fd)
    const left = parent.names.length - parent.next
    this.#visitor.problem(
      'unreadable',
      parent.path,
      `folders were moved while they were read; ${left} names were left out`,
    )
    // Nothing more is looked up in it; the descriptor is a stand-in that #pop closes.
    parent.next = parent.names.length
    parent.fd = openDirectoryAt(child, cName('.' as BytePath))
  }

  #failed(path: BytePath, what: string, negativeErrno: number): void {
    // A folder that something else has taken the place of is gone, too.
    const gone = [-errno.ENOENT, -errno.ENOTDIR, -errno.ELOOP].includes(negativeErrno)
    const kind = gone ? 'vanished' : 'unreadable'
    this.#visitor.problem(kind, path, `${what}: ${describeErrno(negativeErrno)}`)
  }
}
