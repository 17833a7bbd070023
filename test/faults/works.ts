/** The works that are struck: what is there before, how each is done, and what has to be there once it says that it is done. */
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Catalog } from '../../packages/central-server/src/catalog/catalog.ts'
import type { JsonLine } from '../harness/program.ts'
import type { HostEnd } from '../harness/site.ts'
import { linesOf, readSnapshot } from '../harness/snapshot.ts'
import { prose } from '../harness/tree.ts'
import { runsKept, type Scene, treeLines } from './scene.ts'

export type Victim = 'server' | 'agent'

export interface Work {
  name: string
  /** The programs that take part. */
  victims: readonly Victim[]
  arguments: readonly string[]
  /** Brings a new scene to where the work begins. */
  prepare(scene: Scene): Promise<void>
  /** What is wrong though the work exited with 0, and told this. Notes what it reported to be good. */
  faultsOfDone(scene: Scene, told: readonly JsonLine[]): Promise<string[]>
  /** Only so many of the newest good runs need be there. */
  keeps?: number
}

/** A full run, an incremental one, and changes since. */
async function makeHistory(scene: Scene): Promise<void> {
  scene.fillTree()
  await scene.backUp('--full')
  scene.changeTree(1)
  await scene.backUp()
}

async function makeRestorable(scene: Scene): Promise<void> {
  await makeHistory(scene)
  const { code, stderr } = await scene.ask('restore', 'web1', '--target', scene.target)
  assert.equal(code, 0, stderr)
  // Some to be replaced, and some to be made.
  for (const name of ['large/prose', 'small/0/file-3', 'small/1/file-4'])
    writeFileSync(join(scene.restored, name), prose(3_000, `old ${name}`))
  for (const name of ['small/2', 'large/noise', 'added', 'names'])
    rmSync(join(scene.restored, name), { recursive: true })
}

/** Of the first archive little is needed any more, of the second one nothing, and a third lies in the trash. */
async function makePrunable(scene: Scene): Promise<void> {
  await makeHistory(scene)
  for (const round of [2, 3]) {
    scene.changeTree(round)
    await scene.backUp()
  }
  await scene.backUp('--full')
  await prune(scene)
  for (const round of [4, 5]) {
    scene.changeTree(round)
    await scene.backUp()
  }
  // The trash keeps things for a second.
  await new Promise((resolve) => setTimeout(resolve, 1100))
}

async function prune(scene: Scene): Promise<void> {
  const { code, stdout, stderr } = await scene.ask('prune', '--json')
  assert.equal(code, 0, stdout + stderr)
}

async function faultsOfRun(scene: Scene, told: readonly JsonLine[]): Promise<string[]> {
  const end = told.find(({ event }) => event === 'end') as unknown as HostEnd | undefined
  if (end === undefined) return ['it exited with 0 and told no end of its run']
  if (!/^complete/.test(end.outcome)) return [`it exited with 0 and told that the run is ${end.outcome}`]
  if (end.archive === null) return ['it exited with 0 and named no archive']
  scene.good.set(end.archive.name, readSnapshot(scene.tree))
  return []
}

async function faultsOfRestore(scene: Scene): Promise<string[]> {
  const expected = linesOf([...scene.good.values()].at(-1)!)
  return differences('restored', treeLines(scene.restored), expected)
}

/** At most three lines that one has and the other has not. */
export function differences(what: string, found: readonly string[], expected: readonly string[]): string[] {
  const [has, wants] = [new Set(found), new Set(expected)]
  const missing = expected.filter((line) => !has.has(line)).map((line) => `${what}: lacks ${line}`)
  const extra = found.filter((line) => !wants.has(line)).map((line) => `${what}: has ${line}`)
  return [...missing.slice(0, 2), ...extra.slice(0, 2)]
}

const rebuild: Work = {
  name: 'rebuild',
  victims: ['server'],
  arguments: ['catalog', 'rebuild', '--json'],
  async prepare(scene) {
    await makePrunable(scene)
    await prune(scene)
    scene.changeTree(6)
    await scene.backUp()
  },
  faultsOfDone: async () => [],
  keeps: runsKept + 1,
}

export const works: readonly Work[] = [
  {
    name: 'run',
    victims: ['server', 'agent'],
    arguments: ['run', '--json'],
    async prepare(scene) {
      await makeHistory(scene)
      scene.changeTree(2)
    },
    faultsOfDone: faultsOfRun,
  },
  {
    name: 'full',
    victims: ['server', 'agent'],
    arguments: ['run', '--full', '--json'],
    prepare: makeHistory,
    faultsOfDone: faultsOfRun,
  },
  {
    name: 'restore',
    victims: ['server'],
    arguments: ['restore', 'web1', '--target', 'TARGET', '--overwrite', 'always', '--json'],
    prepare: makeRestorable,
    faultsOfDone: faultsOfRestore,
  },
  {
    name: 'to-host',
    victims: ['server', 'agent'],
    arguments: ['restore', 'web1', '--to-host', '--overwrite', 'always', '--json'],
    prepare: makeRestorable,
    faultsOfDone: faultsOfRestore,
  },
  {
    name: 'prune',
    victims: ['server'],
    arguments: ['prune', '--json'],
    prepare: makePrunable,
    // Where a clock jumped, it says so and removes nothing.
    faultsOfDone: async (_scene, [told]) => (told === undefined ? ['it exited with 0 and told nothing'] : []),
    keeps: runsKept,
  },
  rebuild,
  {
    ...rebuild,
    name: 'rebuild-damaged',
    async prepare(scene) {
      await rebuild.prepare(scene)
      damageCatalog(join(scene.data, 'repository', 'catalog.sqlite'))
    },
  },
]

/** A catalog that no program can read, with a log beside it as a program leaves it that was killed. */
function damageCatalog(file: string): void {
  const log = `${file}-wal`
  const catalog = new Catalog(file)
  catalog.transaction(() => catalog.statements.addHost.run('another'))
  const bytes = readFileSync(log)
  catalog.close()
  writeFileSync(log, bytes, { mode: 0o600 })
  const fd = openSync(file, 'r+')
  writeSync(fd, Buffer.alloc(4096, 0xa5), 0, 4096, 0)
  closeSync(fd)
}

export function workNamed(name: string): Work {
  const work = works.find((one) => one.name === name)
  assert.ok(work, `there is no work ${name}: ${works.map((one) => one.name).join(', ')}`)
  return work
}

export function argumentsOf(work: Work, scene: Scene): string[] {
  return work.arguments.map((argument) => (argument === 'TARGET' ? scene.target : argument))
}
