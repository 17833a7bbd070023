import type { Entry } from '../entry.ts'
import { close, cName, errno } from '../native/libc.ts'
import { openPathAt, reopenFile } from '../native/libc-write.ts'
import type { BytePath } from '../path.ts'
import { restoreFile } from './files.ts'
import { mayBeSealed, unsealOpen } from './inode-flags.ts'
import { type Begun, beginLink, place, type Spot } from './placement.ts'
import { Remembered } from './remembered.ts'
import { SocketNames } from './socket-names.ts'
import { restoreSpecial } from './specials.ts'
import { type Standing, standingAt, standingOf } from './standing.ts'
import type { RestoreWork } from './work.ts'

/** The file system has no further names, or no more of them, or what it was a name of has gone. */
const noLinkToBeHad = new Set(
  [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV, errno.ENOENT].map(
    (number) => -number,
  ),
)

/**
 * Restores further names as links to the first one, where that stands in the target as it was backed up. Where it does
 * not (it was not selected, is damaged, or something else was kept there), the first of the further names gets the
 * content, and the others become links to that.
 */
export async function restoreHardLinks(work: RestoreWork): Promise<void> {
  work.begin('links')
  const links = new HardLinks(work)
  const sockets = new SocketNames()
  for (const entry of work.source.entries('path', ['hardlink', 'socket'])) {
    await work.turn()
    if (entry.type === 'hardlink') await links.restore(entry.path, work.source.entryAt(entry.target!))
    else {
      const first = sockets.firstNameOf(entry)
      if (first === null) continue
      // All names of a socket have its attributes, and not every source can be asked for what is no hard link.
      await links.restore(entry.path, { ...entry, path: first })
    }
    work.advance(entry.path, 1, 0)
  }
}

class HardLinks {
  readonly #work: RestoreWork
  /**
   * First names as they were backed up, and the names that stand for them in the target. Of those that are not
   * remembered, the names of one object may become several objects of the same content.
   */
  readonly #copies = new Remembered<BytePath>()

  constructor(work: RestoreWork) {
    this.#work = work
  }

  async restore(path: BytePath, first: Entry | null): Promise<void> {
    if (first === null || first.type === 'hardlink' || first.type === 'directory') {
      this.#work.record.problem(
        'damaged',
        path,
        'it is a further name of something that is not in the backup',
      )
      return
    }
    const entry: Entry = { ...first, path }
    const fd = this.#openFirst(first, this.#copies.get(first.path) ?? first.path)
    try {
      if (fd >= 0 && this.#link(entry, fd)) return
    } finally {
      if (fd >= 0) close(fd)
    }
    const restored =
      entry.type === 'file' ? await restoreFile(this.#work, entry) : restoreSpecial(this.#work, entry)
    if (restored) this.#copies.set(first.path, path)
  }

  /** A descriptor of what stands at `path`, if that is what was backed up; a negative number if not. */
  #openFirst(first: Entry, path: BytePath): number {
    const slash = path.lastIndexOf('/')
    const folder = this.#work.tree.folder(path.slice(0, Math.max(0, slash)) as BytePath, false)
    if (folder < 0) return folder
    const name = cName(path.slice(slash + 1) as BytePath)
    const named = standingAt(folder, name, first.type)
    if (named === null || typeof named === 'number') return -errno.ENOENT
    if (!this.#isFirst({ ...first, path }, { folder, name }, named)) return -errno.ENOENT
    const fd = openPathAt(folder, name)
    if (fd < 0) return fd
    // The descriptor decides what is linked, so it is what is looked at again: the name may lead elsewhere by now.
    const opened = standingOf(fd)
    if (typeof opened !== 'number' && isSame(opened, named)) return fd
    close(fd)
    return -errno.ENOENT
  }

  /** As root, what belongs to another user than it did may be something planted: it gets no further names. */
  #isFirst(first: Entry, spot: Spot, standing: Standing): boolean {
    const { self, owners } = this.#work.rules
    return this.#work.isMade(first, spot, standing) && (self !== 0 || standing.uid === owners.uidOf(first))
  }

  /** False where no link is to be had; nothing was reported then. */
  #link(entry: Entry, fd: number): boolean {
    const work = this.#work
    const spot = work.spot(entry)
    if (spot === null) return true
    const opened = standingOf(fd)
    const standing = standingAt(spot.folder, spot.name, entry.type)
    if (typeof opened === 'number' || typeof standing === 'number') return false
    let action = work.decide(entry, spot, standing)
    if (standing !== null && isSame(opened, standing)) action = 'equal'
    // An object of its own that is like the first one is none of its names.
    else if (action === 'equal' && work.rules.overwrite === 'always') action = 'replace'
    if (action === 'equal') {
      work.record.report.equal++
      return true
    }
    if (action === 'keep') {
      work.kept(entry, standing)
      return true
    }
    const begun = this.#beginLink(spot, fd, opened)
    if (typeof begun === 'number') {
      if (noLinkToBeHad.has(begun)) return false
      work.failed(entry.path, 'cannot make it a further name of what was backed up with it', begun)
      return true
    }
    const done = place(spot, begun, entry, action, (found) => work.decide(entry, spot, found))
    if (typeof done === 'number') work.failed(entry.path, 'cannot give it its name', done)
    else if (done === 'keep') work.kept(entry, null)
    else if (done === 'equal') work.record.report.equal++
    else work.record.report.restored.hardlinks++
    return true
  }

  /** What is sealed takes no further name: it is opened for that, and sealed again in the end as all files are. */
  #beginLink(spot: Spot, fd: number, opened: Standing): Begun | number {
    const begun = beginLink(spot, fd)
    if (typeof begun !== 'number' || !mayBeSealed(begun) || opened.type !== 'file') return begun
    const readable = reopenFile(fd)
    if (readable < 0) return begun
    try {
      return unsealOpen(readable) === null ? begun : beginLink(spot, fd)
    } finally {
      close(readable)
    }
  }
}

function isSame(a: Standing, b: Standing): boolean {
  return a.ino === b.ino && a.dev === b.dev
}
