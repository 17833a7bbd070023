import { textFromBytes } from '@central-backup/archive'
import { type FoundVersion, findVersions, type GoneSince } from '../catalog/find-versions.ts'
import { compileSearch } from '../catalog/search-pattern.ts'
import type { CommandDefinition } from './command.ts'
import { collect } from './command.ts'
import { entryLine, entryReport } from './entry-line.ts'
import { formatTime } from './format.ts'
import { printable } from './printable.ts'

export const findCommand: CommandDefinition = {
  words: 'find',
  summary: 'find every version of every file whose path matches, at any time',
  example: "backup-server find '*.conf' --host web1",
  define(command, invocation) {
    command
      .argument('<pattern>', 'part of a path, or a glob: without / it matches names, with / whole paths')
      .option('--host <name>', 'on this host only; repeatable', collect)
    command.action(async (pattern: string, options: { host?: string[] }) => {
      const search = compileSearch(pattern)
      using catalog = invocation.openCatalogToRead(await invocation.findCatalog(), options.host)
      let found = 0
      for (const host of options.host ?? catalog.hostNames()) {
        for (const version of findVersions(catalog, host, search)) {
          found++
          invocation.report(reportVersion(version), [describeVersion(version)])
          if (invocation.outputIsBehind) await invocation.outputReady()
        }
      }
      if (found === 0) invocation.note(`Nothing that was backed up matches ${printable(pattern)}`)
    })
  },
}

function reportVersion({ host, entry, firstRun, lastRun, gone }: FoundVersion): object {
  const moment = ({ id, startedAtMs }: { id: number; startedAtMs: number }) => ({ run: id, startedAtMs })
  return {
    ...{ host, ...entryReport(entry), first: moment(firstRun), last: moment(lastRun) },
    gone: gone && { ...moment(gone.run), reason: gone.reason },
  }
}

function describeVersion({ host, path, entry, firstRun, lastRun, gone }: FoundVersion): string {
  const runs = firstRun.id === lastRun.id ? `run ${firstRun.id}` : `runs ${firstRun.id} to ${lastRun.id}`
  return `${host}  ${formatTime(firstRun.startedAtMs)} - ${formatTime(lastRun.startedAtMs)} (${runs})  ${entryLine(entry, `/${textFromBytes(path)}`)}${gone === null ? '' : describeGone(gone)}`
}

function describeGone({ run, reason }: GoneSince): string {
  const why = { deleted: ': deleted', unselected: ': no longer selected', unknown: '' }[reason ?? 'unknown']
  return `  gone since ${formatTime(run.startedAtMs)} (run ${run.id})${why}`
}
