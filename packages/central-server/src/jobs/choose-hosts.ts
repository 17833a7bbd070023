import type { Host, HostProblem } from '../config/hosts.ts'
import type { Configuration } from '../config/load.ts'
import { UsageError } from '../errors.ts'

/**
 * The hosts that were named, disabled ones too; all that are not disabled where none was. Problems are those of the
 * chosen ones. Throws `UsageError` for a name that no module has.
 */
export function chooseHosts(
  { hosts, problems }: Configuration,
  names: readonly string[],
): { hosts: Host[]; problems: HostProblem[] } {
  if (names.length === 0) return { hosts: hosts.filter(({ disabled }) => !disabled), problems }
  const known = new Set([...hosts.map(({ name }) => name), ...problems.map(({ host }) => host)])
  const unknown = names.filter((name) => !known.has(name))
  if (unknown.length > 0) {
    const list = hosts.map(({ name }) => name).join(', ') || 'none'
    throw new UsageError(`There is no host ${unknown.join(', ')}`, {
      hint: `The hosts are: ${list}. A host is a file hosts/NAME.ts.`,
    })
  }
  return {
    hosts: hosts.filter(({ name }) => names.includes(name)),
    problems: problems.filter(({ host }) => host === null || names.includes(host)),
  }
}
