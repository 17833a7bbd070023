import { Command, CommanderError, Option } from 'commander'
import { UsageError } from '../errors.ts'
import { type ExitCode, exitCodes, worstExitCode } from '../exit-codes.ts'
import { softwareVersion } from '../version.ts'
import { catalogRebuildCommand } from './catalog-rebuild.ts'
import { certsChangeCaCommand } from './certs-change-ca.ts'
import { certsListCommand } from './certs-list.ts'
import { certsRenewCommand } from './certs-renew.ts'
import { certsRevokeCommand } from './certs-revoke.ts'
import { checkCommand } from './check.ts'
import type { CommandDefinition } from './command.ts'
import { exportCommand } from './export.ts'
import { findCommand } from './find.ts'
import { hostAddCommand } from './host-add.ts'
import { hostEnrollCommand } from './host-enroll.ts'
import { initCommand } from './init.ts'
import { Invocation, type Surroundings } from './invocation.ts'
import { listCommand } from './list.ts'
import { lsCommand } from './ls.ts'
import { pinCommand, unpinCommand } from './pin.ts'
import { pruneCommand } from './prune.ts'
import { describeError, reportError } from './report-error.ts'
import { restoreCommand } from './restore.ts'
import { runCommand } from './run.ts'
import { statusCommand } from './status.ts'
import { verifyCommand } from './verify.ts'

/** All commands, in the order of the help. */
const commands: readonly CommandDefinition[] = [
  initCommand,
  hostAddCommand,
  hostEnrollCommand,
  checkCommand,
  runCommand,
  statusCommand,
  listCommand,
  lsCommand,
  findCommand,
  restoreCommand,
  exportCommand,
  verifyCommand,
  pruneCommand,
  pinCommand,
  unpinCommand,
  catalogRebuildCommand,
  certsListCommand,
  certsRenewCommand,
  certsRevokeCommand,
  certsChangeCaCommand,
]

/** What the first word of commands of two words is about. */
const groupSummaries: Readonly<Record<string, string>> = {
  host: 'hosts that are backed up',
  catalog: 'what the server knows of its archives',
  certs: 'certificates of the authority, the server and the hosts',
}

/** Runs the program with the arguments after its name. Returns the exit code; never throws. */
export async function runProgram(args: readonly string[], surroundings: Surroundings): Promise<ExitCode> {
  const invocation = new Invocation(surroundings)
  // Needed before anything is parsed, for the errors of parsing itself.
  invocation.options.json = args.includes('--json')
  try {
    await buildProgram(invocation).parseAsync(args, { from: 'user' })
    return endWithDamage(invocation)
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportError(invocation, error)
    if (error.exitCode === 0) return exitCodes.ok.code
    return reportError(invocation, toUsageError(error))
  }
}

/**
 * What a command has done with a damaged catalog is of use, and not all. The error is the last word, as where it ends a
 * command.
 */
function endWithDamage(invocation: Invocation): ExitCode {
  const { catalogDamage, exitCode, options } = invocation
  if (catalogDamage === null) return exitCode
  if (options.json) invocation.report({ error: describeError(catalogDamage) }, [])
  return worstExitCode([exitCode, exitCodes.incomplete.code])
}

function buildProgram(invocation: Invocation): Command {
  const { stdout } = invocation.surroundings
  const program = new Command('backup-server')
    .description('Pulls backups from all hosts into plain .tar.zst files.')
    .version(softwareVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .option('--home <dir>', 'folder of settings.ts and hosts/ (see below)')
    .addOption(new Option('-v, --verbose', 'tell more').conflicts('quiet'))
    .addOption(new Option('-q, --quiet', 'tell only what is wrong').conflicts('verbose'))
    .option('--json', 'give the result as JSON on standard output')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut: (text) => stdout.write(text), writeErr: () => {}, outputError: () => {} })
    .exitOverride()
    .helpCommand(false)
    .addHelpText('after', () => describeProgram())
    .hook('preAction', (_, action) => {
      invocation.options = action.optsWithGlobals()
    })
  for (const definition of commands) addCommand(program, definition, invocation)
  return program
}

function addCommand(program: Command, definition: CommandDefinition, invocation: Invocation): void {
  const words = definition.words.split(' ')
  const name = words.pop()!
  const parent = words.length === 0 ? program : findGroup(program, words[0]!)
  const command = parent.command(name, { isDefault: definition.isDefault ?? false })
  command.description(definition.summary).addHelpText('after', `\nExample:\n  ${definition.example}`)
  definition.define(command, invocation)
}

function findGroup(program: Command, name: string): Command {
  const existing = program.commands.find((command) => command.name() === name)
  return existing ?? program.command(name).description(groupSummaries[name] ?? '')
}

function describeProgram(): string {
  const examples = commands.map(({ example }) => `  ${example}`)
  const codes = Object.values(exitCodes).map(
    ({ code, meaning }) => `  ${String(code).padStart(3)}  ${meaning}`,
  )
  return `
Home: --home, $BACKUP_SERVER_HOME, the current folder where it has hosts/, or /etc/central-backup

Examples:
${examples.join('\n')}

Exit codes, from the best to the worst; of several hosts, the worst one decides:
${codes.join('\n')}`
}

function toUsageError(error: CommanderError): UsageError {
  const hint = 'backup-server --help lists the commands; backup-server COMMAND --help explains one.'
  // Commander's way to say that a command is missing, where it would print its whole help.
  if (error.code === 'commander.help') return new UsageError('A command is missing', { hint })
  // A suggestion stands in a line of its own.
  const message = error.message.replace(/^error: /, '').replace(/\n(\(Did you mean [^\n]*)$/, ' $1')
  return new UsageError(message, { hint })
}
