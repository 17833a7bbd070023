/** Which faults there are for a work: the steps that it takes, and what can strike at each of them. */
import assert from 'node:assert/strict'
import { accessSync, constants, statSync } from 'node:fs'
import { lacksMount, Mount } from '../harness/mount.ts'
import { runCommand } from '../harness/program.ts'
import type { Direction, Fault as LineFault } from '../harness/proxy.ts'
import { endMsMax, type Scene } from './scene.ts'
import { lacksStrace, readSteps, recording, type Step, type StepKind, tracedEnvironment } from './steps.ts'
import { endTracedAgent, fakeTimeLibrary, type Limit, type Means, memoryGroups } from './strike.ts'
import { argumentsOf, type Victim, type Work } from './works.ts'

export interface Fault {
  /** For people: what strikes whom, and when. */
  name: string
  means: Means
}

export interface FaultKind {
  name: string
  /** What all data has to be on: any disk, or an ext4 of its own. */
  disk: 'any' | 'own' | 'own with few names'
  /** Whether it can strike the work at all. */
  concerns(work: Work): boolean
  /** Why this machine cannot have it, or `false`. */
  lacks(): Promise<string | false>
  /** All of them, in the order in which the work comes to them. */
  plan(scene: Scene, work: Work): Promise<Fault[]>
}

/** A record of a program that does the work with nothing striking. What is before `fromByte` is not of the work. */
interface Recorded {
  trace: string
  fromByte: number
}

const recorded = new WeakMap<Scene, Map<string, Recorded>>()

/** As the scene was saved once and for all, each program is recorded once. */
async function record(scene: Scene, work: Work, victim: Victim, kind: StepKind): Promise<Recorded> {
  const key = `recorded-${work.name}-${victim}-${kind}`
  const known = recorded.get(scene) ?? new Map<string, Recorded>()
  recorded.set(scene, known)
  const found = known.get(key) ?? (await recordNew(scene, work, victim, kind, scene.site.at(key)))
  known.set(key, found)
  return found
}

async function recordNew(
  scene: Scene,
  work: Work,
  victim: Victim,
  kind: StepKind,
  trace: string,
): Promise<Recorded> {
  await scene.reset()
  const options = { wrapper: recording(trace, kind), env: tracedEnvironment }
  let fromByte = 0
  if (victim === 'agent') {
    await scene.host.stop()
    await scene.startAgent(options)
    fromByte = statSync(trace).size
  }
  const server = scene.startServer(argumentsOf(work, scene), victim === 'server' ? options : {})
  const ended = await server.endWithin(endMsMax)
  assert.equal(ended.code, 0, ended.stdout + ended.stderr)
  if (victim === 'agent') await endTracedAgent(scene)
  return { trace, fromByte }
}

type AtStep = (victim: Victim, step: Step, index: number) => Means

/** Faults at each step of each program. */
function atSteps(
  kind: StepKind,
  sockets: boolean,
  means: AtStep,
  wanted: (step: Step) => boolean = () => true,
) {
  return async (scene: Scene, work: Work): Promise<Fault[]> => {
    const faults: Fault[] = []
    for (const victim of work.victims) {
      const { trace, fromByte } = await record(scene, work, victim, kind)
      const steps = readSteps(trace, scene.data, { sockets, fromByte, byPath: kind === 'reading' }).filter(
        wanted,
      )
      for (const [index, step] of steps.entries()) {
        const line = step.line.replaceAll(scene.data, '').slice(0, 160)
        faults.push({
          name: `${victim}, ${step.call} no. ${step.nth}: ${line}`,
          means: means(victim, step, index),
        })
      }
    }
    return faults
  }
}

/** Calls that a disk without room can refuse. */
const needsRoom = new Set([
  ...[
    'openat',
    'write',
    'pwrite64',
    'writev',
    'pwritev',
    'fallocate',
    'ftruncate',
    'mkdir',
    'mkdirat',
    'link',
  ],
  ...['linkat', 'symlinkat', 'mknodat', 'rename', 'renameat', 'renameat2', 'fsync', 'fdatasync'],
])

/** After these, what a power loss leaves differs. */
const settles = new Set([
  ...[
    'write',
    'pwrite64',
    'fsync',
    'fdatasync',
    'syncfs',
    'rename',
    'renameat',
    'renameat2',
    'unlink',
    'unlinkat',
  ],
  ...['linkat', 'ftruncate'],
])

interface Piece {
  direction: Direction
  /** How much had passed in that direction before it. */
  from: number
  bytes: number
}

/** The pieces in which a work's connection passes. */
async function recordLine(scene: Scene, work: Work): Promise<Piece[]> {
  await scene.reset()
  const pieces: Piece[] = []
  const passed = { fromServer: 0, fromAgent: 0 }
  scene.proxy.onPiece = (direction, bytes) => {
    pieces.push({ direction, from: passed[direction], bytes })
    passed[direction] += bytes
  }
  const ended = await scene.startServer(argumentsOf(work, scene)).endWithin(endMsMax)
  scene.proxy.onPiece = null
  assert.equal(ended.code, 0, ended.stdout + ended.stderr)
  return pieces
}

/** At the beginning and in the middle of each piece. */
function onLine(what: LineFault['what']) {
  return async (scene: Scene, work: Work): Promise<Fault[]> => {
    const pieces = await recordLine(scene, work)
    return pieces.flatMap(({ direction, from, bytes }) => {
      const offsets = bytes > 1 ? [from, from + Math.floor(bytes / 2)] : [from]
      return offsets.map((afterBytes) => ({
        name: `${what} ${direction} after ${afterBytes} bytes`,
        means: { at: 'line', fault: { direction, afterBytes, what } } as const,
      }))
    })
  }
}

function ofLimits(limits: readonly Limit[]) {
  return async (_: Scene, work: Work): Promise<Fault[]> =>
    work.victims.flatMap((victim) =>
      limits.map((limit) => ({
        name: `${victim}, ${Object.values(limit).join(' ')}`,
        means: { at: 'limits', victim, limit } as const,
      })),
    )
}

const hour = 3_600
const day = 24 * hour

async function planClocks(scene: Scene, work: Work): Promise<Fault[]> {
  const pieces = usesLine(work) ? await recordLine(scene, work) : []
  const places = [0.1, 0.4, 0.7, 0.95].flatMap((share) =>
    pieces.slice(Math.floor(pieces.length * share)).slice(0, 1),
  )
  const moments: (LineFault | null)[] = [
    null,
    ...places.map(({ direction, from }) => ({ direction, afterBytes: from, what: 'none' }) as const),
  ]
  const steps = [-40 * day, -2 * hour, -30, 30, 2 * hour, 40 * day, 400 * day]
  return work.victims.flatMap((victim) =>
    moments.flatMap((line) =>
      steps.map((seconds) => ({
        name: `${victim}, ${seconds} s ${line === null ? 'from the start' : `at ${line.direction} ${line.afterBytes}`}`,
        means: { at: 'clock', victim, seconds, line } as const,
      })),
    ),
  )
}

function usesLine({ victims }: Work): boolean {
  return victims.includes('agent')
}

const roomKilobytes = [
  ...[0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1280, 1536, 2048, 3072, 4096],
  ...[5120, 6144, 8192],
]

const anything = () => true

const lacksPower = async () => (await lacksStrace()) || lacksMount('ext4')

async function lacksProgram(name: string): Promise<string | false> {
  const { code } = await runCommand(['sh', '-c', `command -v ${name}`])
  return code === 0 ? false : `this machine has no ${name}`
}

function range(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step)
}

export const faultKinds: readonly FaultKind[] = [
  {
    name: 'kill',
    disk: 'any',
    concerns: anything,
    lacks: lacksStrace,
    plan: atSteps('changing', true, (victim, step) => ({
      at: 'step',
      victim,
      step,
      strike: { signal: 'KILL' },
    })),
  },
  {
    name: 'signal',
    disk: 'any',
    concerns: anything,
    lacks: lacksStrace,
    plan: atSteps('changing', true, (victim, step, index) => ({
      ...{ at: 'step', victim, step },
      strike: { signal: index % 2 === 0 ? 'TERM' : 'INT' },
    })),
  },
  {
    name: 'io-error',
    disk: 'any',
    concerns: anything,
    lacks: lacksStrace,
    plan: atSteps('changing', false, (victim, step) => ({
      at: 'step',
      victim,
      step,
      strike: { error: 'EIO' },
    })),
  },
  {
    name: 'read-error',
    disk: 'any',
    concerns: anything,
    lacks: lacksStrace,
    plan: atSteps('reading', false, (victim, step) => ({
      at: 'step',
      victim,
      step,
      strike: { error: 'EIO' },
    })),
  },
  {
    name: 'disk-full',
    disk: 'any',
    concerns: anything,
    lacks: lacksStrace,
    plan: atSteps(
      ...(['changing', false] as const),
      (victim, step) => ({ at: 'step', victim, step, strike: { error: 'ENOSPC' } }),
      ({ call }) => needsRoom.has(call),
    ),
  },
  {
    name: 'power-loss',
    disk: 'own',
    concerns: anything,
    lacks: lacksPower,
    plan: atSteps(
      ...(['changing', false] as const),
      (victim, step) => ({ at: 'disk', victim, step, what: 'power-loss' }),
      ({ call }) => settles.has(call),
    ),
  },
  {
    name: 'read-only',
    disk: 'own',
    concerns: anything,
    lacks: lacksPower,
    plan: atSteps(
      ...(['changing', false] as const),
      (victim, step) => ({ at: 'disk', victim, step, what: 'read-only' }),
      ({ call }) => settles.has(call),
    ),
  },
  {
    name: 'room',
    disk: 'own',
    concerns: anything,
    lacks: async () => lacksMount('ext4'),
    plan: async () =>
      roomKilobytes.map((kilobytes) => ({
        name: `${kilobytes} KiB`,
        means: { at: 'room', bytes: kilobytes * 1024 },
      })),
  },
  {
    name: 'names',
    disk: 'own with few names',
    concerns: anything,
    lacks: async () => lacksMount('ext4'),
    plan: async () =>
      range(0, 9, 1).map((names) => ({ name: `${names} names`, means: { at: 'names', names } })),
  },
  ...(['cut', 'reset', 'corrupt', 'slow', 'half-open', 'stall'] as const).map((what) => ({
    name: what,
    disk: 'any' as const,
    concerns: usesLine,
    lacks: async () => false as const,
    plan: onLine(what),
  })),
  {
    name: 'clock',
    disk: 'any',
    concerns: anything,
    lacks: async () => (fakeTimeLibrary() === null ? 'this machine has no faketime' : false),
    plan: planClocks,
  },
  {
    name: 'descriptors',
    disk: 'any',
    concerns: anything,
    lacks: () => lacksProgram('prlimit'),
    plan: ofLimits(range(16, 60, 1).map((count) => ({ what: 'descriptors', count }))),
  },
  {
    name: 'file-size',
    disk: 'any',
    concerns: anything,
    lacks: () => lacksProgram('prlimit'),
    plan: ofLimits(
      [1, 4, 16, 32, 40, 64, 100, 200, 400, 500, 600, 800, 1000, 1500, 2000, 4000].map((kilobytes) => ({
        ...{ what: 'file-size', bytes: kilobytes * 1024 },
      })),
    ),
  },
  {
    name: 'memory',
    disk: 'any',
    concerns: anything,
    async lacks() {
      try {
        accessSync(memoryGroups, constants.W_OK)
        return false
      } catch {
        return 'there is no group of processes with limits of memory that may be written here'
      }
    },
    plan: ofLimits([
      ...range(4, 40, 4).map((megabytes) => ({ what: 'heap', megabytes }) as const),
      ...range(30, 130, 10).map((megabytes) => ({ what: 'memory', megabytes }) as const),
    ]),
  },
]

/** What a kind of fault wants all data to be on; `null` for any disk. */
export function makeDisk({ disk }: FaultKind): Mount | null {
  if (disk === 'any') return null
  return disk === 'own' ? Mount.ext4ThatFails(64) : Mount.ext4ThatFails(64, '-N', '240')
}

export function kindNamed(name: string): FaultKind {
  const kind = faultKinds.find((one) => one.name === name)
  assert.ok(kind, `there is no kind of fault ${name}: ${faultKinds.map((one) => one.name).join(', ')}`)
  return kind
}
