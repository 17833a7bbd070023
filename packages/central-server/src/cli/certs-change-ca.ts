import { UsageError } from '../errors.ts'
import type { CommandDefinition } from './command.ts'
import { printable } from './printable.ts'

export const certsChangeCaCommand: CommandDefinition = {
  words: 'certs change-ca',
  summary: 'make another authority, which hosts take over in their sessions; then leave the old one',
  example: 'backup-server certs change-ca',
  define(command, invocation) {
    command
      .option('--finish', 'leave the old authority, when all hosts have certificates of the new one')
      .option('--force', 'with --finish: leave behind the hosts that have not')
    command.action(async (options: { finish?: boolean; force?: boolean }) => {
      if (options.force && !options.finish) throw new UsageError('--force belongs to --finish')
      const { now } = invocation.surroundings
      const { settings, hosts, problems } = await invocation.loadConfiguration()
      const { authorityProgress, beginAuthorityChange, finishAuthorityChange } = await import(
        '../jobs/change-authority.ts'
      )
      if (!options.finish) {
        const authority = await beginAuthorityChange(settings.certs, now())
        const result = {
          state: 'begun',
          authority: authority.subject,
          notAfterMs: authority.validToDate.getTime(),
        }
        invocation.report(result, describeBegin(authority.subject))
        return
      }
      // Also those that are not backed up now, or whose modules cannot be used: they would be left behind all the same.
      const broken = problems.flatMap(({ host }) => host ?? [])
      const names = [...new Set([...hosts.map(({ name }) => name), ...broken])].sort()
      const { open } = await authorityProgress(settings.certs, names, now())
      if (open.length > 0 && !options.force) {
        const list = open.map(({ host, lacks }) => `${host} ${lacks}`)
        throw new UsageError(`Not all hosts have the new authority: ${list.join('; ')}`, {
          hint:
            'backup-server check brings it to those that can be reached; one that is disabled has to be named: check HOST. With ' +
            '--force, the others have to be set up anew. Of a host that is gone, remove the module.',
        })
      }
      await finishAuthorityChange(settings.certs, now())
      const left = open.map(({ host }) => host)
      invocation.report({ state: 'finished', leftBehind: left }, describeFinish(left))
    })
  },
}

function describeBegin(subject: string): string[] {
  return [
    `There is a new authority, ${printable(subject)}, for which the old one has signed.`,
    'Both are trusted now. New certificates are of the new one.',
    '',
    'Next:',
    '  1. Leave ca.key in its place, or put it back for that: backup-server check',
    '     gives each host that it reaches the new authority, and a certificate of it. So do the runs.',
    '  2. backup-server certs list shows which hosts have it.',
    '  3. When all have: backup-server certs change-ca --finish',
    'Then ca.key belongs to where the old one was kept; ca-old.key is not needed any more.',
  ]
}

function describeFinish(left: readonly string[]): string[] {
  const lines = [
    'The old authority is trusted no more. Hosts leave it in their next session: backup-server check',
    '',
    'Next: take ca.key away, and delete ca-old.key everywhere (shred -u).',
  ]
  if (left.length > 0)
    lines.push(`To be set up anew: ${left.join(', ')} (backup-server certs renew HOST --bundle FILE)`)
  return lines
}
