import type { Entry } from '@central-backup/archive'
import type { Catalog } from './catalog.ts'
import { toVersionValues } from './version-row.ts'

/** Rows that are removed in one transaction: some tens of milliseconds. */
const purgedRowsMax = 10_000

/**
 * Writes what stood in a run while its entries come in, each batch in a transaction of its own, so that nobody waits for
 * long. Nothing of it is visible before `Catalog.finishRun` says that the run ended well; where it does not, the rows
 * are to be removed by `purgeRun`.
 */
export class RunRecorder {
  readonly #catalog: Catalog
  readonly #run: number
  readonly #generation: number
  readonly #owners = new Map<string, number>()

  /** A full run begins a generation; its id is that of the run. */
  constructor(catalog: Catalog, run: number, generation = run) {
    this.#catalog = catalog
    this.#run = run
    this.#generation = generation
  }

  add(entries: readonly Entry[]): void {
    const { statements } = this.#catalog
    this.#catalog.transaction(() => {
      for (const entry of entries) {
        const place = {
          generation: this.#generation,
          run: this.#run,
          owner: this.#ownerOf(entry),
          runOf: this.#runOf,
        }
        statements.insertVersion.run(toVersionValues(entry, place))
      }
    })
  }

  #ownerOf({ user, group }: Entry): number {
    const key = `${user}\0${group}`
    let owner = this.#owners.get(key)
    if (owner === undefined) {
      const names = { user: Buffer.from(user, 'latin1'), group: Buffer.from(group, 'latin1') }
      this.#catalog.statements.addOwner.run(names)
      owner = this.#catalog.statements.owner.get(names)!
      this.#owners.set(key, owner)
    }
    return owner
  }

  readonly #runOf = (archive: string): number => {
    const run = this.#catalog.statements.runOfArchive.get({ run: this.#run, archive })
    if (run === undefined) throw new Error(`no run has left the archive ${archive}`)
    return run
  }
}

/** Removes the rows of a full run that did not end well. Takes a second for a million of them, in short transactions. */
export function purgeRun(catalog: Catalog, run: number): void {
  const { purgeVersions } = catalog.statements
  while (catalog.transaction(() => purgeVersions.run({ run, limit: purgedRowsMax }).changes) > 0);
}
