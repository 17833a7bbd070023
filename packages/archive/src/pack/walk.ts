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
import type { Mount } from '../native/mounts.ts'
import { type BytePath, joinPath, pathBytesMax } from '../path.ts'
import { Boundary, type Stop } from './boundary.ts'
import { noVerdict, type Verdict } from './exclusion.ts'
import { findMark } from './folder-marks.ts'
import type { LeftOutReason } from './left-out.ts'
import { type Level, OpenFolders } from './open-folders.ts'
import { type Branch, branchesOf } from './root-tree.ts'
import { RuleBook, type Rules, type Selection } from './rules.ts'
import type { Visitor } from './visitor.ts'

/** A name of a folder, and what is known of it. */
interface Place {
  level: Level
  path: BytePath
  name: BytePath
  cname: Buffer
  branch: Branch | null
  /** It is a root, so that no rule leaves it out. */
  named: boolean
  rules: Rules | null
  verdict: Verdict
  stop: Stop | null
  mountPoint: boolean
  isDirectory: boolean
}

const top = '' as BytePath

/**
 * Walks the roots depth-first, names in byte order, so that paths come in the order of `comparePaths`, each once,
 * however the roots overlap. Of overlapping roots, the rules of the innermost hold. A root is taken whatever the rules
 * say of it; what leads to it comes as `ancestor`. Everything is opened relative to its folder and never through a link,
 * so that what is renamed or replaced during the walk cannot lead it elsewhere, and so that paths may be longer than the
 * kernel takes.
 */
export function walk(selection: Selection, visitor: Visitor, boundary = new Boundary()): void {
  const tree = new TreeWalk(new RuleBook(selection), visitor, boundary)
  try {
    tree.run(branchesOf(selection.roots))
  } finally {
    tree.close()
  }
}

class TreeWalk {
  readonly #book: RuleBook
  readonly #visitor: Visitor
  readonly #boundary: Boundary
  readonly #folders: OpenFolders
  readonly #name = Buffer.alloc(256)
  readonly #status = new FileStatus()
  readonly #pendingStatus = new FileStatus()
  /** Levels that are `pending`: the last ones but those within them that are not. */
  #pending = 0

  constructor(book: RuleBook, visitor: Visitor, boundary: Boundary) {
    this.#book = book
    this.#visitor = visitor
    this.#boundary = boundary
    this.#folders = new OpenFolders(({ path }, namesLeft) => {
      const message = `folders were moved while they were read; ${namesLeft} names were left out`
      visitor.problem('unreadable', path, message)
    })
  }

  run(branch: Branch): void {
    const fd = openDirectoryAt(AT_FDCWD, cName('/' as BytePath))
    if (fd < 0) throw new Error(`cannot open /: ${describeErrno(fd)}`)
    this.#status.ofDescriptor(fd)
    const rules = branch.root?.recursive === true ? this.#book.of(branch.root) : null
    this.#push({ path: top, fd, branch, rules, verdict: noVerdict, named: true, pending: false })
    for (let level = this.#folders.last; level !== undefined; level = this.#folders.last) {
      const name = level.names[level.next++]
      if (name !== undefined) this.#step(level, name)
      else if (this.#folders.pop().pending) this.#pending--
    }
  }

  close(): void {
    this.#folders.close()
  }

  /** One name of a folder: tells of it, and goes into it where it is a folder. */
  #step(level: Level, name: BytePath): void {
    const path = joinPath(level.path, name)
    this.#visitor.approach(path)
    if (path.length > pathBytesMax) {
      const message = `a path of more than ${pathBytesMax} bytes`
      this.#visitor.problem('unreadable', path, message)
      return
    }
    const place = this.#placeOf(level, path, name)
    if (this.#isLeftOutByName(place)) return
    if (!this.#look(place)) return
    const { rules, branch, isDirectory } = place
    if (rules !== null && !place.named && isDirectory)
      place.verdict = rules.exclusion.judge(path, name, true, level.verdict)
    const selected = this.#isSelected(place)
    if (selected || branch !== null) this.#take(place, selected)
    else if (isDirectory && place.stop === null && this.#mayTakeBackBelow(place))
      this.#enter(place, rules, true)
  }

  #placeOf(level: Level, path: BytePath, name: BytePath): Place {
    const branch = level.branch?.children.get(name) ?? null
    const root = branch?.root ?? null
    const rules = root === null || !root.recursive ? level.rules : null
    const verdict = noVerdict
    const place: Place = {
      level,
      path,
      name,
      cname: cName(name, this.#name),
      branch,
      named: root !== null,
      rules: rules ?? (root === null ? null : this.#book.of(root)),
      verdict,
      stop: null,
      mountPoint: false,
      isDirectory: false,
    }
    if (root === null && rules !== null)
      place.verdict = rules.exclusion.judge(path, name, false, level.verdict)
    return place
  }

  /** Decides without a look where that can be done: what is left out may be a mount that hangs. */
  #isLeftOutByName(place: Place): boolean {
    const { level, path, name, rules, branch, named, verdict } = place
    if (rules === null || named || !rules.exclusion.leavesOut(verdict)) return false
    const { exclusion } = rules
    const asDirectory = exclusion.judge(path, name, true, level.verdict)
    if (!exclusion.leavesOut(asDirectory)) return false
    if (branch !== null || exclusion.mayTakeBackBelow(path, name, asDirectory)) return false
    this.#leaveOutByPattern(place)
    return true
  }

  /** Fills `#status`, and finds out whether another file system begins here. False where there is nothing to go on with. */
  #look(place: Place): boolean {
    const { level, path, name, cname, rules, named } = place
    const point = level.points?.get(name) ?? null
    if (point?.type === 'autofs' && (named || rules === null)) mountBy(level.fd, cname)
    const mayStop = rules !== null && !named
    if (mayStop && point !== null) place.stop = this.#boundary.stopAt(point, rules)
    const failure =
      place.stop === null ? this.#status.ofName(level.fd, cname) : this.#status.ofNameAsKnown(level.fd, cname)
    if (failure < 0) {
      if (place.stop !== null && place.branch === null) this.#tellStop(path, place.stop)
      else this.#failed(path, 'cannot look at it', failure)
      return false
    }
    const { mode, mountId, dev } = this.#status
    place.isDirectory = (mode & constants.S_IFMT) === constants.S_IFDIR
    if (mayStop && point === null) {
      const elsewhere = mountId !== level.mountId || (mountId === 0 && dev !== level.dev && place.isDirectory)
      if (elsewhere) place.stop = this.#boundary.stopAtUnexpected(level.fd, cname, this.#status, rules)
    }
    place.mountPoint = place.isDirectory && (point !== null || place.stop !== null)
    // A single file that is mounted on another is what people see there, and is packed.
    if (!place.isDirectory && place.stop?.reason === 'mount-point') place.stop = null
    return true
  }

  /** Whether the rules let an object be packed; tells of one that they do not. `#status` is of it. */
  #isSelected(place: Place): boolean {
    const { path, rules, named, verdict, stop, isDirectory } = place
    if (rules === null || named) return named
    if (rules.exclusion.leavesOut(verdict)) {
      this.#leaveOutByPattern(place)
      return false
    }
    if (stop !== null) {
      if (!isDirectory) this.#tellStop(path, stop)
      return isDirectory
    }
    const { mode, size, isNodump } = this.#status
    if (rules.excludeNodump && isNodump) {
      this.#tellLeftOut(path, 'nodump', () => 'it has the flag nodump (chattr +d)')
      return false
    }
    if (size > rules.maxFileBytes && (mode & constants.S_IFMT) === constants.S_IFREG) {
      const detail = `its ${size} bytes are more than ${rules.maxFileBytes}`
      this.#tellLeftOut(path, 'too-large', () => detail)
      return false
    }
    return true
  }

  /** Told where it begins: what is in a folder that is left out is not told again. */
  #leaveOutByPattern({ level, path, name, rules, verdict, isDirectory }: Place): void {
    const { exclusion } = rules!
    if (exclusion.leavesOut(level.verdict)) return
    const detail = () => `the pattern '${exclusion.patternFor(path, name, isDirectory, verdict)}'`
    this.#visitor.leftOut(path, 'excluded', detail, null)
  }

  #tellStop(path: BytePath, { reason, detail, mount }: Stop): void {
    this.#tellLeftOut(path, reason, () => detail, mount)
  }

  /** What would be packed by the patterns: the folders above it come, and are told before it. */
  #tellLeftOut(
    path: BytePath,
    reason: LeftOutReason,
    detail: () => string,
    mount: Mount | null = null,
  ): void {
    if (this.#pending > 0) this.#visitPending()
    this.#visitor.leftOut(path, reason, detail, mount)
  }

  #mayTakeBackBelow({ path, name, rules, verdict }: Place): boolean {
    if (rules === null) return false
    const { exclusion } = rules
    return exclusion.leavesOut(verdict) && exclusion.mayTakeBackBelow(path, name, verdict)
  }

  #take(place: Place, selected: boolean): void {
    const { level, path, cname, branch, rules, stop, isDirectory } = place
    if (!isDirectory && branch !== null && branch.children.size > 0) {
      const message = 'it was a folder when the paths were selected, and is none any more'
      this.#visitor.problem('vanished', path, message)
    }
    if (!selected && !isDirectory) return
    if (this.#pending > 0) this.#visitPending()
    this.#visitor.visit({
      path,
      directory: level.fd,
      name: cname,
      status: this.#status,
      ancestor: !selected,
      sealed: stop !== null,
      mountPoint: place.mountPoint,
    })
    if (!isDirectory) return
    if (stop !== null && selected) this.#tellStop(path, stop)
    const linkOnly = branch?.root?.recursive === false && level.rules === null
    const all = (selected && !linkOnly && stop === null) || (stop === null && this.#mayTakeBackBelow(place))
    if (all) this.#enter(place, rules, false)
    else if (branch !== null && branch.children.size > 0) this.#enter(place, null, false)
  }

  /** Visits the folders that were left out and hold what is to be visited now. All of them are open. */
  #visitPending(): void {
    for (const { level, above } of this.#folders.fromRoot()) {
      if (!level.pending) continue
      level.pending = false
      const name = level.path.slice(level.path.lastIndexOf('/') + 1) as BytePath
      const status = this.#pendingStatus
      const failure = status.ofDescriptor(level.fd)
      if (failure < 0) this.#failed(level.path, 'cannot look at it', failure)
      else {
        const found = { path: level.path, directory: above.fd, name: cName(name), status, ancestor: true }
        this.#visitor.visit({ ...found, sealed: false, mountPoint: false })
      }
    }
    this.#pending = 0
  }

  /** Opens a folder that `#status` is of. With `rules`, all its names are looked at, else those that lead to roots. */
  #enter(place: Place, rules: Rules | null, pending: boolean): void {
    const { level, path, cname, branch, verdict, named } = place
    const { dev, ino, mountId } = this.#status
    const fd = openDirectoryAt(level.fd, cname)
    if (fd < 0) {
      this.#failed(path, 'cannot open the folder', fd)
      return
    }
    const failure = this.#status.ofDescriptor(fd)
    const isSame = this.#status.ino === ino && this.#status.dev === dev
    // What is mounted when it is looked into, as shares below a share are.
    const isMounted = this.#status.mountId !== mountId
    if (failure < 0 || !(isSame || isMounted)) {
      close(fd)
      this.#visitor.problem('vanished', path, 'the folder was replaced by another while it was opened')
      return
    }
    const stop =
      rules === null || named ? null : this.#boundary.stopInside(fd, this.#status, level, isMounted, rules)
    if (stop !== null) this.#tellStop(path, stop)
    this.#push({ path, fd, branch, rules: stop === null ? rules : null, verdict, named, pending })
  }

  /** `#status` is that of `fd`. */
  #push(
    opened: Pick<Level, 'path' | 'fd' | 'branch' | 'rules' | 'verdict' | 'pending'> & { named: boolean },
  ): void {
    const { path, fd, branch, rules } = opened
    const { dev, ino, mountId } = this.#status
    let names: BytePath[] | number = branch === null ? [] : [...branch.children.keys()].sort()
    if (rules !== null) names = readNames(fd)
    if (typeof names === 'number') {
      close(fd)
      this.#failed(path, 'cannot list the folder', names)
      return
    }
    if (rules !== null && branch !== null) this.#reportMissing(path, names, branch)
    const mark = rules === null || opened.named ? null : findMark(fd, names, rules)
    if (mark !== null) names = names.filter((name) => name === mark.name || branch?.children.has(name))
    const points = this.#boundary.pointsIn(path, mountId)
    const { verdict, pending } = opened
    this.#folders.push({
      path,
      fd,
      dev,
      ino,
      mountId,
      names,
      next: 0,
      branch,
      rules,
      verdict,
      points,
      pending,
    })
    if (pending) this.#pending++
    if (mark !== null) this.#tellLeftOut(path, mark.reason, () => mark.detail)
    if (this.#folders.tooFarAbove === null) return
    if (this.#pending > 0) this.#visitPending()
    this.#folders.closeTooFarAbove()
  }

  /** A path that was named and is not in the list of its folder would otherwise be passed over without a word. */
  #reportMissing(folder: BytePath, names: readonly BytePath[], branch: Branch): void {
    const present = new Set(names)
    for (const name of branch.children.keys()) {
      if (!present.has(name))
        this.#visitor.problem('vanished', joinPath(folder, name), 'it was there when the paths were selected')
    }
  }

  #failed(path: BytePath, what: string, negativeErrno: number): void {
    // A folder that something else has taken the place of is gone, too.
    const gone = [-errno.ENOENT, -errno.ENOTDIR, -errno.ELOOP].includes(negativeErrno)
    const kind = gone ? 'vanished' : 'unreadable'
    // Paths are told in their order, with the folders that hold them first.
    if (kind === 'unreadable' && this.#pending > 0) this.#visitPending()
    this.#visitor.problem(kind, path, `${what}: ${describeErrno(negativeErrno)}`)
  }
}

/** Opens a folder on which a file system is mounted when it is looked into, so that it is. */
function mountBy(directory: number, name: Buffer): void {
  const fd = openDirectoryAt(directory, name)
  if (fd >= 0) close(fd)
}
