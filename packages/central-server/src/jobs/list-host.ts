import type { BytePath, Entry, Outcome } from '@central-backup/archive'
import type { Counts } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import { openSession } from '../session/open-session.ts'
import { type LeftOutObject, type RunObserver, receiveRun } from '../session/receive-run.ts'
import { selectionOf } from './backup-request.ts'
import type { ServerContext } from './server-context.ts'
import { limitTime } from './time-limit.ts'

export interface ListObserver {
  /** Awaited before an agent is let go on; `undefined` where nothing is in the way. */
  ready(): Promise<void> | undefined
  onEntry(host: string, entry: Entry): void
  onLeftOut(host: string, object: LeftOutObject): void
  onWarning(host: string, warning: { code: string; path: BytePath | null; message: string }): void
}

/** What a backup of a host would come to. */
export interface HostListing {
  host: string
  outcome: Outcome
  counts: Counts | null
  error: Error | null
}

/**
 * Has each agent in turn select and walk what a backup would pack, and changes nothing on either side. Each has as long as a
 * run of it may take.
 */
export async function listHosts(
  context: ServerContext,
  hosts: readonly Host[],
  observer: ListObserver,
): Promise<HostListing[]> {
  const listings: HostListing[] = []
  for (const host of hosts) {
    if (context.signal.aborted) break
    listings.push(await listHost(context, host, observer))
  }
  return listings
}

async function listHost(context: ServerContext, host: Host, observer: ListObserver): Promise<HostListing> {
  const { credentials, serverName, settings } = context
  using time = limitTime(host, 'the dry run', '')
  const signal = AbortSignal.any([context.signal, time.signal])
  try {
    const { channel } = await openSession({
      host,
      credentials,
      serverName,
      connection: settings.connection,
      signal,
    })
    try {
      await channel.send({ type: 'check', ...selectionOf(host) })
      const observing: RunObserver = {
        ready: () => observer.ready(),
        onEntries: (entries) => {
          for (const entry of entries) observer.onEntry(host.name, entry)
        },
        onLeftOut: (objects) => {
          for (const object of objects) observer.onLeftOut(host.name, object)
        },
        onWarning: (warning) => observer.onWarning(host.name, warning),
      }
      const listing = { sink: null, observer: observing, baseline: null }
      const { summary } = await receiveRun(channel, { host: host.name }, listing)
      await channel.close()
      return { host: host.name, outcome: summary.outcome, counts: summary.counts, error: null }
    } catch (error) {
      await channel.fail(error)
      throw error
    }
  } catch (error) {
    const isLate = time.signal.aborted && !context.signal.aborted
    const reason = (isLate ? time.signal.reason : error) as Error
    return { host: host.name, outcome: 'failed', counts: null, error: reason }
  }
}
