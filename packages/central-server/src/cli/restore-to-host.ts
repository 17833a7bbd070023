import { holdForReading } from '../catalog/read-lease.ts'
import { chooseRun } from '../catalog/versions.ts'
import { ConfigurationError, UsageError } from '../errors.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import { openContext } from '../jobs/open-context.ts'
import { restoreToHost } from '../jobs/restore-to-host.ts'
import { StandingSource, selectPaths } from '../jobs/standing-source.ts'
import type { Invocation } from './invocation.ts'
import { parseMoment } from './moment.ts'
import { printable } from './printable.ts'
import type { RestoreCommandOptions } from './restore.ts'
import { type RestoreDisplay, watchRestore } from './restore-display.ts'
import { untilSignal } from './signals.ts'
import { tellPlan, tellReport, tellRun } from './tell-restore.ts'

/** The agent decides, writes and verifies; what is told of it looks the same. */
export async function restoreThroughAgent(
  invocation: Invocation,
  host: string,
  paths: readonly string[],
  { target, toHost, at, dryRun = false, overwrite, numericIds = false }: RestoreCommandOptions,
): Promise<void> {
  const name = toHost === true ? host : toHost!
  checkRemoteNames(name, target)
  const { now } = invocation.surroundings
  const configuration = await invocation.loadConfiguration()
  const [receiver] = chooseHosts(configuration, [name]).hosts
  if (receiver === undefined) {
    const problems = configuration.problems.filter((problem) => problem.host === name)
    throw new ConfigurationError(`The module of ${name} cannot be used`, problems)
  }
  using stop = untilSignal()
  using context = await openContext(configuration.settings, {
    now,
    signal: stop.signal,
    watched: { hosts: [host, name] },
  })
  using _reading = holdForReading(context.catalog, [host])
  const run = chooseRun(context.catalog, host, parseMoment(at, now()))
  const under = selectPaths(context.catalog, run, paths)
  await using source = new StandingSource(context.catalog, context.repository, run, under)
  const plan = tellPlan(invocation)
  // Not before it begins: a bar is for work.
  let display: RestoreDisplay | null = null
  try {
    const request = { source, run, target: target ?? null, overwrite, numericIds, dryRun }
    const report = await restoreToHost(context, receiver, request, {
      onRetry: (error, attempt) => invocation.note(`${name}: ${error.message}; attempt ${attempt} follows`),
      onBegin(chosen) {
        tellRun(invocation, run, chosen, name)
        if (!dryRun) display = watchRestore(invocation, name, () => source.contentBytes())
      },
      onStep: (step) => plan.add(step),
      onProgress: (progress) => display?.onProgress?.(progress),
      onProblem: (problem) => display?.onProblem?.(problem),
      onMoreProblems: (message) => display?.onMoreProblems(message),
    })
    endDisplay(display)
    if (report === null) plan.end()
    else tellReport(invocation, report)
  } catch (error) {
    if (stop.signal.aborted) throw stop.signal.reason
    throw error
  } finally {
    endDisplay(display)
  }
}

/** `null` where it came to none. */
function endDisplay(display: Disposable | null): void {
  display?.[Symbol.dispose]()
}

/** What follows `--to-host` is taken for its name, also where a path was meant. */
function checkRemoteNames(name: string, target: string | undefined): void {
  if (name.includes('/')) {
    throw new UsageError(`--to-host names ${printable(name)}, which is no host`, {
      hint: 'Name paths before it: backup-server restore HOST PATH… --to-host [NAME].',
    })
  }
  if (target !== undefined && !target.startsWith('/')) {
    throw new UsageError(`--target ${printable(target)} is no absolute path`, {
      hint: 'On another host there is no current folder: name the whole path.',
    })
  }
}
