/** That what one host sends changes nothing of what belongs to others. */
import assert from 'node:assert/strict'
import type { Site } from './site.ts'
import { linesOf, readSnapshot } from './snapshot.ts'

/**
 * All below the folder of a site but what belongs to the hosts `own`: their archives, and their trash. Call it before
 * and `check` after; the catalog, its log and its leases change with every run and are left out.
 */
export class Untouched {
  readonly #site: Site
  readonly #own: ReadonlySet<string>
  readonly #before: ReadonlyMap<string, string>

  constructor(site: Site, own: readonly string[]) {
    this.#site = site
    this.#own = new Set(own)
    this.#before = this.#look()
  }

  /** Fails unless all is as it was, but for new archives of the hosts `grown`, one each. */
  check(grown: readonly string[]): void {
    const now = this.#look()
    for (const [path, line] of this.#before) assert.equal(now.get(path), line, `${path} was changed`)
    const added = [...now.keys()].filter((path) => !this.#before.has(path))
    const archive = /^repository\/archives\/([^/]+)\/[^/]+\.tar\.zst$/
    assert.deepEqual(
      added.map((path) => archive.exec(path)?.[1] ?? path).sort(),
      [...grown].sort(),
      `beside archives of their own, hosts have left: ${added.join(', ')}`,
    )
  }

  #look(): ReadonlyMap<string, string> {
    const snapshot = readSnapshot(this.#site.folder, (name) => isOfAllRuns(name) || this.#own.has(name))
    const lines = linesOf(snapshot)
    return new Map(
      [...snapshot].flatMap(([path, { type }], i) =>
        // Their times change with what is made in them.
        type === 'directory' ? [] : [[path, lines[i]!] as const],
      ),
    )
  }
}

function isOfAllRuns(name: string): boolean {
  return name.startsWith('catalog.sqlite') || name === 'backup-server.log'
}

/** What must not reach a terminal or a log as it is, but for the ends of lines. */
export const terminalCommands =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/
