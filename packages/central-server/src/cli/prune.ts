import { Catalog } from '../catalog/catalog.ts'
import { exitCodeOfError, exitCodes, worstExitCode } from '../exit-codes.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import { type PrunePlan, type PruneResult, planPrune, pruneHost } from '../jobs/prune.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatTable, formatTime } from './format.ts'
import { printable } from './printable.ts'
import { describeError } from './report-error.ts'
import { reportProblems } from './report-problems.ts'

export const pruneCommand: CommandDefinition = {
  words: 'prune',
  summary: 'remove runs that no rule of retention keeps, with a reason for each',
  example: 'backup-server prune --dry-run',
  define(command, invocation) {
    command
      .argument('[host...]', 'of these hosts only')
      .option('--dry-run', 'only tell what would be removed')
    command.action(async (names: string[], options: { dryRun?: boolean }) => {
      const configuration = await invocation.loadConfiguration()
      const { settings } = configuration
      const { hosts, problems } = chooseHosts(configuration, names)
      const repository = await openRepository(settings.repository)
      const { now } = invocation.surroundings
      using catalog = new Catalog(repository.catalogFile, {
        now,
        watched: names.length === 0 ? undefined : { hosts: names },
      })
      const context = { settings, repository, catalog, now }
      for (const host of hosts) {
        try {
          const dryRun = options.dryRun ?? false
          const result = dryRun ? null : await pruneHost(context, host)
          const plan = result ?? planPrune(context, host)
          if (result !== null && result.unread.length > 0)
            invocation.exitCode = worstExitCode([invocation.exitCode, exitCodes.incomplete.code])
          invocation.report(reportPlan(plan, dryRun, result), [
            ...describePlan(plan, dryRun || (result !== null && result.putOff !== null)),
            ...describeFailures(plan, dryRun || (result !== null && result.putOff !== null)),
            ...describeRepacks(host.name, result),
          ])
        } catch (error) {
          const report = describeError(error)
          invocation.report({ host: host.name, error: report }, [
            `${host.name}: ${printable(report.message)}`,
            ...(report.hint === undefined ? [] : [`Hint: ${printable(report.hint)}`]),
          ])
          invocation.exitCode = worstExitCode([invocation.exitCode, exitCodeOfError(error)])
        }
      }
      reportProblems(invocation, problems)
    })
  },
}

function reportPlan(
  { host, decisions, refusal, oldFailures }: PrunePlan,
  dryRun: boolean,
  result: PruneResult | null,
): object {
  const { repacked = [], refused = [], unread = [], emptied = [], putOff = null } = result ?? {}
  return { host, dryRun, refusal, putOff, decisions, oldFailures, repacked, refused, unread, emptied }
}

function describeFailures({ host, oldFailures }: PrunePlan, dryRun: boolean): string[] {
  if (oldFailures.length === 0) return []
  const forgotten = dryRun ? 'would be forgotten' : 'are forgotten'
  return [
    `${host}: ${oldFailures.length} runs that failed more than 30 days ago and left nothing ${forgotten}`,
  ]
}

function describeRepacks(host: string, result: PruneResult | null): string[] {
  const { repacked = [], refused = [], unread = [], putOff = null } = result ?? {}
  return [
    ...(putOff === null ? [] : [`${host}: put off until the next prune: ${printable(putOff)}`]),
    ...repacked.map(
      ({ archive, bytesBefore, bytes, absorbed }) =>
        `${host}: ${archive} was packed anew${describeAbsorbed(absorbed)}: ${formatBytes(bytesBefore)} became ${formatBytes(bytes)}`,
    ),
    ...refused.map(
      ({ archive, reason, sinceMs }) =>
        `${host}: ${archive} is not packed anew${sinceMs === null ? '' : `, as was found ${formatTime(sinceMs)}`}: ${printable(reason)}`,
    ),
    ...unread.map(
      ({ archive, reason }) =>
        `${host}: ${archive} stays as it is until the next prune: ${printable(reason)}`,
    ),
  ]
}

function describeAbsorbed(absorbed: readonly string[]): string {
  if (absorbed.length === 0) return ''
  return absorbed.length === 1
    ? `, and took over ${absorbed[0]}`
    : `, and took over ${absorbed.length} before it`
}

function describePlan({ host, runs, decisions, refusal, hasRules }: PrunePlan, dryRun: boolean): string[] {
  if (!hasRules)
    return [
      `${host}: has no rules, so all of its ${runs.length} runs stay; set retention in its module or in settings.ts`,
    ]
  const removed = dryRun ? 'would go' : 'removed'
  const byId = new Map(runs.map((run) => [run.id, run]))
  const rows = decisions.map(({ run, action, reasons }) => {
    const { startedAtMs, outcome } = byId.get(run)!
    return [
      host,
      String(run),
      formatTime(startedAtMs),
      outcome,
      action === 'keep' ? 'stays' : removed,
      printable(reasons.join(', ')),
    ]
  })
  const table = formatTable(['HOST', 'RUN', 'STARTED', 'OUTCOME', 'DECISION', 'REASON'], rows, [1])
  return refusal === null ? table : [...table, `${host}: nothing is removed: ${refusal}`]
}
