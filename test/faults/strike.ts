/** One fault, struck at one work: the programs are started as the fault wants it, and what they said is given back. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type Ended, type Program, runCommand, type StartOptions } from '../harness/program.ts'
import type { Fault as LineFault } from '../harness/proxy.ts'
import { readText } from './invariants.ts'
import { comesTrue, endMsMax, type Scene, silenceMsMax } from './scene.ts'
import { failedCall, type Step, type Strike, striking, tracedEnvironment, tracedProcess } from './steps.ts'
import { argumentsOf, type Victim, type Work } from './works.ts'

/** What strikes, and when. */
export type Means =
  /** At a call of a program. */
  | { at: 'step'; victim: Victim; step: Step; strike: Strike }
  /** The machine with the disk goes down, or the disk becomes read-only, at a call of a program. */
  | { at: 'disk'; victim: Victim; step: Step; what: 'power-loss' | 'read-only' }
  /** On the line. */
  | { at: 'line'; fault: LineFault }
  /** From the beginning to the end, by what a program gets from the system. */
  | { at: 'limits'; victim: Victim; limit: Limit }
  /** There is so much room on the disk. */
  | { at: 'room'; bytes: number }
  | { at: 'names'; names: number }
  /** The clock of a program is off by so many seconds: from the beginning, or when so many bytes have passed. */
  | { at: 'clock'; victim: Victim; seconds: number; line: LineFault | null }

export type Limit =
  | { what: 'descriptors'; count: number }
  | { what: 'file-size'; bytes: number }
  | { what: 'heap'; megabytes: number }
  | { what: 'memory'; megabytes: number }

export interface Struck {
  /** What the server said. */
  ended: Ended
  /** False where the work never came to the point. */
  hit: boolean
  /** The call that was made to fail, as strace wrote it. */
  failed?: string | null
  /** The call that failed was none of the work: a program reads its own sources, too. */
  elsewhere?: boolean
  /** The line is open, and nothing passes. */
  hangs?: boolean
}

/** Does the work under the fault. The scene is as it was saved, and what struck is over when this returns. */
export async function strikeWork(scene: Scene, work: Work, means: Means): Promise<Struck> {
  switch (means.at) {
    case 'step':
      return strikeStep(scene, work, means)
    case 'disk':
      return strikeDisk(scene, work, means)
    case 'line':
      return strikeLine(scene, work, means.fault)
    case 'limits':
      return strikeLimits(scene, work, means)
    case 'room':
    case 'names':
      return strikeRoom(scene, work, means)
    case 'clock':
      return strikeClock(scene, work, means)
  }
}

/** Where strace writes to; of the strike before, nothing is left. */
function newTrace(scene: Scene): string {
  const trace = scene.site.at('trace')
  rmSync(trace, { force: true })
  return trace
}

/** Starts the work, with the victim started by `options`. */
async function begin(scene: Scene, work: Work, victim: Victim, options: StartOptions): Promise<Program> {
  if (victim === 'agent') {
    await scene.host.stop('SIGKILL')
    await scene.startAgent(options)
  }
  return scene.startServer(argumentsOf(work, scene), victim === 'server' ? options : {})
}

/** Ends an agent that runs behind another program, as the next one is to run by itself. */
export async function endTracedAgent(scene: Scene): Promise<void> {
  if (!scene.host.isRunning) return
  const { agent } = scene.host
  const traced = tracedProcess(agent.pid)
  if (traced === null) agent.kill('SIGTERM')
  else kill(traced, 'SIGTERM')
  await agent.endWithin(endMsMax)
}

async function strikeStep(
  scene: Scene,
  work: Work,
  { victim, step, strike }: Means & { at: 'step' },
): Promise<Struck> {
  const trace = newTrace(scene)
  const options = { wrapper: striking(trace, step, strike, scene.data), env: tracedEnvironment }
  // Threads differ from run to run: one of them may come to the call before the agent listens, which is not of this work.
  const begun = await begin(scene, work, victim, options).catch((error: Error) => {
    if (victim === 'server') throw error
    return null
  })
  if (begun === null) {
    await scene.mend()
    await scene.startAgent()
  }
  const server = begun ?? scene.startServer(argumentsOf(work, scene))
  const ended = await server.endWithin(endMsMax)
  if (begun === null) return { ended, hit: false }
  const isKilled = victim === 'server' ? ended.signal === 'SIGKILL' : !scene.host.isRunning
  const failed = failedCall(trace)
  let hit = failed !== null
  if ('signal' in strike) {
    hit = strike.signal === 'KILL' ? isKilled : ended.code !== 0 || ended.signal !== null
    if (victim === 'agent') hit = isKilled || (await agentEnds(scene))
  }
  if (victim === 'agent') await endTracedAgent(scene)
  return { ended, hit, failed, elsewhere: failed !== null && !failed.includes(scene.data) }
}

/** Whether an agent that was told to end does so; one that was not goes on. */
async function agentEnds(scene: Scene): Promise<boolean> {
  return comesTrue(() => !scene.host.isRunning, 1000)
}

async function strikeDisk(
  scene: Scene,
  work: Work,
  { victim, step, what }: Means & { at: 'disk' },
): Promise<Struck> {
  const mount = scene.mount!
  const trace = newTrace(scene)
  const options = { wrapper: striking(trace, step, { signal: 'STOP' }, scene.data), env: tracedEnvironment }
  const server = await begin(scene, work, victim, options)
  const program = victim === 'server' ? server : scene.host.agent
  await comesTrue(() => isStopped(trace) || !server.running)
  const hit = isStopped(trace)
  if (hit) {
    const traced = tracedProcess(program.pid)!
    if (what === 'power-loss') {
      mount.losePower()
      kill(traced, 'SIGKILL')
    } else {
      mount.fail()
      kill(traced, 'SIGCONT')
    }
  }
  const ended = await server.endWithin(endMsMax)
  if (victim === 'agent') await endTracedAgent(scene)
  else await comesTrue(() => scene.agentIsIdle)
  mount.restore()
  return { ended, hit }
}

function isStopped(trace: string): boolean {
  return readText(trace).includes('stopped by SIGSTOP')
}

async function strikeLine(scene: Scene, work: Work, fault: LineFault): Promise<Struck> {
  let hit = false
  void scene.proxy.arm(fault).then(() => {
    hit = true
  })
  const hangs = fault.what === 'stall' || fault.what === 'half-open'
  const server = scene.startServer(argumentsOf(work, scene))
  return { ended: await server.endWithin(hangs ? silenceMsMax : endMsMax), hit, hangs }
}

async function strikeLimits(
  scene: Scene,
  work: Work,
  { victim, limit }: Means & { at: 'limits' },
): Promise<Struck> {
  const { options, free } = startWithin(limit)
  try {
    const server = await begin(scene, work, victim, options).catch((error: Error) => {
      if (victim === 'server') throw error
      // An agent that cannot even begin is started again without the limit.
      return null
    })
    if (server === null) {
      const ended = await scene.startServer(argumentsOf(work, scene)).endWithin(endMsMax)
      return { ended, hit: true }
    }
    const ended = await server.endWithin(endMsMax)
    if (victim === 'agent' && scene.host.isRunning) await scene.host.stop('SIGKILL')
    return { ended, hit: ended.code !== 0 }
  } finally {
    free()
  }
}

let groups = 0

function startWithin(limit: Limit): { options: StartOptions; free: () => void } {
  switch (limit.what) {
    case 'descriptors':
      return { options: { wrapper: ['prlimit', `--nofile=${limit.count}`] }, free: () => {} }
    case 'file-size':
      return { options: { wrapper: ['prlimit', `--fsize=${limit.bytes}`] }, free: () => {} }
    case 'heap':
      return { options: { nodeOptions: [`--max-old-space-size=${limit.megabytes}`] }, free: () => {} }
    case 'memory': {
      const group = join(memoryGroups, `central-backup-faults-${process.pid}-${groups++}`)
      mkdirSync(group)
      writeFileSync(join(group, 'memory.limit_in_bytes'), String(limit.megabytes * 1024 * 1024))
      const wrapper = ['sh', '-c', `echo $$ > ${group}/tasks && exec "$@"`, 'sh']
      return { options: { wrapper }, free: () => rmdirSync(group) }
    }
  }
}

/** Where the limits of memory are. */
export const memoryGroups = '/sys/fs/cgroup/memory'

async function strikeRoom(
  scene: Scene,
  work: Work,
  means: Means & { at: 'room' | 'names' },
): Promise<Struck> {
  const filler = join(scene.data, 'filler')
  if (means.at === 'room') {
    const { bavail, bsize } = statfsSync(scene.data)
    execFileSync('fallocate', ['-l', String(bavail * bsize - means.bytes), filler])
  } else {
    mkdirSync(filler)
    const { ffree } = statfsSync(scene.data)
    for (let number = means.names; number < ffree; number++)
      closeSync(openSync(join(filler, String(number)), 'w'))
  }
  const ended = await scene.startServer(argumentsOf(work, scene)).endWithin(endMsMax)
  await comesTrue(() => scene.agentIsIdle)
  await runCommand(['rm', '-rf', filler])
  return { ended, hit: ended.code !== 0 }
}

async function strikeClock(
  scene: Scene,
  work: Work,
  { victim, seconds, line }: Means & { at: 'clock' },
): Promise<Struck> {
  const clock = scene.site.at('clock')
  const off = `${seconds < 0 ? '' : '+'}${seconds}`
  writeFileSync(clock, line === null ? off : '+0')
  const env = {
    LD_PRELOAD: fakeTimeLibrary()!,
    FAKETIME_TIMESTAMP_FILE: clock,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  }
  let hit = line === null
  if (line !== null) {
    const onStrike = () => {
      hit = true
      writeFileSync(clock, off)
    }
    void scene.proxy.arm({ ...line, onStrike })
  }
  const server = await begin(scene, work, victim, { env })
  const ended = await server.endWithin(endMsMax)
  if (victim === 'agent' && scene.host.isRunning) await scene.host.stop()
  return { ended, hit }
}

/** What moves the wall clock of a program; `null` where the machine has none. */
export function fakeTimeLibrary(): string | null {
  const { stdout } = spawnSync('sh', ['-c', 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'], {
    encoding: 'utf8',
  })
  const [path] = (stdout ?? '').split('\n')
  return path && existsSync(path) ? path : null
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
