import type { Entry } from '../entry.ts'
import { ArchiveError } from '../errors.ts'
import { cName, describeErrno, errno } from '../native/libc.ts'
import type { OpenObject } from '../native/libc-write.ts'
import { type BytePath, isSafePath, quotePath } from '../path.ts'
import { isNotToBeHad, type NoteUnset, setAttributes } from './attributes.ts'
import { type Action, decide, hasContent, type Overwrite, type RestoreRules } from './decision.ts'
import { OtherNames } from './other-name.ts'
import type { Spot } from './placement.ts'
import { Remembered } from './remembered.ts'
import { describeFailure, type RestoreObserver, type RestorePhase, RestoreRecord } from './report.ts'
import type { RestoreSource } from './source.ts'
import { lookCloser, type Standing, standingOf } from './standing.ts'
import { TargetOwners } from './target-owners.ts'
import type { TargetTree } from './target-tree.ts'

export interface RestoreOptions {
  /** What becomes of what differs and is there already; `never` if not given. */
  overwrite?: Overwrite
  /** Owners have the numbers that were backed up, and not those that their names have here. */
  numericIds?: boolean
  observer?: RestoreObserver
  /**
   * A path below the target that everything is restored below: links on that way are not followed, and what is missing of
   * it is made. For a target that others than whoever named it may have put links into.
   */
  subfolder?: BytePath
  /** Aborted where the restore is to end: between two entries, or in the middle of a file, which is then not there. */
  signal?: AbortSignal
}

/** How long calls of a restore may follow each other before others of the program get a turn. */
const turnMs = 20

const progressIntervalMs = 100

const mendHint = 'Mend the target, and restore again: what is there already is not restored twice.'
const readOnlyHint =
  'The target is read-only, if only to this program: systemd keeps it so to the agent until backup-host-restore.conf is a ' +
  'drop-in of its unit.'

/** Failures after which no other entry could be written either. */
const fatal = new Set(
  [
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENODEV,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
  ].map((number) => -number),
)

/** What the parts of one restore share: where from, where to, by what rules, and what came of it. */
export class RestoreWork {
  readonly source: RestoreSource
  readonly tree: TargetTree
  readonly record: RestoreRecord
  readonly rules: RestoreRules
  readonly otherNames = new OtherNames()
  /** There are files that are to be sealed when all else is done. */
  hasSealed = false
  readonly #observer: RestoreObserver
  readonly #signal: AbortSignal | undefined
  /** What was made of entries, by path. */
  readonly #made = new Remembered<Pick<Standing, 'dev' | 'ino'>>()
  #phase: RestorePhase = 'folders'
  #entries = 0
  #contentBytes = 0
  #turnBeganMs = performance.now()
  #toldMs = Number.NEGATIVE_INFINITY

  constructor(source: RestoreSource, tree: TargetTree, options: RestoreOptions) {
    this.source = source
    this.tree = tree
    const owners = new TargetOwners(options.numericIds ?? false)
    this.rules = { overwrite: options.overwrite ?? 'never', self: process.geteuid!(), owners }
    this.#observer = options.observer ?? {}
    this.#signal = options.signal
    this.record = new RestoreRecord(this.#observer)
  }

  begin(phase: RestorePhase): void {
    this.#phase = phase
    this.#toldMs = Number.NEGATIVE_INFINITY
  }

  /** What is to be done for an entry where `standing` has the name of `spot`. */
  decide(entry: Entry, spot: Spot, standing: Standing | null): Action {
    const action = decide(entry, standing, this.rules, (found) => lookCloser(spot.folder, spot.name, found))
    if (action !== 'replace' || !this.otherNames.standsUnder(spot.folder, spot.name)) return action
    standing!.underOtherName = true
    return 'keep'
  }

  /** Where an entry belongs, its folders made where they are missing; `null` where that cannot be, which is reported. */
  spot(entry: Entry): Spot | null {
    if (!isSafePath(entry.path)) {
      this.record.problem('damaged', entry.path, 'its path is none that a backup can have')
      return null
    }
    const slash = entry.path.lastIndexOf('/')
    const folder = this.tree.folder(entry.path.slice(0, Math.max(0, slash)) as BytePath, true)
    if (folder >= 0) return { folder, name: cName(entry.path.slice(slash + 1) as BytePath) }
    this.failed(entry.path, 'cannot open its folder', folder)
    return null
  }

  /** Notes that an entry could not be written. Throws where nothing else could be written either. */
  failed(path: BytePath, doing: string, negativeErrno: number): void {
    if (fatal.has(negativeErrno)) {
      throw new ArchiveError(
        'restore-failed',
        `the restore ended at ${quotePath(path)}: ${doing}: ${describeErrno(negativeErrno)}`,
        { hint: negativeErrno === -errno.EROFS ? readOnlyHint : mendHint },
      )
    }
    this.record.problem('failed', path, describeFailure(doing, negativeErrno))
  }

  kept(entry: Entry, standing: Standing | null): void {
    const message =
      standing !== null && hasContent(entry, standing)
        ? `a ${standing.type} with the same content stands there, and its attributes differ`
        : describeKept(standing)
    this.record.problem('kept', entry.path, message)
  }

  /** Gives an open object the attributes of its entry, and notes what could not be set. */
  setAttributes(object: OpenObject, entry: Entry): void {
    setAttributes(object, entry, this.rules.owners, this.unsetOf(entry))
  }

  /**
   * To be called with what was made of an entry that is looked for again later: as it has other names, or is to be
   * sealed. Not all file systems have nanoseconds, all years, and all attributes, and what was made there is not what
   * it should have been.
   */
  noteMade({ path }: Entry, fd: number): void {
    const made = standingOf(fd)
    if (typeof made !== 'number') this.#made.set(path, { dev: made.dev, ino: made.ino })
  }

  /** Whether something is what was made of an entry, or is as the entry is. */
  isMade(entry: Entry, spot: Spot, standing: Standing): boolean {
    const made = this.#made.get(entry.path)
    if (made !== undefined && made.ino === standing.ino && made.dev === standing.dev) return true
    return this.decide(entry, spot, standing) === 'equal'
  }

  /** For what sets attributes. What the target or its user cannot have is no failure; that of a disk is one. */
  unsetOf(entry: Entry): NoteUnset {
    return (attribute, negativeErrno) => {
      if (isNotToBeHad(attribute, negativeErrno)) this.record.unset(attribute, entry.path, negativeErrno)
      else this.failed(entry.path, `cannot set its ${attribute}`, negativeErrno)
    }
  }

  /** One more entry is dealt with, or a piece of its content. */
  advance(path: BytePath, entries: number, contentBytes: number): void {
    this.#entries += entries
    this.#contentBytes += contentBytes
    const now = performance.now()
    if (now - this.#toldMs < progressIntervalMs) return
    this.#toldMs = now
    this.#observer.onProgress?.({
      phase: this.#phase,
      entries: this.#entries,
      contentBytes: this.#contentBytes,
      path,
    })
  }

  /** To be awaited between two entries: gives others of the program their turn. Throws where the restore is to end. */
  async turn(): Promise<void> {
    this.checkSignal()
    if (performance.now() - this.#turnBeganMs < turnMs) return
    await new Promise((resolve) => setImmediate(resolve))
    this.#turnBeganMs = performance.now()
    this.checkSignal()
  }

  checkSignal(): void {
    this.#signal?.throwIfAborted()
  }
}

function describeKept(standing: Standing | null): string {
  if (standing === null) return 'something else stands there, and changes all the time'
  const what = standing.type ?? 'thing of an unknown kind'
  if (standing.underOtherName)
    return `a ${what} of another name stands there, which the file system of the target does not tell from this one`
  return `a ${what} that differs stands there${standing.type === 'directory' ? ', and is not empty' : ''}`
}
