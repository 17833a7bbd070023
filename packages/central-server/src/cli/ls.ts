import { type BytePath, bytesFromText, type Entry, textFromBytes } from '@central-backup/archive'
import type { Catalog, Run } from '../catalog/catalog.ts'
import { childEntries, chooseRun, entryAt, standingEntries } from '../catalog/versions.ts'
import { UsageError } from '../errors.ts'
import type { CommandDefinition } from './command.ts'
import { entryLine, entryReport } from './entry-line.ts'
import { parseMoment } from './moment.ts'

interface Options {
  at: string
  recursive?: boolean
}

export const lsCommand: CommandDefinition = {
  words: 'ls',
  summary: 'list what stood in a folder at a time',
  example: "backup-server ls web1 /etc --at '3 days ago'",
  define(command, invocation) {
    command
      .argument('<host>')
      .argument('[path]', 'a folder, or anything else', '/')
      .option('--at <time|run>', 'a time, or the id of a run', 'latest')
      .option('-R, --recursive', 'also what is below')
    command.action(async (host: string, path: string, options: Options) => {
      const { now } = invocation.surroundings
      using catalog = invocation.openCatalogToRead(await invocation.findCatalog(), [host])
      const run = chooseRun(catalog, host, parseMoment(options.at, now()))
      const folder = bytesFromText(path.replace(/^\/+|\/+$/g, ''))
      const shown = (entry: Entry) =>
        options.recursive ? `/${textFromBytes(entry.path)}` : textFromBytes(nameOf(entry.path))
      for (const entry of listed(catalog, run, folder, options.recursive ?? false)) {
        invocation.report({ ...entryReport(entry) }, [entryLine(entry, shown(entry))])
        if (invocation.outputIsBehind) await invocation.outputReady()
      }
    })
  },
}

function* listed(catalog: Catalog, run: Run, path: BytePath, recursive: boolean): Iterable<Entry> {
  const entry = path === '' ? null : entryAt(catalog, run, path)
  if (path !== '' && entry === null) {
    throw new UsageError(`/${textFromBytes(path)} did not stand in run ${run.id} of ${run.host}`, {
      hint: `backup-server find '${textFromBytes(nameOf(path))}' --host ${run.host} tells when it did.`,
    })
  }
  if (entry !== null && entry.type !== 'directory') yield entry
  else if (!recursive) yield* childEntries(catalog, run, path)
  else
    for (const one of standingEntries(catalog, run, { under: [path], order: 'path' }))
      if (!one.ancestor || one.path === path) yield one
}

function nameOf(path: BytePath): BytePath {
  return path.slice(path.lastIndexOf('/') + 1) as BytePath
}
