/**
 * Prunes web1 in the repository `process.argv[2]` as of the time `process.argv[3]`, and keeps the last two runs: a program of
 * its own, so that tests can end it at any system call.
 */
import { Catalog } from '../src/catalog/catalog.ts'
import type { Host } from '../src/config/hosts.ts'
import type { ServerSettings } from '../src/config/settings.ts'
import { pruneHost } from '../src/jobs/prune.ts'
import { openRepository } from '../src/storage/repository.ts'
import { trashDays } from './past-run.ts'

const repository = await openRepository(process.argv[2]!)
const now = () => Number(process.argv[3])
using catalog = new Catalog(repository.catalogFile, { now })
const settings = { trashMs: trashDays * 24 * 3_600_000 } as ServerSettings
const host = { name: 'web1', retention: { last: 2 }, expectEveryMs: 24 * 3_600_000 } as Host
const { repacked, refused } = await pruneHost({ settings, repository, catalog, now }, host)
process.stdout.write(JSON.stringify({ repacked, refused }))
