/** Growth as tables of Markdown. */
import type { GrowthPoint, GrowthReport, GrowthStep } from './growth.ts'
import { formatCircumstances, formatTable } from './table.ts'

const workNames = ['full', 'unchanged', 'changed', 'restore-one', 'find', 'ls']
const left: ReadonlySet<number> = new Set()

/** `plot` is where the plot is, seen from where the text goes; `null` where there is none. */
export function formatGrowth(growth: GrowthReport, plot: string | null): string {
  return `${[
    formatCircumstances(growth),
    ...(plot === null ? [] : [`![Time and memory by files and by runs](${plot})`]),
    `Seconds (memory of agent + server in MiB); \`changed\`: ${growth.changedFiles} files.`,
    '### By files',
    formatSteps(growth.byFiles),
    '### By runs in the catalog',
    formatSteps(growth.byRuns),
  ].join('\n\n')}\n`
}

function formatSteps(steps: readonly GrowthStep[]): string {
  const works = workNames.filter((work) => steps.every((step) => step.works[work] !== undefined))
  const rows = steps.map(({ files, runs, catalogBytes, works: points }) => [
    files.toLocaleString('en-US'),
    String(runs),
    (catalogBytes / 2 ** 20).toFixed(1),
    ...works.map((work) => formatPoint(points[work]!)),
  ])
  return formatTable(['files', 'runs', 'catalog MiB', ...works], rows, left)
}

function formatPoint({ seconds, agentPeakBytes, serverPeakBytes }: GrowthPoint): string {
  const inMebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(0)
  const memory = [agentPeakBytes, serverPeakBytes].filter((bytes) => bytes > 0).map(inMebibytes)
  return `${seconds.toFixed(2)} (${memory.join(' + ')})`
}
