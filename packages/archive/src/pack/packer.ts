import { type ArchiveEnd, type Counts, type Entry, type EntryType, noCounts } from '../entry.ts'
import { close, openDirectoryAt, readNames } from '../native/libc.ts'
import type { Mount } from '../native/mounts.ts'
import { type BytePath, pathBytesMax } from '../path.ts'
import { endOfArchive } from '../tar-header.ts'
import { Baseline, isUnchanged, type NextBaselineEntry } from './baseline.ts'
import { EntryPacker, typeOf } from './entry-packer.ts'
import { PackingCancelled } from './file-content.ts'
import { HardLinks } from './hard-links.ts'
import type { LeftOutReason } from './left-out.ts'
import { LeftOutMounts } from './left-out-mounts.ts'
import type { Selection } from './rules.ts'
import { Selectivity } from './selectivity.ts'
import type { PackerSinks } from './sinks.ts'
import type { Found, Visitor, WalkProblem } from './visitor.ts'
import { walk } from './walk.ts'

/** What is told of a path that is too long. */
const pathBytesShown = 200

export interface PackOptions {
  listOnly?: boolean
  baseline?: NextBaselineEntry | null
}

export interface Packed {
  counts: Counts
  /** Anything but folders stood in the selection, changed or not. */
  hasFiles: boolean
}

/**
 * Walks a selection and turns it into tar stream and index, with synchronous calls: for a thread of its own.
 * What changes, vanishes or cannot be read is told to `warn` and counted, and never ends the run.
 * With `listOnly`, no content is read and the index alone is written. With a baseline, only what differs from it is.
 */
export function packSelection(selection: Selection, sinks: PackerSinks, options: PackOptions): Packed {
  const { listOnly = false, baseline = null } = options
  const packer = new Packer(selection, sinks, listOnly, baseline)
  walk(selection, packer)
  packer.finish()
  if (!listOnly) sinks.blocks.write(endOfArchive)
  sinks.blocks.flush()
  return { counts: packer.counts, hasFiles: packer.hasFiles }
}

/** False where that cannot be told. */
function isEmptyFolder({ directory, name }: Found): boolean {
  const fd = openDirectoryAt(directory, name)
  if (fd < 0) return false
  const names = readNames(fd)
  close(fd)
  return typeof names !== 'number' && names.length === 0
}

class Packer implements Visitor {
  readonly counts = noCounts()
  /** Anything but folders was visited. */
  hasFiles = false
  readonly #selectivity: Selectivity
  readonly #leftOutMounts = new LeftOutMounts()
  readonly #sinks: PackerSinks
  readonly #listOnly: boolean
  readonly #baseline: Baseline | null
  readonly #hardLinks = new HardLinks()
  readonly #entries: EntryPacker

  constructor(
    selection: Selection,
    sinks: PackerSinks,
    listOnly: boolean,
    baseline: NextBaselineEntry | null,
  ) {
    this.#selectivity = new Selectivity(selection)
    this.#sinks = sinks
    this.#listOnly = listOnly
    this.#entries = new EntryPacker(sinks, {
      counts: this.counts,
      hardLinks: this.#hardLinks,
      problems: {
        unreadable: (path, message) => this.problem('unreadable', path, message),
        vanished: (found, before, message) => this.#vanished(found, before, message),
      },
      listOnly,
    })
    this.#baseline =
      baseline === null ? null : new Baseline(baseline, (entry, left) => this.#recordGone(entry, left))
  }

  /** To be called when the walk has ended. */
  finish(): void {
    this.#baseline?.finish()
    const warning = this.#leftOutMounts.warning()
    if (warning !== null && !this.#listOnly) this.#sinks.warn(warning)
  }

  approach(path: BytePath): void {
    if (this.#sinks.state.isCancelled) throw new PackingCancelled()
    this.#sinks.state.approach(path)
  }

  problem(kind: WalkProblem, path: BytePath, message: string): void {
    this.counts[kind]++
    if (kind === 'unreadable') this.#baseline?.keep(path)
    // One that no archive can hold is no path for a message either.
    const shown = path.length > pathBytesMax ? (path.slice(0, pathBytesShown) as BytePath) : path
    this.#sinks.warn({ code: kind, path: shown, message })
  }

  leftOut(path: BytePath, reason: LeftOutReason, detail: () => string, mount: Mount | null): void {
    this.counts.excluded++
    // What patterns leave out, they tell of any path.
    if (reason !== 'excluded') this.#baseline?.leave(path)
    if (this.#listOnly) this.#sinks.warn({ code: reason, path, message: detail() })
    else this.#leftOutMounts.add(path, reason, mount)
  }

  visit(found: Found): void {
    this.#sinks.state.addEntry()
    const type = typeOf(found.status.mode)
    this.hasFiles ||= type !== null && type !== 'directory' && type !== 'socket'
    const before = this.#baseline?.at(found.path) ?? null
    if (before !== null && type === 'directory' && this.#isUnmounted(found, before)) return
    if (before !== null && type !== null && this.#stands(found, type, before)) this.counts.unchanged++
    else this.#entries.pack(found, before)
  }

  /**
   * Whether the file system that stood in a folder in the run before is missing: nobody has removed what was on it, so
   * it stands as it did, and the run is incomplete. Where a mount only changes what can be seen there, nothing is known
   * of what was there before.
   */
  #isUnmounted(found: Found, before: Entry): boolean {
    const { path, mountPoint } = found
    const wasMountPoint = before.mountPoint === true
    if (mountPoint === wasMountPoint || !this.#baseline!.hasBelow(path)) return false
    if (mountPoint || !isEmptyFolder(found)) {
      this.#baseline!.leave(path)
      return false
    }
    this.#baseline!.keep(path)
    const message =
      'its file system is not mounted, and what was on it stands as it did; if it is gone for good, exclude the path, take it out of paths, or run --full'
    this.counts.unreadable++
    this.#sinks.warn({ code: 'not-mounted', path, message })
    return true
  }

  /** Whether an object is what it was in the run before, hard links included. */
  #stands(found: Found, type: EntryType, before: Entry): boolean {
    if (before.ancestor !== found.ancestor || (before.mountPoint === true) !== found.mountPoint) return false
    const { status, path } = found
    // Neither is ever a hard link: folders have one name, and every name of a socket is an entry of its own.
    if (type === 'directory' || type === 'socket' || status.nlink < 2)
      return isUnchanged(before, type, status)
    const first = this.#hardLinks.firstNameOf(status)
    const same =
      first === null
        ? isUnchanged(before, type, status)
        : isUnchanged(before, 'hardlink', status) && before.target === first
    if (same) this.#hardLinks.meet(status, path)
    return same
  }

  /** What was listed is not there any more: the run has nothing of it, as if it had not been listed. */
  #vanished({ path }: Found, before: Entry | null, message: string): void {
    if (before !== null) this.#baseline!.drop(before)
    this.problem('vanished', path, message)
  }

  /** `left`: the innermost path that this run leaves out and that held it. */
  #recordGone(entry: Entry, left: BytePath | null): void {
    this.counts.gone++
    const reason = this.#selectivity.selects(entry, left) ? 'deleted' : 'unselected'
    this.#entries.writeGone({ path: entry.path, reason })
  }
}

/** The outcome of a packing. `missing` is the number of named paths that could not be packed at all. */
export function outcomeOf({ counts, hasFiles }: Packed, missing: number): ArchiveEnd['outcome'] {
  if (!hasFiles) return 'failed'
  if (counts.unreadable > 0 || missing > 0) return 'incomplete'
  return counts.changed > 0 || counts.vanished > 0 ? 'complete-with-changes' : 'complete'
}
