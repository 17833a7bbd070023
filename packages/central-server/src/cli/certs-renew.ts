import { resolve } from 'node:path'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { UsageError } from '../errors.ts'
import { exitCodeOfError, worstExitCode } from '../exit-codes.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import type { CommandDefinition } from './command.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { describeError } from './report-error.ts'
import { reportProblems } from './report-problems.ts'
import { untilSignal } from './signals.ts'

interface Options {
  server?: boolean
  bundle?: string
}

export const certsRenewCommand: CommandDefinition = {
  words: 'certs renew',
  summary: "new keys and certificates: the server's own and those of all hosts, or of these",
  example: 'backup-server certs renew web1',
  define(command, invocation) {
    command
      .argument('[host...]', 'these hosts only, and not the server')
      .option('--server', "the server's own, and no host's but those that are named")
      .option(
        '--bundle <file>',
        'for one host that its certificate does not let in any more: a bundle to carry there',
      )
    command.action(async (names: string[], options: Options) => {
      const configuration = await invocation.loadConfiguration()
      if (options.bundle !== undefined && (names.length !== 1 || options.server))
        throw new UsageError('--bundle is for one host', {
          hint: 'backup-server certs renew HOST --bundle FILE',
        })
      const all = names.length === 0 && !options.server
      const { hosts, problems } =
        names.length > 0 || all ? chooseHosts(configuration, names) : { hosts: [], problems: [] }
      if (options.bundle !== undefined) {
        await makeBundle(invocation, configuration.settings, hosts[0]!, options.bundle)
        return
      }
      const server = options.server || all ? await renewServer(invocation, configuration.settings) : null
      const renewals = await renewHosts(invocation, configuration.settings, hosts)
      const lines = [
        ...(server === null ? [] : [describe('server', server)]),
        ...renewals.map(describeRenewal),
      ]
      invocation.report({ server, hosts: renewals }, lines)
      reportProblems(invocation, problems)
    })
  },
}

interface Renewed {
  serial: string
  notAfterMs: number
}

type Renewal = { host: string } & ({ renewed: Renewed } | { error: ReturnType<typeof describeError> })

async function renewServer({ surroundings }: Invocation, { certs }: ServerSettings): Promise<Renewed> {
  const { renewServerCertificate } = await import('../jobs/renew-server.ts')
  const certificate = await renewServerCertificate(certs, surroundings.now())
  return { serial: certificate.serialNumber, notAfterMs: certificate.validToDate.getTime() }
}

async function renewHosts(
  invocation: Invocation,
  settings: ServerSettings,
  hosts: readonly Host[],
): Promise<Renewal[]> {
  if (hosts.length === 0) return []
  const { renewHostCertificates } = await import('../jobs/renew-hosts.ts')
  using stop = untilSignal()
  const { now } = invocation.surroundings
  const results = await renewHostCertificates({ settings, signal: stop.signal, now }, hosts)
  if (stop.signal.aborted) throw stop.signal.reason
  return results.map(({ host, certificate, error }) => {
    if (error !== null) {
      invocation.exitCode = worstExitCode([invocation.exitCode, exitCodeOfError(error)])
      return { host, error: describeError(error) }
    }
    const renewed = { serial: certificate!.serialNumber, notAfterMs: certificate!.validToDate.getTime() }
    return { host, renewed }
  })
}

async function makeBundle(
  invocation: Invocation,
  { certs }: ServerSettings,
  host: Host,
  file: string,
): Promise<void> {
  const { now, workingDirectory } = invocation.surroundings
  const { bundleCertificate } = await import('../jobs/bundle-certificate.ts')
  const bundle = resolve(workingDirectory, file)
  await bundleCertificate(certs, host, bundle, now())
  invocation.report({ host: host.name, bundle }, [
    `${host.name} has a new key and certificate in ${printable(bundle)}, a secret. The password is the one that it has.`,
    '',
    'Next:',
    '  1. Carry it to the host. There, keep a copy of backup-host.toml:',
    '     backup-host init --force --bundle FILE      writes it anew',
    '  2. Bring over what you had changed in it, delete the bundle there and here, and systemctl restart backup-host.',
    `  3. Here: backup-server check ${host.name}`,
  ])
}

function describeRenewal(renewal: Renewal): string {
  if ('renewed' in renewal) return describe(renewal.host, renewal.renewed)
  const { message, hint } = renewal.error
  return printable(`${renewal.host}: not renewed: ${message}${hint === undefined ? '' : ` (${hint})`}`)
}

function describe(who: string, { serial, notAfterMs }: Renewed): string {
  return `${who}: a new key and certificate, ${serial}, until ${new Date(notAfterMs).toISOString()}`
}
