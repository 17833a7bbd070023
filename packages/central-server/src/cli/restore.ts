import { resolve } from 'node:path'
import { type Overwrite, overwrites, planRestore } from '@central-backup/archive'
import { Option } from 'commander'
import { holdForReading } from '../catalog/read-lease.ts'
import { chooseRun } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'
import { restore } from '../jobs/restore.ts'
import { StandingSource, selectPaths } from '../jobs/standing-source.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import type { Invocation } from './invocation.ts'
import { parseMoment } from './moment.ts'
import { watchRestore } from './restore-display.ts'
import { restoreThroughAgent } from './restore-to-host.ts'
import { untilSignal } from './signals.ts'
import { TargetWatch } from './target-watch.ts'
import { tellPlan, tellReport, tellRun } from './tell-restore.ts'

export interface RestoreCommandOptions {
  target?: string
  toHost?: string | true
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
      .option('--target <dir>', 'where to; nothing outside of it is written')
      .option(
        '--to-host [name]',
        'restore through the agent of that host (of HOST if not given) to a folder there',
      )
      .option('--at <time|run>', 'a time, or the id of a run', 'latest')
      .option('--dry-run', 'only tell what would be done')
      .addOption(
        new Option('--overwrite <when>', 'replace what is there and differs')
          .choices(overwrites)
          .default('never'),
      )
    command.option('--numeric-ids', 'give owners the numbers that they had, whatever their names are there')
    command.addHelpText('after', '  backup-server restore web1 /etc --to-host web2 --target /srv/restore')
    command.action(async (host: string, paths: string[], options: RestoreCommandOptions) => {
      if (options.target === '') throw new UsageError('--target names no folder')
      if (options.toHost !== undefined) await restoreThroughAgent(invocation, host, paths, options)
      else await restoreHere(invocation, host, paths, options)
    })
  },
}

async function restoreHere(
  invocation: Invocation,
  host: string,
  paths: readonly string[],
  { target, at, dryRun = false, overwrite, numericIds = false }: RestoreCommandOptions,
): Promise<void> {
  if (target === undefined) {
    throw new UsageError('Nothing says where to restore to', {
      hint: '--target DIR restores to a folder here, --to-host to the host itself.',
    })
  }
  const { now, workingDirectory } = invocation.surroundings
  const { settings } = await invocation.loadConfiguration()
  const repository = await openRepository(settings.repository)
  using catalog = invocation.openCatalogToRead(repository.catalogFile, [host])
  using _reading = holdForReading(catalog, [host])
  const run = chooseRun(catalog, host, parseMoment(at, now()))
  const under = selectPaths(catalog, run, paths)
  await using source = new StandingSource(catalog, repository, run, under)
  const folder = resolve(workingDirectory, target)
  tellRun(invocation, run, folder)
  if (!dryRun) return await apply(invocation, source, host, folder, { overwrite, numericIds })
  const plan = tellPlan(invocation)
  using watch = new TargetWatch(folder)
  for (const step of planRestore(watch.follow(source), folder, overwrite, numericIds)) plan.add(step)
  plan.end()
}

async function apply(
  invocation: Invocation,
  source: StandingSource,
  host: string,
  target: string,
  rules: { overwrite: Overwrite; numericIds: boolean },
): Promise<void> {
  using stop = untilSignal()
  using display = watchRestore(invocation, host, () => source.contentBytes())
  using watch = new TargetWatch(target)
  const observer = watch.observe(display)
  const report = await restore(watch.follow(source), target, { ...rules, observer, signal: stop.signal })
  display[Symbol.dispose]()
  tellReport(invocation, report)
}
