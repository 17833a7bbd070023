import { resolve } from 'node:path'
import { Command, CommanderError } from 'commander'
import { UsageError } from './errors.ts'
import type { PasswordInput } from './password-input.ts'
import { exitCodeOf, type Output, reportError } from './report.ts'
import { settingsFileDefault } from './settings-schema.ts'
import { software } from './version.ts'

/** The process around a command; a test gives its own. */
export interface Surroundings extends Output, PasswordInput {
  workingDirectory: string
  /** The user that runs the program. */
  uid: number
  /** Milliseconds since 1970. */
  now: () => number
}

interface GlobalOptions {
  config: string
  json?: boolean
}

/** Runs the program with the arguments after its name. Returns the exit code; never throws. */
export async function runProgram(args: readonly string[], surroundings: Surroundings): Promise<number> {
  // Known before anything is parsed, for the errors of parsing itself.
  const json = args.includes('--json')
  const result = { exitCode: 0 }
  try {
    await buildProgram(surroundings, result).parseAsync(args, { from: 'user' })
    return result.exitCode
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    const reported = error instanceof CommanderError ? toUsageError(error) : error
    reportError(reported, surroundings, json)
    return exitCodeOf(reported)
  }
}

/** What a command is given beside its own options. */
interface Call {
  surroundings: Surroundings
  settingsFile: string
  json: boolean
}

function buildProgram(surroundings: Surroundings, result: { exitCode: number }): Command {
  const program = new Command('backup-host')
    .description('The agent of central-backup on a host. Without a command, it serves in the foreground.')
    .version(software, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .option('--config <file>', 'the settings', settingsFileDefault)
    .option('--json', 'give the result as JSON on standard output')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => surroundings.stdout.write(text),
      writeErr: () => {},
      outputError: () => {},
    })
    .exitOverride()
    .helpCommand(false)
    .addHelpText('after', help)
  const call = (): Call => {
    const { config, json = false } = program.opts<GlobalOptions>()
    return { surroundings, settingsFile: resolve(surroundings.workingDirectory, config), json }
  }
  addServe(program, call)
  addEnroll(program, call)
  addInit(program, call)
  addCheck(program, call, result)
  addHashPassword(program, call)
  return program
}

/** What is no command ends up here, since this one is the default. */
function addServe(program: Command, call: () => Call): void {
  const serving = program
    .command('serve', { isDefault: true, hidden: true })
    .description('serve in the foreground')
  serving.argument('[word...]').action(async ([word]: string[]) => {
    if (word !== undefined)
      throw new UsageError(`There is no command ${JSON.stringify(word)}`, { hint: helpHint })
    const { readSettings } = await import('./settings.ts')
    const { settingsFile, surroundings } = call()
    const settings = readSettings(settingsFile, surroundings.uid)
    const { serve } = await import('./serve.ts')
    await serve(settings)
  })
}

function addEnroll(program: Command, call: () => Call): void {
  interface Options {
    listen?: string
    address?: string
    seconds?: string
    force?: boolean
  }
  program
    .command('enroll')
    .description('make a key, wait for the server, and have it make this machine a host')
    .option('--listen <ip:port>', 'where to listen, now and as a service (default: 0.0.0.0:7911)')
    .option(
      '--address <host[:port]>',
      'where the server reaches this machine (default: as its interfaces say)',
    )
    .option('--seconds <n>', 'how long to wait, and the code is good, 1 to 600 (default: 600)')
    .option('--force', 'replace what is there')
    .addHelpText('after', '\nExample:\n  backup-host enroll --address web1.example.org')
    .action(async ({ listen, address, seconds, force = false }: Options) => {
      const { runEnroll } = await import('./enroll/run-enroll.ts')
      const { settingsFile, surroundings, json } = call()
      await runEnroll({ settingsFile, listen, address, seconds, force }, surroundings, json)
    })
}

function addInit(program: Command, call: () => Call): void {
  program
    .command('init')
    .description('write settings, key and certificates from the bundle that the server made')
    .requiredOption('--bundle <file>', 'what `backup-server host add` wrote')
    .option('--force', 'replace what is there')
    .addHelpText('after', '\nExample:\n  backup-host init --bundle /root/web1.bundle.json')
    .action(async (options: { bundle: string; force?: boolean }) => {
      const { runInit } = await import('./commands.ts')
      const { settingsFile, surroundings, json } = call()
      const bundle = resolve(surroundings.workingDirectory, options.bundle)
      await runInit({ bundle, settingsFile, force: options.force === true }, surroundings, json)
    })
}

function addCheck(program: Command, call: () => Call, result: { exitCode: number }): void {
  program
    .command('check')
    .description('look at settings, permissions, hooks and certificates')
    .addHelpText('after', '\nExample:\n  backup-host check')
    .action(async () => {
      const { runCheck } = await import('./commands.ts')
      const { settingsFile, surroundings, json } = call()
      result.exitCode = runCheck(settingsFile, surroundings, json)
    })
}

function addHashPassword(program: Command, call: () => Call): void {
  program
    .command('hash-password')
    .description('print the hash of a password, for password_hash in the settings')
    .addHelpText('after', '\nExample:\n  backup-host hash-password < password-file')
    .action(async () => {
      const { runHashPassword } = await import('./commands.ts')
      const { surroundings, json } = call()
      await runHashPassword(surroundings, json)
    })
}

const helpHint = 'backup-host --help lists the commands; backup-host COMMAND --help explains one.'

const help = `
Examples:
  backup-host enroll
  backup-host init --bundle /root/web1.bundle.json
  backup-host check
  backup-host --config /etc/backup-host/backup-host.toml

What a server may do here is said by the settings alone: [allow] what it may read, and restore to; [hooks] which commands
it may have run before and after a backup; [limits] how many sessions and backups, and how fast.

Exit codes:
  0  all is well; or, when serving, it was told to end
  1  failed
  2  usage or settings
130, 143  enroll was stopped by SIGINT (Ctrl-C) or SIGTERM`

function toUsageError(error: CommanderError): UsageError {
  return new UsageError(error.message.replace(/^error: /, ''), { hint: helpHint })
}
