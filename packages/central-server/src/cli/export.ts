import { type EventEmitter, once } from 'node:events'
import { type BytePath, textFromBytes } from '@central-backup/archive'
import { holdForReading } from '../catalog/read-lease.ts'
import { chooseRun } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'
import { exitCodes } from '../exit-codes.ts'
import { exportTar, type TarSink } from '../jobs/export.ts'
import { StandingSource, selectPaths } from '../jobs/standing-source.ts'
import { openRepository } from '../storage/repository.ts'
import type { CommandDefinition } from './command.ts'
import { formatBytes, formatCount } from './format.ts'
import type { Invocation, Output } from './invocation.ts'
import { parseMoment } from './moment.ts'
import { untilSignal } from './signals.ts'

export const exportCommand: CommandDefinition = {
  words: 'export',
  summary:
    'write a plain tar of what stood at a time to standard output (what is told goes to standard error)',
  example: 'backup-server export web1 /etc --at yesterday | tar -tvf -',
  define(command, invocation) {
    command
      .argument('<host>')
      .argument('[path...]', 'only these, and what is below them')
      .option('--at <time|run>', 'a time, or the id of a run', 'latest')
    command.action(async (host: string, paths: string[], { at }: { at: string }) => {
      const { now, stdout } = invocation.surroundings
      refuseTerminal(stdout)
      invocation.stdoutIsTaken = true
      const { settings } = await invocation.loadConfiguration()
      const repository = await openRepository(settings.repository)
      using catalog = invocation.openCatalogToRead(repository.catalogFile, [host])
      using _reading = holdForReading(catalog, [host])
      const run = chooseRun(catalog, host, parseMoment(at, now()))
      const under = selectPaths(catalog, run, paths)
      await using source = new StandingSource(catalog, repository, run, under)
      using stop = untilSignal()
      const report = await exportTar(source, sinkOf(stdout, stop.signal), {
        under,
        signal: stop.signal,
        onMissing: (path, message) => tellMissing(invocation, path, message),
      })
      if (report.damaged > 0)
        invocation.exitCode = report.entries === 0 ? exitCodes.failed.code : exitCodes.incomplete.code
      const left = report.sockets === 0 ? '' : `; ${formatCount(report.sockets)} sockets have no form in tar`
      const line = `${host}: run ${run.id}: ${formatCount(report.entries)} entries with ${formatBytes(report.contentBytes)}${left}`
      if (invocation.options.json) invocation.report({ event: 'end', host, run: run.id, ...report }, [])
      else invocation.note(line)
    })
  },
}

function refuseTerminal(stdout: Output): void {
  if (stdout.isTTY !== true) return
  throw new UsageError('A tar stream is not for a terminal', {
    hint: 'Send it to a file or a program: backup-server export web1 /etc > etc.tar',
  })
}

function tellMissing(invocation: Invocation, path: BytePath, message: string): void {
  const shown = `/${textFromBytes(path)}`
  if (invocation.options.json) invocation.report({ event: 'damaged', path: shown, message }, [])
  else invocation.warn(`damaged, left out: ${JSON.stringify(shown)}: ${message}`)
}

/** Waits while the reader at the other end has enough. */
function sinkOf(stdout: Output, signal: AbortSignal): TarSink {
  return {
    async write(bytes) {
      if (bytes.length === 0 || stdout.write(bytes) !== false || !('once' in stdout)) return
      try {
        await once(stdout as unknown as EventEmitter, 'drain', { signal })
      } catch (error) {
        signal.throwIfAborted()
        throw error
      }
    },
  }
}
