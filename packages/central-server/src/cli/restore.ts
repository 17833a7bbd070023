import { resolve } from 'node:path'
import { type Overwrite, overwrites, planRestore, textFromBytes } from '@central-backup/archive'
import { Option } from 'commander'
import { Catalog, type Run } from '../catalog/catalog.ts'
import { chooseRun } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'
import { exitCodeOfRestore, restore } from '../jobs/restore.ts'
import { StandingSource, selectPaths } from '../jobs/standing-source.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatCount, formatTime } from './format.ts'
import type { Invocation } from './invocation.ts'
import { parseMoment } from './moment.ts'
import { printable } from './printable.ts'
import { describeReport, reportFields, watchRestore } from './restore-display.ts'
import { untilSignal } from './signals.ts'

interface Options {
  target: string
  at: string
  dryRun?: boolean
  overwrite: Overwrite
  numericIds?: boolean
}

export const restoreCommand: CommandDefinition = {
  words: 'restore',
  summary: 'bring back what stood at a time: /etc/hosts comes back as DIR/etc/hosts',
  example: "backup-server restore web1 /etc /home/eve --target /srv/restored --at '3 days ago'",
  define(command, invocation) {
    command
      .argument('<host>')
      .argument('[path...]', 'only these, and what is below them')
      .requiredOption('--target <dir>', 'where to; nothing outside of it is written')
      .option('--at <time|run>', 'a time, or the id of a run', 'latest')
      .option('--dry-run', 'only tell what would be done')
      .addOption(
        new Option('--overwrite <when>', 'replace what is there and differs')
          .choices(overwrites)
          .default('never'),
      )
    command.option('--numeric-ids', 'give owners the numbers that they had, whatever their names are here')
    command.action(async (host: string, paths: string[], options: Options) => {
      const { now, workingDirectory } = invocation.surroundings
      if (options.target === '') throw new UsageError('--target names no folder')
      const { settings } = await invocation.loadConfiguration()
      const repository = await openRepository(settings.repository)
      using catalog = new Catalog(repository.catalogFile, { now })
      const run = chooseRun(catalog, host, parseMoment(options.at, now()))
      const under = selectPaths(catalog, run, paths)
      await using source = new StandingSource(catalog, repository, run, under)
      const target = resolve(workingDirectory, options.target)
      tellRun(invocation, run, target)
      if (options.dryRun) plan(invocation, source, target, options)
      else await apply(invocation, source, host, target, options)
    })
  },
}

/** Which moment it is that comes back, as a time or a default may mean another than was thought. */
function tellRun(invocation: Invocation, run: Run, target: string): void {
  const { id, host, startedAtMs, outcome } = run
  if (invocation.options.json) {
    invocation.report({ event: 'begin', host, run: id, startedAtMs, outcome, target }, [])
    return
  }
  invocation.note(`${host}: run ${id} of ${formatTime(startedAtMs)}, to ${printable(target)}`)
  if (outcome === 'incomplete')
    invocation.warn(`${host}: that run is incomplete: what it could not read is missing`)
}

function plan(invocation: Invocation, source: StandingSource, target: string, options: Options): void {
  const totals = { create: 0, replace: 0, update: 0, keep: 0, equal: 0 }
  let contentBytes = 0
  for (const { path, type, action, bytes } of planRestore(
    source,
    target,
    options.overwrite,
    options.numericIds ?? false,
  )) {
    totals[action]++
    contentBytes += bytes
    const shown = `/${textFromBytes(path)}`
    invocation.report({ event: 'entry', path: shown, type, action, bytes }, [
      `${action.padEnd(7)} ${printable(shown)}`,
    ])
  }
  if (invocation.options.json) invocation.report({ event: 'end', ...totals, contentBytes }, [])
  else {
    const { create, replace, update, keep, equal } = totals
    invocation.note(
      `would create ${formatCount(create)}, replace ${formatCount(replace)}, update ${formatCount(update)} folders, ` +
        `keep ${formatCount(keep)}; ${formatCount(equal)} are there already; ${formatBytes(contentBytes)} to write`,
    )
  }
}

async function apply(
  invocation: Invocation,
  source: StandingSource,
  host: string,
  target: string,
  { overwrite, numericIds = false }: Options,
): Promise<void> {
  using stop = untilSignal()
  using display = watchRestore(invocation, host, () => source.contentBytes())
  const report = await restore(source, target, {
    overwrite,
    numericIds,
    observer: display,
    signal: stop.signal,
  })
  display[Symbol.dispose]()
  if (invocation.options.json) invocation.report({ event: 'end', ...reportFields(report) }, [])
  else for (const line of describeReport(report)) invocation.note(line)
  invocation.exitCode = exitCodeOfRestore(report)
}
