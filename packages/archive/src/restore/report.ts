import { describeErrno, errno } from '../native/libc.ts'
import type { BytePath } from '../path.ts'
import type { Attribute } from './attributes.ts'
import type { MappedOwner } from './target-owners.ts'

/** How many of the things that went wrong are listed; all are counted, and told one by one. */
export const problemsListedMax = 1000

/** How many paths are named for each kind of attribute that could not be set. */
export const examplesMax = 5

/**
 * `damaged`: the archives do not give what was backed up. `failed`: it could not be written to the target. `kept`:
 * something else stands there and stayed.
 */
export type ProblemKind = 'damaged' | 'failed' | 'kept'

export interface RestoreProblem {
  kind: ProblemKind
  path: BytePath
  /** Why, for people. */
  message: string
}

/** All that happened of one kind, and the first of it. */
export interface Listed<T> {
  count: number
  listed: T[]
}

/** What could not be set while all else came back. `special`: devices and the like that could not be made at all. */
export type Unset = Attribute | 'special'

export interface RestoreReport {
  /** Objects that were made, replaced or, for directories, given their attributes. */
  restored: { files: number; directories: number; symlinks: number; hardlinks: number; specials: number }
  /** Content that was written. */
  contentBytes: number
  /** Objects that were there already as they should be. */
  equal: number
  damaged: Listed<{ path: BytePath; message: string }>
  failed: Listed<{ path: BytePath; message: string }>
  kept: Listed<{ path: BytePath; message: string }>
  /** By kind; without those that did not happen. */
  notSet: Partial<Record<Unset, { count: number; reason: string; examples: BytePath[] }>>
  /** Users and groups who have other numbers here; up to some, the objects of each counted. */
  mapped: MappedOwner[]
}

/** What is told while a restore goes on. */
export interface RestoreObserver {
  onProgress?(progress: RestoreProgress): void
  onProblem?(problem: RestoreProblem): void
}

export type RestorePhase = 'folders' | 'files' | 'links' | 'attributes' | 'sync'

export interface RestoreProgress {
  phase: RestorePhase
  /** Entries that were dealt with; each folder counts when it is finished. */
  entries: number
  /** Content of the files that were dealt with, skipped ones included. */
  contentBytes: number
  path: BytePath
}

/** Adds up what happens in a restore. */
export class RestoreRecord {
  readonly report: RestoreReport = {
    restored: { files: 0, directories: 0, symlinks: 0, hardlinks: 0, specials: 0 },
    contentBytes: 0,
    equal: 0,
    damaged: { count: 0, listed: [] },
    failed: { count: 0, listed: [] },
    kept: { count: 0, listed: [] },
    notSet: {},
    mapped: [],
  }
  readonly #observer: RestoreObserver

  constructor(observer: RestoreObserver) {
    this.#observer = observer
  }

  problem(kind: ProblemKind, path: BytePath, message: string): void {
    const list = this.report[kind]
    list.count++
    if (list.listed.length < problemsListedMax) list.listed.push({ path, message })
    this.#observer.onProblem?.({ kind, path, message })
  }

  unset(kind: Unset, path: BytePath, negativeErrno: number): void {
    const { notSet } = this.report
    const noted = notSet[kind] ?? { count: 0, reason: describeErrno(negativeErrno), examples: [] }
    notSet[kind] = noted
    noted.count++
    if (noted.examples.length < examplesMax) noted.examples.push(path)
  }
}

/** What a person needs to know where a folder cannot be entered or a name cannot be made. */
export function describeFailure(doing: string, negativeErrno: number): string {
  if (negativeErrno === -errno.ENOTDIR || negativeErrno === -errno.ELOOP) {
    return `${doing}: one of its folders is a link or a file in the target, and links are not followed`
  }
  return `${doing}: ${describeErrno(negativeErrno)}`
}
