import { exitCodes } from '../exit-codes.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import { type HostStatus, hostStatus } from '../jobs/host-status.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatDuration, formatTable, formatTime } from './format.ts'
import { printable } from './printable.ts'
import { reportProblems } from './report-problems.ts'

export const statusCommand: CommandDefinition = {
  words: 'status',
  summary: 'tell the last good run of each host; exit code 1 where one is late',
  example: 'backup-server -q status || echo "a backup is late"',
  define(command, invocation) {
    command.argument('[host...]', 'of these hosts only')
    command.action(async (names: string[]) => {
      const configuration = await invocation.loadConfiguration()
      const { hosts, problems } = chooseHosts(configuration, names)
      const repository = await openRepository(configuration.settings.repository)
      const { now } = invocation.surroundings
      using catalog = invocation.openCatalogToRead(
        repository.catalogFile,
        names.length === 0 ? undefined : names,
      )
      const statuses = hosts.map((host) => hostStatus(catalog, host, now()))
      invocation.report({ hosts: statuses, problems }, describeStatuses(statuses))
      if (statuses.some(({ state }) => state === 'late')) invocation.exitCode = exitCodes.failed.code
      reportProblems(invocation, problems)
    })
  },
}

function describeStatuses(statuses: readonly HostStatus[]): string[] {
  if (statuses.length === 0) return ['There are no hosts yet: backup-server host add NAME --address HOST']
  const head = ['HOST', 'STATE', 'LAST GOOD RUN', 'AGE', 'OUTCOME', 'ARCHIVE', 'LAST RUN']
  const rows = statuses.map(({ host, state, lastGood, lastRun }) => [
    printable(host),
    state,
    lastGood === null ? 'never' : formatTime(lastGood.startedAtMs),
    lastGood === null ? '' : formatDuration(lastGood.ageMs),
    lastGood?.outcome ?? '',
    lastGood === null ? '' : formatBytes(lastGood.archiveBytes),
    lastRun === null || lastRun.run === lastGood?.run
      ? ''
      : printable(`${lastRun.outcome}${lastRun.error === null ? '' : `: ${lastRun.error.message}`}`),
  ])
  return formatTable(head, rows, [3, 5])
}
