/**
 * Strikes works with faults at every step that they take, and looks at what came of it: `npm run faults`. As root, on small
 * file systems that it makes and removes. All faults there are take hours; `--count 5` takes five of each kind.
 *
 *   npm run faults -- --work prune --fault kill --count 20 --seed 7
 */
import { existsSync } from 'node:fs'
import { availableParallelism, cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import { describeCampaign, makeScene, sample, type Tried, tryFault } from '../test/faults/campaign.ts'
import { type Fault, type FaultKind, faultKinds, kindNamed } from '../test/faults/plan.ts'
import type { Scene } from '../test/faults/scene.ts'
import { type Work, workNamed, works } from '../test/faults/works.ts'
import { Random } from '../test/harness/random.ts'

const { values: options } = parseArgs({
  options: {
    work: { type: 'string', multiple: true },
    fault: { type: 'string', multiple: true },
    seed: { type: 'string', default: '1' },
    /** Of each kind of fault and each work; all if not given. */
    count: { type: 'string' },
    /** Names the faults that there are. */
    list: { type: 'boolean', default: false },
    /** Only faults whose name has this in it. */
    only: { type: 'string', default: '' },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

const seed = Number(options.seed)
const count = options.count === undefined ? Number.POSITIVE_INFINITY : Number(options.count)
const say = (line: string) => process.stderr.write(`${line}\n`)

/** What a scene is made for; several at once, where there are fewer groups than jobs. */
interface Group {
  work: Work
  /** All on the same kind of disk. */
  kinds: FaultKind[]
  /** What is left to be tried of each kind, by the one scene that planned it. */
  left: Map<FaultKind, Promise<Fault[]>>
}

const tried: Tried[] = []

/** What is told of a work that does not even come through with nothing striking. */
const notStruck = 'none'

/** Somebody has asked for the end: what is under way is ended in good order. */
let ending = false
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    ending = true
  })
}

async function strikeGroup({ work, kinds, left }: Group): Promise<void> {
  await using scene = await makeScene(work, kinds[0]!).catch((error: Error) => {
    if (!ending) throw error
    return null
  })
  if (scene === null) return
  for (const kind of kinds) {
    const planned = left.get(kind) ?? plan(scene, work, kind)
    left.set(kind, planned)
    const faults = await planned
    for (let fault = faults.shift(); fault !== undefined && !ending; fault = faults.shift())
      await strike(scene, work, kind, fault)
  }
}

/** Does the work with nothing striking, for the steps that it takes. Where that does not come through, this is a finding, too. */
async function plan(scene: Scene, work: Work, kind: FaultKind): Promise<Fault[]> {
  const planned = await kind.plan(scene, work).catch((error: Error) => error)
  if (planned instanceof Error) {
    const faults = [planned.message.slice(0, 1500)]
    tell({
      work: work.name,
      kind: kind.name,
      fault: notStruck,
      hit: false,
      failed: null,
      exit: '',
      ms: 0,
      faults,
    })
    return []
  }
  const all = planned.filter(({ name }) => name.includes(options.only))
  const chosen = sample(all, count, new Random(seed))
  say(`${work.name}, ${kind.name}: ${chosen.length} of ${all.length}`)
  if (options.list) for (const { name } of all) say(`  ${name}`)
  return chosen
}

async function strike(scene: Scene, work: Work, kind: FaultKind, fault: Fault): Promise<void> {
  const one = await tryFault(scene, work, kind, fault)
  // Who asks for the end strikes what is under way, too.
  if (!ending || one.faults.length === 0) tell(one)
}

function tell(one: Tried): void {
  tried.push(one)
  if (options.json) process.stdout.write(`${JSON.stringify(one)}\n`)
  if (one.faults.length > 0)
    say(`WRONG ${one.work}, ${one.kind}: ${one.fault} (exit ${one.exit})\n  ${one.faults.join('\n  ')}`)
}

/** The kinds of fault that this machine has, by work and by what they want all data to be on. */
async function planGroups(): Promise<Group[]> {
  const kinds: FaultKind[] = []
  for (const kind of (options.fault ?? faultKinds.map(({ name }) => name)).map(kindNamed)) {
    const lacks = await kind.lacks()
    if (lacks === false) kinds.push(kind)
    else say(`${kind.name}: left out: ${lacks}`)
  }
  const disks = [...new Set(kinds.map(({ disk }) => disk))]
  return (options.work ?? works.map(({ name }) => name)).map(workNamed).flatMap((work) =>
    disks
      .map((disk) => ({ work, kinds: kinds.filter((kind) => kind.disk === disk && kind.concerns(work)) }))
      .map((group) => ({ ...group, left: new Map() }))
      .filter((group) => group.kinds.length > 0),
  )
}

/** Takes a group after the other, and has part in the last of them. */
async function lane(groups: Group[]): Promise<void> {
  for (let group = groups[0]; group !== undefined && !ending; group = groups[0]) {
    if (groups.length > 1) groups.shift()
    await strikeGroup(group)
    if (groups[0] === group) groups.shift()
  }
}

async function main(): Promise<number> {
  if (options.help) {
    say(`--work: ${works.map(({ name }) => name).join(', ')}`)
    say(`--fault: ${faultKinds.map(({ name }) => name).join(', ')}`)
    return 0
  }
  // Nothing here needs to last, and thousands of fsyncs need not wait for a disk.
  if (process.env.TMPDIR === undefined && existsSync('/dev/shm')) process.env.TMPDIR = '/dev/shm'
  const groups = await planGroups()
  const begunMs = performance.now()
  await Promise.all(Array.from({ length: Number(options.jobs) }, () => lane(groups)))
  const seconds = Math.round((performance.now() - begunMs) / 1000)
  const wrong = tried.filter(({ faults }) => faults.length > 0)
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Linux ${release()}, Node.js ${process.version}`
  const report = options.json ? say : (line: string) => process.stdout.write(`${line}\n`)
  for (const line of describeCampaign(tried)) report(line)
  const struck = tried.filter(({ fault }) => fault !== notStruck)
  const felt = struck.filter(({ hit }) => hit).length
  report(`${struck.length} faults tried, ${felt} felt, ${wrong.length} wrong, in ${seconds} s, seed ${seed}`)
  report(`${new Date().toISOString().slice(0, 10)}, ${machine}`)
  return wrong.length === 0 && tried.length > 0 ? 0 : 1
}

process.exitCode = await main()
