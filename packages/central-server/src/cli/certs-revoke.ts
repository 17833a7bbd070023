import { UsageError } from '../errors.ts'
import type { KnownCertificate } from '../jobs/list-certificates.ts'
import type { RevokePlan } from '../jobs/revoke-certificates.ts'
import type { WrittenLists } from '../pki/revocation.ts'
import type { CommandDefinition } from './command.ts'
import { printable } from './printable.ts'

export const certsRevokeCommand: CommandDefinition = {
  words: 'certs revoke',
  summary: 'declare certificates invalid, for this server and, with their next session, for all hosts',
  example: 'backup-server certs revoke web1',
  define(command, invocation) {
    command
      .argument('[host|serial]', 'all certificates of this host, or the one with this serial number')
      .option('--server', "all of the server's own but the one in use")
    command.action(async (of: string | undefined, options: { server?: boolean }) => {
      if ((of === undefined) === !options.server)
        throw new UsageError('Name a host or a serial number, or give --server', {
          hint: 'backup-server certs list shows all of them.',
        })
      const { now } = invocation.surroundings
      const { settings } = await invocation.loadConfiguration()
      const { applyRevocation, planRevocation } = await import('../jobs/revoke-certificates.ts')
      const request = of === undefined ? ({ earlierOfServer: true } as const) : { of }
      const plan = await planRevocation(settings.certs, request, now())
      const written = await applyRevocation(plan, now())
      const unsigned = written.unsigned.map(({ subject }) => subject)
      invocation.report(
        { revoked: plan.serials, listNumber: written.number, unsigned },
        describeRevocation(plan, written),
      )
    })
  },
}

function describeRevocation(
  { serials, certificates }: RevokePlan,
  { number, unsigned }: WrittenLists,
): string[] {
  const lines = serials.map((serial) => {
    const known = certificates.find((one) => one.serial === serial)
    const whose =
      known === undefined ? 'of which no certificate is here' : `of ${known.role} ${printable(known.name)}`
    return `Revoked: ${serial}, ${whose}`
  })
  lines.push(`This is revocation list ${number}.`, '', 'Next:', ...nextSteps(certificates))
  if (unsigned.length > 0) {
    lines.push(
      '',
      `${unsigned.map(({ subject }) => printable(subject)).join(', ')} has not signed, as its key is not here: hosts that`,
      'trust no other authority do not learn of it. Put ca-old.key back, and revoke once more what matters.',
    )
  }
  return lines
}

function nextSteps(certificates: readonly KnownCertificate[]): string[] {
  const host = certificates.find(({ role }) => role === 'host')
  const steps =
    host === undefined
      ? [
          'Bring the list to all hosts now: backup-server check',
          'See which have it: backup-server certs list',
        ]
      : [
          `This server refuses ${host.name} from now on. To go on with that machine, once it can be trusted again:`,
          `  backup-server certs renew ${host.name} --bundle /root/${host.name}.bundle.json`,
          `and carry that bundle there: backup-host init --force --bundle FILE. Else remove hosts/${host.name}.ts.`,
          'Its password was known there, too: `backup-host hash-password` makes the hash of another one.',
        ]
  return [...steps, 'Take ca.key away again, if it is kept elsewhere.'].map((step) => `  ${step}`)
}
