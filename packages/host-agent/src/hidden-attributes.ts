import { readFileSync } from 'node:fs'
import type { Warning } from './warnings.ts'

/** Bit of CAP_SYS_ADMIN in the masks of proc(5), /proc/pid/status. */
const sysAdminBit = 21n

/**
 * What has to be said of a run where the kernel hides attributes from this process: those of the namespace `trusted` are
 * not even listed without CAP_SYS_ADMIN, and so would be missing without a word. `null` where nothing is hidden, and for
 * an agent that is not root, which is known to see less. `status` is the file /proc/self/status.
 */
export function hiddenAttributes(
  status = readFileSync('/proc/self/status', 'latin1'),
  user = process.geteuid!(),
): Warning | null {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  if (user !== 0 || effective === undefined) return null
  if (((BigInt(`0x${effective}`) >> sysAdminBit) & 1n) === 1n) return null
  return {
    code: 'attributes-hidden',
    path: null,
    message:
      'the agent has no CAP_SYS_ADMIN, so that it cannot see extended attributes of the namespace trusted, ' +
      'which overlay file systems of containers use, for one; there may be none',
  }
}
