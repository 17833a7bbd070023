import { Catalog } from '../catalog/catalog.ts'
import { holdForReading } from '../catalog/read-lease.ts'
import { UsageError } from '../errors.ts'
import { exitCodes } from '../exit-codes.ts'
import { settleRepacks } from '../jobs/repack.ts'
import { type Damage, verify } from '../jobs/verify.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatCount } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { untilSignal } from './signals.ts'

export const verifyCommand: CommandDefinition = {
  words: 'verify',
  summary:
    'compare archives with their checksums and content with the catalog; exit code 3 where something is damaged',
  example: 'backup-server verify --sample 1%',
  define(command, invocation) {
    command
      .argument('[host...]', 'of these hosts only')
      .option('--sample <percent>', 'read the content of this share of the files only', '100%')
    command.action(async (names: string[], options: { sample: string }) => {
      const sample = parseShare(options.sample)
      const { settings } = await invocation.loadConfiguration()
      const repository = await openRepository(settings.repository)
      using catalog = new Catalog(repository.catalogFile, { now: invocation.surroundings.now })
      using stop = untilSignal()
      const hosts = chooseNames(catalog, names)
      using _reading = holdForReading(catalog, hosts)
      await settleRepacks(catalog, repository, hosts)
      const result = await verify(catalog, repository, hosts, {
        sample,
        random: Math.random,
        signal: stop.signal,
        onArchive: (run) => invocation.note(`${run.host}: run ${run.id}, ${run.archive!.name}`),
        onDamage: (damage) => tellDamage(invocation, damage),
      })
      for (const { host, archive } of result.unknown)
        invocation.warn(`${host}: the catalog does not know ${archive}; the next run takes it in`)
      const read = `${formatCount(result.files)} files with ${formatBytes(result.bytes)} read in ${formatCount(result.archives)} archives`
      invocation.report(result, [
        `${read}; ${result.damaged === 0 ? 'all is well' : `${formatCount(result.damaged)} are damaged`}`,
      ])
      if (result.damaged > 0) invocation.exitCode = exitCodes.incomplete.code
    })
  },
}

function chooseNames(catalog: Catalog, names: readonly string[]): string[] {
  const known = catalog.hostNames()
  const unknown = names.filter((name) => !known.includes(name))
  if (unknown.length === 0) return names.length === 0 ? known : [...names]
  throw new UsageError(`There is no backup of ${unknown.join(', ')}`, {
    hint: `There are backups of: ${known.join(', ') || 'no host'}.`,
  })
}

function tellDamage(invocation: Invocation, { host, run, archive, path, reason }: Damage): void {
  if (host === null) {
    invocation.warn(printable(`damaged: ${reason}`))
    return
  }
  invocation.warn(printable(`${host}: run ${run}: damaged: ${path ?? archive}: ${reason}`))
}

function parseShare(text: string): number {
  const percent = /^(\d{1,3}(?:\.\d+)?)%?$/.exec(text)?.[1]
  const share = Number(percent) / 100
  if (percent !== undefined && share > 0 && share <= 1) return share
  throw new UsageError(`'${text}' is no share of the files`, { hint: 'Write it like 1%, 0.5% or 100%.' })
}
