/** What the design promises, section 11: how long ours may take, as a share of what a peer takes. */
import type { ChosenWork, WorkKind } from './works.ts'

interface Goal {
  kinds: readonly WorkKind[]
  trees: readonly ChosenWork['tree'][]
  peers: readonly string[]
  ratioMax: number
}

const goals: readonly Goal[] = [
  { kinds: ['full'], trees: ['small'], peers: ['tar'], ratioMax: 1.25 },
  { kinds: ['full'], trees: ['large'], peers: ['tar'], ratioMax: 1.1 },
  { kinds: ['full'], trees: ['small', 'large'], peers: ['ssh'], ratioMax: 1 },
  { kinds: ['unchanged'], trees: ['small'], peers: ['rsync'], ratioMax: 1 },
  {
    kinds: ['full', 'unchanged', 'changed'],
    trees: ['small', 'large', 'million'],
    peers: ['borg', 'borg-ssh', 'restic'],
    ratioMax: 0.5,
  },
  { kinds: ['restore-one'], trees: ['small', 'large', 'million'], peers: ['tar'], ratioMax: 0.05 },
]

/** The most memory that the agent, and the server, may have. */
export const peakBytesMax = 256 * 1024 * 1024

/** `null` where the design says nothing. */
export function ratioGoal({ kind, tree }: ChosenWork, peer: string): number | null {
  const goal = goals.find(
    ({ kinds, trees, peers }) => kinds.includes(kind) && trees.includes(tree) && peers.includes(peer),
  )
  return goal?.ratioMax ?? null
}
