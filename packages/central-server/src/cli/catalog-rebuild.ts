import { exitCodes } from '../exit-codes.ts'
import { rebuildCatalog } from '../jobs/rebuild-catalog.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatCount } from './format.ts'
import { printable } from './printable.ts'

export const catalogRebuildCommand: CommandDefinition = {
  words: 'catalog rebuild',
  summary: 'make the catalog anew from the archives alone',
  example: 'backup-server catalog rebuild',
  define(command, invocation) {
    command.action(async () => {
      const { settings } = await invocation.loadConfiguration()
      const repository = await openRepository(settings.repository)
      const { now } = invocation.surroundings
      const result = await rebuildCatalog(repository, now, {
        onArchive: (host, archive) => invocation.note(`${host}: ${archive}`),
      })
      const counts = Object.entries(result.archives).map(([host, count]) => `${host}: ${count} archives`)
      const damaged = result.damaged.map(
        ({ host, archive, reason }) => `${host}: lost: ${archive}: ${reason}`,
      )
      const bridged = result.bridged.map(
        ({ host, archive }) =>
          `${host}: incomplete: ${archive}: what it builds on is missing, so that not all is known of its run`,
      )
      const missing = result.missing.flatMap(({ host, archive, versions, paths }) => [
        `${host}: missing: ${archive}: ${formatCount(versions)} versions of files have lost their content with it; verify names all`,
        ...paths.map((path) => `${host}:   ${path}`),
      ])
      const absorbed = result.absorbed.map(
        ({ host, archive }) =>
          `${host}: left out: ${archive}: another archive has taken over what it says; the next run moves it to the trash`,
      )
      const kept = result.replaced === null ? [] : [`The old catalog is kept as ${result.replaced}`]
      invocation.report(
        result,
        [...counts, ...damaged, ...bridged, ...missing, ...absorbed, ...kept].map(printable),
      )
      if (result.damaged.length + result.bridged.length + result.missing.length > 0)
        invocation.exitCode = exitCodes.incomplete.code
    })
  },
}
