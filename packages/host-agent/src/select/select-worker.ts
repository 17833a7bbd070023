/** Thread that selects paths; its owner is `selectInThread`. */
import { parentPort, workerData } from 'node:worker_threads'
import { SharedState } from '@central-backup/archive'
import { type Selected, type SelectRequest, selectPaths } from './select.ts'

export interface SelectThreadRequest {
  request: SelectRequest
  state: SharedArrayBuffer
}

export type SelectThreadAnswer = { selected: Selected } | { message: string }

const { request, state } = workerData as SelectThreadRequest
const shared = new SharedState(state)
let answer: SelectThreadAnswer
try {
  answer = { selected: selectPaths(request, (path) => shared.approach(path)) }
} catch (error) {
  answer = { message: error instanceof Error ? error.message : String(error) }
}
parentPort!.postMessage(answer)
