import type { Host } from '../config/hosts.ts'
import { backUpHost, type HostObserver } from './back-up-host.ts'
import type { HostResult } from './run-report.ts'
import type { ServerContext } from './server-context.ts'

/** What is told while all hosts are backed up. */
export interface BackUpObserver {
  /** Called when the turn of a host comes; what it returns is told how that goes on. */
  onBegin(host: Host): HostObserver
  onEnd(result: HostResult): void
}

/**
 * Backs up the hosts, `concurrency` of them at a time, in their order. Never throws, and goes on with the others
 * whatever happens to one. Once the context's signal is aborted, no other host is begun.
 */
export async function backUp(
  context: ServerContext,
  hosts: readonly Host[],
  options: { full: boolean },
  observer: BackUpObserver,
): Promise<HostResult[]> {
  const results: HostResult[] = []
  const waiting = [...hosts]
  const work = async () => {
    for (let host = waiting.shift(); host !== undefined && !context.signal.aborted; host = waiting.shift()) {
      const result = await backUpHost(context, host, options.full, observer.onBegin(host))
      results.push(result)
      observer.onEnd(result)
    }
  }
  await Promise.all(Array.from({ length: context.settings.concurrency }, work))
  return results.sort((a, b) => (a.host < b.host ? -1 : 1))
}
