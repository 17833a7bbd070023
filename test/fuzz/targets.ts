/** All that is fuzzed, in the order in which it is: a new target is added to the list of its package. */
import { archiveTargets } from '../../packages/archive/test/fuzz/targets.ts'
import { serverTargets } from '../../packages/central-server/test/fuzz/targets.ts'
import { agentTargets } from '../../packages/host-agent/test/fuzz/targets.ts'
import { protocolTargets } from '../../packages/protocol/test/fuzz/targets.ts'
import type { FuzzTarget } from './target.ts'

export const allTargets: readonly FuzzTarget[] = [
  ...protocolTargets,
  ...archiveTargets,
  ...serverTargets,
  ...agentTargets,
]
