/** Many faults, one after the other, and what came of them. */
import type { Random } from '../harness/random.ts'
import { linesOf } from '../harness/snapshot.ts'
import { findFaults, tornFiles } from './invariants.ts'
import { type Fault, type FaultKind, makeDisk } from './plan.ts'
import { Scene, treeLines } from './scene.ts'
import { type Struck, strikeWork } from './strike.ts'
import type { Work } from './works.ts'

export interface Tried {
  work: string
  kind: string
  fault: string
  /** Whether the fault was felt. */
  hit: boolean
  /** The call that was made to fail, where it is one: not always the one that was meant. */
  failed: string | null
  /** What the server exited with. */
  exit: string
  ms: number
  /** What is wrong. */
  faults: string[]
}

/** Makes a scene for a work, ready to be struck. The caller disposes of it. */
export async function makeScene(work: Work, kind: FaultKind): Promise<Scene> {
  const scene = await Scene.create(makeDisk(kind))
  try {
    await work.prepare(scene)
    await scene.save()
    return scene
  } catch (error) {
    await scene[Symbol.asyncDispose]()
    throw error
  }
}

/** `count` of them, in their order; all where there are fewer. */
export function sample<T>(all: readonly T[], count: number, random: Random): T[] {
  const places = all.map((_, place) => place)
  while (places.length > count) places.splice(random.below(places.length), 1)
  return places.map((place) => all[place]!)
}

/** Strikes once, from the saved state, and looks at what came of it. Whatever goes wrong on the way is a fault, too. */
export async function tryFault(scene: Scene, work: Work, kind: FaultKind, fault: Fault): Promise<Tried> {
  const begunMs = performance.now()
  const faults: string[] = []
  let struck: Struck | null = null
  try {
    await scene.reset()
    const before = treeLines(scene.restored)
    struck = await strikeWork(scene, work, fault.means)
    faults.push(...tornOf(scene, work, kind, before))
    faults.push(...(await findFaults(scene, work, struck.ended, struck)))
  } catch (error) {
    faults.push(String((error as Error).message).slice(0, 1500))
  }
  // What is wrong with it may stay so.
  if (faults.length > 0) await scene.mend()
  const { code = null, signal = null } = struck?.ended ?? {}
  return {
    ...{ work: work.name, kind: kind.name, fault: fault.name },
    ...{
      hit: struck?.elsewhere ? false : (struck?.hit ?? true),
      failed: struck?.failed?.replaceAll(scene.data, '') ?? null,
      exit: String(signal ?? code),
      ms: Math.round(performance.now() - begunMs),
      faults,
    },
  }
}

/** Where the disk goes away under what it has not written yet. */
const losesWrites = new Set(['power-loss', 'read-only'])

/** A file that is new may be cut off where the disk goes away; the next restore makes it whole. */
function tornOf(scene: Scene, { name }: Work, kind: FaultKind, before: readonly string[]): string[] {
  if (name !== 'restore' && name !== 'to-host') return []
  const known = new Set(before.map((line) => line.split(' ')[0]))
  const after = linesOf([...scene.good.values()].at(-1)!)
  return tornFiles(treeLines(scene.restored), before, after)
    .filter((line) => !losesWrites.has(kind.name) || known.has(line.split(' ')[0]))
    .map((line) => `torn: ${line}`)
}

/** A line for each work and a column for each kind of fault: how many were tried, and of how many something is wrong. */
export function describeCampaign(tried: readonly Tried[]): string[] {
  const kinds = [...new Set(tried.map(({ kind }) => kind))]
  const names = [...new Set(tried.map(({ work }) => work))]
  const cell = (of: readonly Tried[]) => {
    if (of.length === 0) return ''
    const wrong = of.filter(({ faults }) => faults.length > 0).length
    return `${of.filter(({ hit }) => hit).length}${wrong > 0 ? ` (${wrong} wrong)` : ''}`
  }
  const rows = [...names.map((name) => tried.filter(({ work }) => work === name)), [...tried]].map(
    (of, index) => [
      names[index] ?? 'all',
      ...kinds.map((kind) => cell(of.filter((one) => one.kind === kind))),
      cell(of),
    ],
  )
  return [
    `| work | ${[...kinds, 'all'].join(' | ')} |`,
    `|${'---|'.repeat(kinds.length + 2)}`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ]
}
