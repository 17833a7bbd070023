/** Thread that restores; its owner is `RestoreThread`. The messages between the two are types here. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import {
  ArchiveError,
  type BytePath,
  type Overwrite,
  type PlannedStep,
  planRestore,
  RestorePlanner,
  type RestoreProblem,
  type RestoreReport,
  restoreTree,
  SharedState,
} from '@central-backup/archive'
import {
  type Message,
  type MessageOf,
  type MessageType,
  ProtocolError,
  type ProtocolErrorCode,
  planStepsMax,
  type RestorePhase,
} from '@central-backup/protocol'
import type { RestorePlace } from '../policy.ts'
import { absolutePath } from '../warnings.ts'
import type { Conversation, RestoreMessage } from './conversation.ts'
import { RemoteSource } from './remote-source.ts'

export interface RestoreThreadRequest {
  place: RestorePlace
  overwrite: Overwrite
  numericIds: boolean
  dryRun: boolean
  state: SharedArrayBuffer
  /** Brings the server's messages, one for each `receive`. */
  incoming: MessagePort
}

export interface ThreadProgress {
  phase: RestorePhase
  entries: number
  contentBytes: number
  path: BytePath
}

export type FromRestoreThread =
  | { type: 'send'; message: RestoreMessage }
  | { type: 'receive'; types: readonly MessageType[] }
  | { type: 'progress'; progress: ThreadProgress }
  | { type: 'problem'; problem: RestoreProblem }
  /** The report of a restore, `null` after a dry run. */
  | { type: 'done'; report: RestoreReport | null }
  | { type: 'failed'; code: ProtocolErrorCode; message: string; hint?: string | undefined; stack?: string }

/** The owner wants no more of it, and knows why. */
class Cancelled extends Error {}

/** A path in a `restore-plan`, and what stands beside it; such a message has 1 MiB at most. */
const planBytesMax = 512 * 1024
const stepBytes = 64

const post = (message: FromRestoreThread) => parentPort!.postMessage(message)

function converse(state: SharedState, incoming: MessagePort): Conversation {
  const take = () => receiveMessageOnPort(incoming)?.message as Message | undefined
  return {
    send: (message) => post({ type: 'send', message }),
    receive<T extends MessageType>(types: readonly T[]): MessageOf<T> {
      post({ type: 'receive', types })
      const message = state.waitFor(take)
      if (message === null) throw new Cancelled()
      return asBuffers(message) as MessageOf<T>
    },
    approach(path) {
      if (state.isCancelled) throw new Cancelled()
      state.approach(path)
      state.addEntry()
    },
  }
}

/** Buffers come through a port as what they are made of. */
function asBuffers(message: Message): Message {
  if (!('payload' in message)) return message
  const { buffer, byteOffset, byteLength } = message.payload
  return { ...message, payload: Buffer.from(buffer, byteOffset, byteLength) }
}

/** Tells the server what would be done, in messages of many steps. */
function sendPlan(steps: Iterable<PlannedStep>, conversation: Conversation): void {
  let message: MessageOf<'restore-plan'> = { type: 'restore-plan', steps: [] }
  let bytes = 0
  let entries = 0
  const flush = () => {
    if (message.steps.length > 0) conversation.send(message)
    message = { type: 'restore-plan', steps: [] }
    bytes = 0
  }
  for (const { path, ...step } of steps) {
    bytes += path.length + stepBytes
    if (message.steps.length === planStepsMax || bytes > planBytesMax) flush()
    message.steps.push({ path: absolutePath(path), ...step })
    entries++
    if (entries % planStepsMax === 0)
      post({ type: 'progress', progress: { phase: 'plan', entries, contentBytes: 0, path } })
  }
  flush()
}

async function run(request: RestoreThreadRequest): Promise<void> {
  const { place, overwrite, numericIds, dryRun, state, incoming } = request
  const conversation = converse(new SharedState(state), incoming)
  const { folder, subfolder } = place
  const rules = { overwrite, numericIds, subfolder }
  if (dryRun) {
    const source = new RemoteSource(conversation)
    sendPlan(planRestore(source, folder, overwrite, numericIds, subfolder), conversation)
    post({ type: 'done', report: null })
    return
  }
  // By the same decisions as the restore, a little earlier.
  using planner = new RestorePlanner({ entryAt: () => null }, folder, rules)
  const source = new RemoteSource(conversation, (entry) => planner.step(entry).bytes > 0)
  const report = await restoreTree(source, folder, {
    ...rules,
    signal: source.ended,
    observer: {
      onProgress: (progress) => post({ type: 'progress', progress }),
      onProblem: (problem) => post({ type: 'problem', problem }),
    },
  })
  post({ type: 'done', report })
}

function describe(error: unknown): FromRestoreThread {
  if (error instanceof ProtocolError) {
    const { code, message, hint } = error
    return { type: 'failed', code, message, hint }
  }
  if (error instanceof ArchiveError)
    return { type: 'failed', code: 'target-failed', message: error.message, hint: error.hint }
  const { message, stack = '' } = error instanceof Error ? error : new Error(String(error))
  return { type: 'failed', code: 'internal', message, stack }
}

try {
  await run(workerData as RestoreThreadRequest)
} catch (error) {
  if (!(error instanceof Cancelled)) post(describe(error))
}
