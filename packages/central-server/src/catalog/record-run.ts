import { ArchiveError, type Entry, type Extent, type Gone, quotePath } from '@central-backup/archive'
import type { Catalog } from './catalog.ts'
import { openReferences, type References, rememberedMax } from './references.ts'
import { endReasonNumber, sortKey, toEntry, toVersionValues } from './version-row.ts'

/** Rows that are removed in one transaction: some tens of milliseconds. */
const purgedRowsMax = 10_000

/** Rows that are ended by one statement. */
const endedRowsMax = 10_000

/** How long others wait while a batch is written. */
const turnMs = 20

export interface RecordOptions {
  generation?: number
  /** Gives the run of an archive that none has left. */
  missing?: (archive: string) => number | null
  base?: number | null
}

/**
 * Writes what stood in a run while its entries come in, each batch in a transaction of its own, so that nobody waits for
 * long. Nothing of it is visible before `Catalog.finishRun` says that the run ended well; where it does not, the rows
 * are to be removed by `purgeRun`.
 */
export class RunRecorder {
  readonly #catalog: Catalog
  readonly #run: number
  readonly #generation: number
  readonly #missing: (archive: string) => number | null
  readonly #base: number | null
  readonly #references: References
  readonly #owners = new Map<string, number>()

  /**
   * A full run begins a generation; its id is that of the run. With a `base`, the run that an agent builds on, content in
   * other archives is held to what stood at the same path there: `add` throws an `ArchiveError` for any other.
   */
  constructor(
    catalog: Catalog,
    run: number,
    { generation = run, missing = () => null, base = null }: RecordOptions = {},
  ) {
    this.#missing = missing
    this.#base = base
    this.#references = openReferences(catalog)
    this.#catalog = catalog
    this.#run = run
    this.#generation = generation
  }

  /** Takes what is new or changed, and what is gone. Both end what stood there before. */
  add(entries: readonly Entry[], gone: readonly Gone[]): void {
    this.#catalog.transaction(() => {
      for (const _ of this.#steps(entries, gone));
    })
  }

  /**
   * As `add`, in several transactions, between which all else in the program has its turn: a batch of 100 kB can hold
   * so much that it is a second of work, and there is no end of them. Throws the reason of the signal where that is
   * aborted.
   */
  async addInTurns(entries: readonly Entry[], gone: readonly Gone[], signal: AbortSignal): Promise<void> {
    const steps = this.#steps(entries, gone)
    const goOn = () => {
      const untilMs = performance.now() + turnMs
      while (performance.now() < untilMs) if (steps.next().done) return false
      return true
    }
    while (this.#catalog.transaction(goOn)) {
      await new Promise((resolve) => setImmediate(resolve))
      signal.throwIfAborted()
    }
  }

  *#steps(entries: readonly Entry[], gone: readonly Gone[]): Generator<void, void, void> {
    for (const one of gone) yield* this.#endAll(one)
    for (const entry of entries) {
      this.#add(entry)
      yield
    }
  }

  #add(entry: Entry): void {
    const { statements } = this.#catalog
    if (this.#base !== null) this.#checkElsewhere(entry, this.#base)
    if (this.#generation !== this.#run) {
      const replaced = { generation: this.#generation, run: this.#run, path: sortKey(entry.path) }
      statements.replaceVersion.run(replaced)
    }
    const place = {
      generation: this.#generation,
      run: this.#run,
      owner: this.#ownerOf(entry),
      runOf: this.#runOf,
    }
    statements.insertVersion.run(toVersionValues(entry, place))
  }

  /** An agent says that the content is the old one: so it is nothing else than what it was offered as such. */
  #checkElsewhere(entry: Entry, run: number): void {
    if (entry.extents.every(({ archive }) => archive === null)) return
    const key = { generation: this.#generation, run, path: sortKey(entry.path) }
    const row = this.#catalog.statements.versionAt.get(key)
    if (row !== undefined && isSameContent(toEntry(row, this.#references), entry)) return
    throw new ArchiveError(
      'index-invalid',
      `${quotePath(entry.path)} is to have content in another archive that it did not have in the run before`,
    )
  }

  /** Ends what stood at a path, and below it. */
  *#endAll(gone: Gone): Generator<void, void, void> {
    const { endVersion, endBelow, keyAfterRowsWithin } = this.#catalog.statements
    const path = sortKey(gone.path)
    const generation = this.#generation
    const place = { generation, run: this.#run, reason: endReasonNumber(gone.reason) }
    endVersion.run({ ...place, path })
    const last = Buffer.concat([path, Buffer.from([1])])
    for (let from: Buffer = Buffer.concat([path, Buffer.from([0])]); ; ) {
      const after = keyAfterRowsWithin.get({ generation, from, end: last, rows: endedRowsMax })
      // A single path may have more versions than that.
      const end = after === undefined || after.equals(from) ? last : after
      endBelow.run({ ...place, from, end })
      yield
      if (end === last) return
      from = end
    }
  }

  #ownerOf({ user, group }: Entry): number {
    const key = `${user}\0${group}`
    let owner = this.#owners.get(key)
    if (owner === undefined) {
      const names = { user: Buffer.from(user, 'latin1'), group: Buffer.from(group, 'latin1') }
      this.#catalog.statements.addOwner.run(names)
      owner = this.#catalog.statements.owner.get(names)!
      if (this.#owners.size === rememberedMax) this.#owners.clear()
      this.#owners.set(key, owner)
    }
    return owner
  }

  readonly #runOf = (archive: string): number => {
    const known = this.#catalog.statements.runOfArchive.get({ run: this.#run, archive })
    const run = known ?? this.#missing(archive)
    if (run === null)
      throw new ArchiveError(
        'index-invalid',
        `no run has left the archive ${archive}, which an entry points into`,
      )
    return run
  }
}

function isSameContent(a: Entry, b: Entry): boolean {
  const sameDigest = a.digest !== null && b.digest !== null && Buffer.compare(a.digest, b.digest) === 0
  const isSame = (extent: Extent, i: number) =>
    extent.archive === b.extents[i]!.archive &&
    extent.offset === b.extents[i]!.offset &&
    extent.length === b.extents[i]!.length
  return (
    sameDigest &&
    a.size === b.size &&
    a.storedSize === b.storedSize &&
    a.extents.length === b.extents.length &&
    a.extents.every(isSame)
  )
}

/** Undoes what a run that did not end well has written. Takes a second for a million rows, in short transactions. */
export function purgeRun(catalog: Catalog, run: number, generation: number): void {
  const { purgeVersions, purgeAdded, purgeEnded } = catalog.statements
  if (generation === run) {
    while (catalog.transaction(() => purgeVersions.run({ run, limit: purgedRowsMax }).changes) > 0);
    return
  }
  catalog.transaction(() => {
    purgeAdded.run({ generation, run })
    purgeEnded.run({ generation, run })
  })
}
