import { textFromBytes } from '@central-backup/archive'
import type { Run } from '../catalog/catalog.ts'
import type { Host } from '../config/hosts.ts'
import { exitCodeOfError, exitCodeOfOutcome, worstExitCode } from '../exit-codes.ts'
import { type BackUpObserver, backUp } from '../jobs/back-up.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import { type HostListing, listHosts } from '../jobs/list-host.ts'
import { openContext } from '../jobs/open-context.ts'
import type { HostResult } from '../jobs/run-report.ts'
import type { ServerContext } from '../jobs/server-context.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatCount } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { describeError } from './report-error.ts'
import { reportProblems } from './report-problems.ts'
import { watchInLines, watchOnTerminal } from './run-display.ts'
import { untilSignal } from './signals.ts'

interface Options {
  full?: boolean
  dryRun?: boolean
  strict?: boolean
}

export const runCommand: CommandDefinition = {
  words: 'run',
  summary: 'back up all hosts, or those that are named (what backup-server does without a command)',
  example: 'backup-server run web1 --strict',
  isDefault: true,
  define(command, invocation) {
    command
      .argument('[host...]', 'these hosts only, also disabled ones')
      .option('--full', 'pack everything, whatever earlier runs have')
      .option('--dry-run', 'only list what would be packed, and what would not and why')
      .option('--strict', 'exit with 3 where files changed while they were read')
    command.action(async (names: string[], options: Options) => {
      const configuration = await invocation.loadConfiguration()
      const { hosts, problems } = chooseHosts(configuration, names)
      using stop = untilSignal()
      using context = await openContext(configuration.settings, {
        now: invocation.surroundings.now,
        signal: stop.signal,
        watched: names.length === 0 ? undefined : { hosts: names },
      })
      if (options.dryRun) await dryRun(invocation, context, hosts)
      else await run(invocation, context, hosts, options)
      reportProblems(invocation, problems)
      if (stop.signal.aborted) throw stop.signal.reason
      if (hosts.length === 0 && problems.length === 0)
        invocation.warn('There are no hosts yet: backup-server host add NAME --address HOST')
    })
  },
}

async function run(
  invocation: Invocation,
  context: ServerContext,
  hosts: readonly Host[],
  { full = false, strict = false }: Options,
): Promise<void> {
  using display = chooseDisplay(invocation, context)
  const results = await backUp(context, hosts, { full }, display)
  invocation.exitCode = worstExitCode(
    results.map(({ outcome, error }) => exitCodeOfOutcome(outcome, error, strict)),
  )
}

function chooseDisplay(invocation: Invocation, context: ServerContext): BackUpObserver & Disposable {
  const { json, quiet } = invocation.options
  if (json) return jsonLines(invocation)
  if (!process.stderr.isTTY || quiet) return watchInLines(invocation)
  return watchOnTerminal((host) => entriesOf(context.catalog.lastGoodRun(host)))
}

/** How many entries a run met, changed or not. */
function entriesOf(run: Run | null): number | null {
  if (run === null) return null
  const {
    files = 0,
    directories = 0,
    symlinks = 0,
    hardlinks = 0,
    specials = 0,
    sockets = 0,
    unchanged = 0,
  } = run.counts
  return files + directories + symlinks + hardlinks + specials + sockets + unchanged
}

/** One JSON object a line, each with `event` and `host`. */
function jsonLines(invocation: Invocation): BackUpObserver & Disposable {
  const emit = (event: string, host: string, fields: object) =>
    invocation.report({ event, host, ...fields }, [])
  return {
    onBegin(host) {
      emit('begin', host.name, {})
      return {
        onRetry: (error, attempt) =>
          emit('retry', host.name, { attempt, code: error.code, message: error.message }),
        onConnected: (software) => emit('connected', host.name, { software }),
        onWarning: ({ code, path, message }) =>
          emit('warning', host.name, { code, path: path && textFromBytes(path), message }),
        onProgress(progress) {
          // Who does not read is told of what came to something, and of what went wrong; that is bounded.
          if (invocation.outputIsBehind) return
          emit('progress', host.name, { ...progress, path: progress.path && textFromBytes(progress.path) })
        },
      }
    },
    onEnd: (result) => emit('end', result.host, reportResult(result)),
    [Symbol.dispose]() {},
  }
}

/** A result as `--json` gives it. The warnings were told one by one before. */
function reportResult({ warnings: _, host: __, error, ...rest }: HostResult): object {
  return { ...rest, error: error === null ? null : describeError(error) }
}

async function dryRun(invocation: Invocation, context: ServerContext, hosts: readonly Host[]): Promise<void> {
  const { stdout } = invocation.surroundings
  const listings = await listHosts(context, hosts, {
    ready: () => invocation.outputReady(),
    onEntry(host, entry) {
      const path = `/${textFromBytes(entry.path)}`
      if (invocation.options.json)
        invocation.report({ event: 'entry', host, path, type: entry.type, size: entry.size }, [])
      else stdout.write(`${host}: ${printable(path)}\n`)
    },
    onLeftOut(host, { path, reason, message }) {
      const shown = textFromBytes(path)
      if (invocation.options.json)
        invocation.report({ event: 'left-out', host, path: shown, reason, message }, [])
      else stdout.write(`${host}: left out: ${printable(shown)} (${reason}: ${printable(message)})\n`)
    },
    onWarning(host, { code, path, message }) {
      const shown = path === null ? null : textFromBytes(path)
      if (invocation.options.json)
        invocation.report({ event: 'warning', host, code, path: shown, message }, [])
      else invocation.warn(`${host}: ${code}: ${printable([shown, message].filter(Boolean).join(': '))}`)
    },
  })
  for (const listing of listings) reportListing(invocation, listing)
  invocation.exitCode = worstExitCode(
    listings.map(({ outcome, error }) =>
      error === null ? exitCodeOfOutcome(outcome, error, false) : exitCodeOfError(error),
    ),
  )
}

function reportListing(invocation: Invocation, { host, outcome, counts, error }: HostListing): void {
  if (invocation.options.json)
    invocation.report({ event: 'end', host, outcome, counts, error: error && describeError(error) }, [])
  else if (error !== null) invocation.warn(printable(`${host}: ${error.message}`))
  else
    invocation.note(
      `${host}: would pack ${formatCount(counts!.files)} files, ${formatBytes(counts!.contentBytes)}; ${formatCount(counts!.excluded)} left out`,
    )
}
