/** A tree with all features that its file system can have, backed up by the real programs and brought back in several ways. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { type Aspect, compareTrees, type Difference, readTree, type Tree } from './compare-trees.ts'
import { type Feature, type Made, makeFeatures, releaseFeatures } from './features.ts'
import { type Ended, runCommand } from './program.ts'
import { readRun, Site, type TestHost } from './site.ts'

/** The options with which stock tar brings everything back that a tar can hold. */
export const stockTar = ['tar', '--acls', '--xattrs', '--xattrs-include=*', '-S', '--numeric-owner', '-xpf']

export class FidelityScene implements AsyncDisposable {
  readonly site: Site
  readonly host: TestHost
  /** The tree, on the file system that is tried. */
  readonly root: string
  readonly made: readonly Made[]
  /** Features that the file system cannot have, and why. */
  readonly lacking: ReadonlyMap<Feature, string>
  readonly #folder: string

  private constructor(
    site: Site,
    host: TestHost,
    folder: string,
    made: readonly Made[],
    lacking: ReadonlyMap<Feature, string>,
  ) {
    this.site = site
    this.host = host
    this.#folder = folder
    this.root = join(folder, 'tree')
    this.made = made
    this.lacking = lacking
  }

  /** Makes the tree in a folder of its own below `base`, and a host that backs it up. */
  static async create(base: string): Promise<FidelityScene> {
    const folder = mkdtempSync(join(base, 'central-backup-fidelity-'))
    const root = join(folder, 'tree')
    mkdirSync(root)
    const { made, lacking } = await makeFeatures(root)
    const site = await Site.create()
    const host = await site.addHost('web1', { paths: [root], settings: '[limits]\ncpu_nice = 0' })
    await host.start()
    return new FidelityScene(site, host, folder, made, lacking)
  }

  /** A path on the file system that is tried. */
  at(name: string): string {
    return join(this.#folder, name)
  }

  /** Where a restore below `target` puts the tree. */
  restored(target: string): string {
    return join(target, this.root)
  }

  read(): Tree {
    return readTree(this.root)
  }

  /** A run that must find nothing to complain of. Returns its id. */
  async backUp(...args: string[]): Promise<number> {
    const run = readRun(await this.site.server('run', '--json', ...args))
    const end = run.ends.web1
    assert.equal(run.code, 0, run.stderr + run.stdout.slice(-2000))
    assert.deepEqual([end!.outcome, end!.warningCount], ['complete', 0], JSON.stringify(run.warnings))
    return end!.run!
  }

  /** A restore that must bring back and set everything. */
  async restore(target: string, ...args: string[]): Promise<void> {
    const ended = await this.site.server('restore', 'web1', '--json', '--target', target, ...args)
    assert.equal(ended.code, 0, ended.stderr)
    const end = ended.json.find(({ event }) => event === 'end')!
    assert.deepEqual([end.notSet, end.kept, end.failed, end.damaged], [{}, 0, 0, 0])
  }

  /** Unpacks with a stock program; what it says is for the caller. */
  async unpack(program: readonly string[], archive: string, target: string): Promise<Ended> {
    mkdirSync(target, { recursive: true })
    return await runCommand([...program, archive, '-C', target])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    releaseFeatures(this.#folder)
    // Not Node's, which knows no paths that are longer than the kernel takes.
    await runCommand(['rm', '-rf', this.#folder])
    await this.site[Symbol.asyncDispose]()
  }
}

/** Differences within the folder of a feature, up to some. */
export function differencesIn(
  { folder }: Made,
  found: Tree,
  expected: Tree,
  ignored: ReadonlySet<Aspect> = new Set(),
): Difference[] {
  const within = (tree: Tree) =>
    new Map([...tree].filter(([path]) => path === folder || path.startsWith(`${folder}/`)))
  return compareTrees(within(found), within(expected), ignored)
}

/** For messages: a few, and not thousands of bytes of each. */
export function shownDifferences(differences: readonly Difference[]): Difference[] {
  const short = (text: string | undefined) => text?.slice(0, 300)
  return differences.slice(0, 5).map((one) => ({
    aspect: one.aspect,
    path: one.path.slice(-200),
    found: short(one.found),
    expected: short(one.expected),
  }))
}
