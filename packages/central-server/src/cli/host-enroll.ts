import { parseEnrolmentCode } from '@central-backup/protocol'
import { UsageError } from '../errors.ts'
import type { EnrolledHost, EnrollHostPlan } from '../jobs/enroll-host.ts'
import { parseAddress } from './address.ts'
import { type CommandDefinition, collect } from './command.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { untilSignal } from './signals.ts'

interface Options {
  path?: string[]
  exclude?: string[]
  replace?: boolean
}

/** A clock that is off by more is worth a word. */
const clockWarningMs = 60_000

export const hostEnrollCommand: CommandDefinition = {
  words: 'host enroll',
  summary: 'add a host that waits in `backup-host enroll`: by the line that it prints there',
  example: 'backup-server host enroll web1 192.0.2.10:7911 000G-40R4-0M30-E209-185G-R38E-1Z14 --path /etc',
  define(command, invocation) {
    command
      .argument('<name>', 'what the host is called here')
      .argument('<host[:port]>', 'where it waits, and its agent will listen')
      .argument('[code]', 'what `backup-host enroll` shows; if not given, it is read from standard input')
      .option(
        '--path <path>',
        'what to back up, a path or a pattern; repeatable (default: the whole machine)',
        collect,
      )
      .option('--exclude <pattern>', 'what to leave out; repeatable', collect)
      .option(
        '--replace',
        'for a host that is there, set up anew: another certificate and password, the same module',
      )
    command.action(async (name: string, target: string, code: string | undefined, options: Options) => {
      const { path: paths = [], exclude = [], replace = false } = options
      // Other users can read the arguments of a process, as long as they are there.
      if (code !== undefined) process.title = 'backup-server host enroll'
      if (replace && (paths.length > 0 || exclude.length > 0)) {
        throw new UsageError(
          'With --replace, the module stays as it is: --path and --exclude do not go with it',
        )
      }
      const request = { name, ...parseAddress(target), paths, exclude }
      const { enrollHost, planEnrollHost } = await import('../jobs/enroll-host.ts')
      const plan = await planEnrollHost(await invocation.loadConfiguration(), request, replace)
      const secret = readCode(code ?? (await readFirstLine(invocation)))
      using stop = untilSignal()
      const { now } = invocation.surroundings
      const enrolled = await enrollHost(plan, secret, { now, signal: stop.signal }).catch((error) => {
        throw stop.signal.aborted ? stop.signal.reason : error
      })
      tell(invocation, plan, enrolled)
    })
  },
}

/** The message does not repeat what was given, which may be nearly a code. */
function readCode(text: string): Buffer {
  const secret = parseEnrolmentCode(text)
  if (secret !== null) return secret
  throw new UsageError('This is no enrolment code: a character is wrong, missing or too many', {
    hint: 'Copy the line that `backup-host enroll` prints on the host: the code has seven groups of four characters.',
  })
}

async function readFirstLine(invocation: Invocation): Promise<string> {
  const { stdin, stderr } = invocation.surroundings
  if (stdin === undefined) return ''
  if (stdin.isTTY) stderr.write('Code: ')
  let text = ''
  for await (const piece of stdin) {
    text += String(piece)
    if (text.includes('\n') || text.length > 1000) break
  }
  return text.split('\n')[0]!
}

function tell(invocation: Invocation, plan: EnrollHostPlan, enrolled: EnrolledHost): void {
  const { name, target, paths, exclude, files } = plan
  const { wasKnown, replacedSerial, isConfirmed, clockAheadMs } = enrolled
  const { address, port } = target
  invocation.report(
    { host: name, address, port, paths, exclude, files, wasKnown, replacedSerial, isConfirmed, clockAheadMs },
    [
      `Host ${name} is enrolled:`,
      `  ${printable(files.module)}  what is backed up: ${wasKnown ? 'as it was' : 'look it over'}`,
      `  ${printable(files.secret)}  its password`,
      `  ${printable(files.certificate)}  its certificate`,
      '',
      'Next:',
      '  1. On the host, look over its settings, and start the service: systemctl enable --now backup-host',
      `  2. Here, see whether it works: backup-server check ${name}`,
      ...(replacedSerial === null
        ? []
        : [
            '  3. The certificate that it had is still taken. If somebody else may have its key:',
            `     backup-server certs revoke ${replacedSerial}`,
          ]),
    ],
  )
  if (!isConfirmed) {
    invocation.warn(
      'The connection broke at the very end. The host has all that it needs, but still waits: end it there with Ctrl-C, or run the same line again.',
    )
  }
  if (Math.abs(clockAheadMs) > clockWarningMs) {
    const seconds = Math.round(Math.abs(clockAheadMs) / 1000)
    const direction = clockAheadMs > 0 ? 'ahead of' : 'behind'
    invocation.warn(`The clock of the host is ${seconds} s ${direction} the one here: one of them is wrong.`)
  }
}
