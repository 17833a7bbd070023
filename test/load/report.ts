/** A report of a load as Markdown that is also good to read in a terminal. */
import { formatTable } from '../../bench/table.ts'
import type { Hour, LoadReport } from './load.ts'
import type { Usage } from './usage.ts'

const mebibyte = 1024 * 1024
const noColumns: ReadonlySet<number> = new Set()
const header = [
  'hour',
  'seconds',
  'complete',
  'in trouble',
  'server MiB',
  'server fds',
  'agents MiB',
  'agents fds',
  'agents threads',
  'catalog MiB',
  'archives',
  'trash',
  'repository MiB',
]

/** A row an hour, and what it comes to. */
export function formatLoad(report: LoadReport): string {
  const { agents, hours, kept, runsPerFull, runs, restored, seconds, idleAgentBytes, faults } = report
  const busySeconds = hours.reduce((sum, hour) => sum + hour.seconds, 0)
  const lines = [
    `${agents} agents, ${hours.length} hours, ${runs} runs of a host in ${Math.round(busySeconds)} s (${(runs / busySeconds).toFixed(1)} a second), ${Math.round(seconds / 60)} minutes with all that is around them.`,
    `Kept: ${kept} runs a host, a full one every ${runsPerFull}, an hour of trash. An idle agent that is a process has ${inMebibytes(idleAgentBytes)} MiB.`,
    formatTable(header, hours.map(formatHour), noColumns),
    `${restored} random moments, one of each host, were restored and compared.`,
    ...faults.map((fault) => `- ${fault}`),
    faults.length === 0 ? 'Verdict: all is well.' : `Verdict: ${faults.length} faults.`,
  ]
  return `${lines.join('\n\n')}\n`
}

function formatHour(hour: Hour): string[] {
  const agents = Object.values(hour.agents)
  const sum = (of: (usage: Usage) => number) => agents.reduce((total, usage) => total + of(usage), 0)
  const troubles = Object.entries(hour.troubles).map(([trouble, count]) => `${count} ${trouble}`)
  return [
    String(hour.hour),
    hour.seconds.toFixed(1),
    String(hour.outcomes.complete ?? 0),
    troubles.join(', '),
    inMebibytes(hour.server.peakBytes),
    String(hour.server.descriptors),
    inMebibytes(sum(({ residentBytes }) => residentBytes)),
    String(sum(({ descriptors }) => descriptors)),
    String(sum(({ threads }) => threads)),
    (hour.catalogBytes / mebibyte).toFixed(1),
    String(hour.archives),
    String(hour.trashed),
    (hour.repositoryBytes / mebibyte).toFixed(1),
  ]
}

function inMebibytes(bytes: number): string {
  return (bytes / mebibyte).toFixed(0)
}
