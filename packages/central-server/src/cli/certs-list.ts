import { type CertificateList, type KnownCertificate, listCertificates } from '../jobs/list-certificates.ts'
import type { HostProgress } from '../pki/host-trust.ts'
import type { CommandDefinition } from './command.ts'
import { formatTable } from './format.ts'
import { printable } from './printable.ts'

export const certsListCommand: CommandDefinition = {
  words: 'certs list',
  summary: 'all certificates: how long they are good, and what hosts know of what was revoked',
  example: 'backup-server certs list',
  define(command, invocation) {
    command.action(async () => {
      const { settings } = await invocation.loadConfiguration()
      const list = await listCertificates(settings.certs, invocation.surroundings.now())
      const certificates = list.certificates.map(({ certificate: _, ...facts }) => facts)
      invocation.report({ ...list, certificates }, describeList(list))
    })
  },
}

function describeList({ certificates, otherRevoked, listNumber, changing }: CertificateList): string[] {
  const rows = certificates.map((one) => [
    one.role,
    printable(one.name),
    one.serial,
    new Date(one.notAfterMs).toISOString().slice(0, 10),
    String(one.daysLeft),
    one.state,
    one.role === 'host' && one.current ? describeHost(one, changing) : '',
  ])
  const lines = formatTable(['ROLE', 'NAME', 'SERIAL', 'UNTIL', 'DAYS', 'STATE', 'THE HOST HAS'], rows, [4])
  for (const { serial, sinceMs } of otherRevoked)
    lines.push(`revoked since ${new Date(sinceMs).toISOString()}: ${serial}, of which no certificate is here`)
  if (listNumber !== null)
    lines.push(`revocation list ${listNumber}, of ${new Date(listNumber * 1000).toISOString()} or later`)
  if (changing)
    lines.push(
      'The authority is being changed: when all hosts have the new one, backup-server certs change-ca --finish',
    )
  return lines
}

function describeHost({ host, issuer, certificate: _ }: KnownCertificate, changing: boolean): string {
  if (host === null) return changing ? 'not asked yet' : ''
  return [
    ...describeTrust(host, changing),
    ...(issuer === null ? ['a certificate of another authority'] : []),
  ].join(', ')
}

function describeTrust(host: HostProgress, changing: boolean): string[] {
  const told: string[] = []
  if (!host.trustsIssuing) told.push('only the old authority')
  else if (changing) told.push('the new authority')
  else if (host.otherAuthorities > 0) told.push('still the old authority')
  if (host.hasNewestList !== null)
    told.push(host.hasNewestList ? 'the newest list' : 'an older list, or none')
  return told
}
