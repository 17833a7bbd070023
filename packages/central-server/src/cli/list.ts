import type { Run } from '../catalog/catalog.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatCount, formatDuration, formatTable, formatTime } from './format.ts'
import { printable } from './printable.ts'

export const listCommand: CommandDefinition = {
  words: 'list',
  summary: 'list the runs, the newest last',
  example: 'backup-server list web1',
  define(command, invocation) {
    command.argument('[host]', 'of this host only')
    command.action(async (host: string | undefined) => {
      using catalog = invocation.openCatalogToRead(
        await invocation.findCatalog(),
        host === undefined ? undefined : [host],
      )
      const runs = catalog.runs(host).reverse()
      const lines =
        runs.length === 0
          ? [`No runs yet${host === undefined ? '' : ` of ${printable(host)}`}.`]
          : describeRuns(runs)
      invocation.report({ runs: runs.map(reportRun) }, lines)
    })
  },
}

/** A run as `--json` gives it. */
export function reportRun(run: Run): object {
  const archive = run.archive && { ...run.archive, digest: Buffer.from(run.archive.digest).toString('hex') }
  return { ...run, archive }
}

function describeRuns(runs: readonly Run[]): string[] {
  const head = ['RUN', 'HOST', 'STARTED', 'TOOK', 'KIND', 'OUTCOME', 'FILES', 'CONTENT', 'ARCHIVE', 'NAME']
  const rows = runs.map((run) => [
    String(run.id),
    printable(run.host),
    formatTime(run.startedAtMs),
    run.finishedAtMs === null ? '' : formatDuration(run.finishedAtMs - run.startedAtMs),
    run.kind,
    run.pinned ? `${run.outcome}, pinned` : run.outcome,
    formatCount(run.counts.files ?? 0),
    formatBytes(run.contentBytes),
    run.archive === null ? '' : formatBytes(run.archive.bytes),
    printable(run.archive?.name ?? run.error?.message ?? ''),
  ])
  return formatTable(head, rows, [0, 3, 6, 7, 8])
}
