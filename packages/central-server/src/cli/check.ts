import { X509Certificate } from 'node:crypto'
import { identityFromAltNames } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { Configuration } from '../config/load.ts'
import { exitCodeOfError, exitCodes, worstExitCode } from '../exit-codes.ts'
import { type CertificateCheck, checkCertificates } from '../jobs/check-certificates.ts'
import { checkHost, type HostCheck } from '../jobs/check-host.ts'
import { chooseHosts } from '../jobs/choose-hosts.ts'
import { renewServerIfDue } from '../jobs/renew-server.ts'
import { readServerCredentials } from '../pki/folder.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatTime } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { describeError } from './report-error.ts'
import { reportProblems } from './report-problems.ts'
import { untilSignal } from './signals.ts'

export const checkCommand: CommandDefinition = {
  words: 'check',
  summary: 'look at settings, modules, certificates and repository, then ask each agent',
  example: 'backup-server check web1',
  define(command, invocation) {
    command.argument('[host...]', 'these hosts only').option('--offline', 'ask no agent')
    command.action(async (names: string[], options: { offline?: boolean }) => {
      const { now } = invocation.surroundings
      const configuration = await invocation.loadConfiguration()
      const { hosts, problems } = chooseHosts(configuration, names)
      const repository = await openRepository(configuration.settings.repository)
      const own = options.offline ? {} : await renewServerIfDue(configuration.settings.certs, now())
      const agents = options.offline ? [] : await askAgents(configuration, hosts, now)
      // Afterwards, as agents get new ones.
      const certificates = await checkCertificates(configuration.settings, hosts, now())
      const report = {
        repository: repository.folder,
        certificates,
        hosts: agents.map((agent) => ({ ...agent, error: agent.error && describeError(agent.error) })),
        problems,
      }
      if (own.fault !== undefined) invocation.warn(own.fault)
      const lines = [
        `repository  ${printable(repository.folder)}`,
        ...certificates.flatMap(describeCertificate),
        ...agents.flatMap(describeAgent),
      ]
      invocation.report(report, lines)
      setExitCode(invocation, certificates, agents)
      reportProblems(invocation, problems)
    })
  },
}

async function askAgents(
  { settings }: Configuration,
  hosts: readonly Host[],
  now: () => number,
): Promise<HostCheck[]> {
  const credentials = await readServerCredentials(settings.certs)
  const serverName = identityFromAltNames(new X509Certificate(credentials.cert).subjectAltName).name
  using stop = untilSignal()
  const context = { settings, credentials, serverName, signal: stop.signal, now }
  const checks = await Promise.all(hosts.map((host) => checkHost(context, host)))
  if (stop.signal.aborted) throw stop.signal.reason
  return checks
}

function setExitCode(
  invocation: Invocation,
  certificates: readonly CertificateCheck[],
  agents: readonly HostCheck[],
): void {
  const ofCertificates = certificates.map(({ faults }) =>
    faults.length > 0 ? exitCodes.authentication.code : exitCodes.ok.code,
  )
  const ofAgents = agents.map(({ error }) => (error === null ? exitCodes.ok.code : exitCodeOfError(error)))
  invocation.exitCode = worstExitCode([invocation.exitCode, ...ofCertificates, ...ofAgents])
}

function describeCertificate({ of, file, notAfterMs, faults, warnings }: CertificateCheck): string[] {
  const until = notAfterMs === null ? '' : `, valid until ${formatTime(notAfterMs)}`
  const remarks = [...faults, ...warnings].map((remark) => `            ${printable(remark)}`)
  return [
    `certificate ${faults.length > 0 ? 'BAD' : 'ok'}  ${printable(of)}${until}  (${printable(file)})`,
    ...remarks,
  ]
}

function describeAgent(checked: HostCheck): string[] {
  const { host, address, agent, error, renewedUntilMs, warnings } = checked
  const lines: string[] = []
  if (agent !== null) {
    const { allowRead, allowRestore, localCopy, hooks } = agent
    const mayRestore = allowRestore.length === 0 ? '' : `, may restore to ${allowRestore.join(', ')}`
    const may = `may read ${allowRead.join(', ')}${mayRestore}${localCopy ? '; keeps a local copy' : ''}`
    const described = hooks.map(({ name, when, always }) => `${name} (${when}${always ? ', always' : ''})`)
    lines.push(
      `host        ${error === null ? 'ok' : 'BAD'}  ${host} at ${address}: ${agent.software}; ${may}`,
    )
    if (described.length > 0) lines.push(`            runs ${described.join(', ')}`)
  }
  if (renewedUntilMs !== null)
    lines.push(`            it has a new certificate, valid until ${formatTime(renewedUntilMs)}`)
  lines.push(...warnings.map((warning) => `            ${warning}`))
  if (error !== null) {
    const { hint } = describeError(error)
    if (agent === null) lines.push(`host        BAD  ${host} at ${address}: ${error.message}`)
    else lines.push(`            ${error.message}`)
    if (hint !== undefined) lines.push(`            hint: ${hint}`)
  }
  return lines.map(printable)
}
