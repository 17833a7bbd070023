/** A report as Markdown that is also good to read in a terminal. */
import { peakBytesMax } from './goals.ts'
import type { Circumstances, ContenderReport, MemoryReport, Report, WorkReport } from './report.ts'

const mebibyte = 1024 * 1024
/** Programs with less memory than this are not named. */
const namedFromBytes = 4 * mebibyte

type Row = readonly string[]

const header: Row = ['', 'median s', 'min', 'max', 'runs', 'CPU s', 'memory MiB', 'ours / it', 'goal', '']
const leftColumns: ReadonlySet<number> = new Set([0, 6, 9])

/** The whole report: circumstances, a table for each work, and what the peers ran. */
export function formatReport(report: Report): string {
  const sections = report.works.map((work) => `### ${work.name}: ${work.title}\n\n${formatWork(work)}`)
  return `${[formatCircumstances(report), ...sections, formatPeers(report)].join('\n\n')}\n`
}

/** When, where, and with what: the lines above all figures. */
export function formatCircumstances(report: Circumstances): string {
  const { machine, rounds, scale, cold, trees, versions } = report
  const minutes = (report.seconds / 60).toFixed(1)
  const scaled = scale === 1 ? '' : `, trees scaled by ${scale}`
  const sizes = trees.map(
    ({ name, files, bytes }) => `${name}: ${inThousands(files)} files, ${inThousands(bytes / 1e6)} MB`,
  )
  const programs = Object.entries(versions).map(([program, version]) => `${program} ${version}`)
  return [
    `${report.date}, in ${minutes} minutes; ${rounds} runs each after a warm-up${scaled}.`,
    `Page cache: ${cold ? 'emptied before each run' : 'warm'}. Trees: ${sizes.join('; ')}.`,
    `${machine.cpu}, ${machine.cores} cores, ${inThousands(machine.memoryBytes / mebibyte)} MiB, ${machine.system}, kernel ${machine.kernel}, ${machine.fileSystem}.`,
    `Versions: ${programs.join(', ')}.`,
  ].join('\n')
}

function formatPeers({ peers, leftOut }: Report): string {
  const run = Object.entries(peers).map(([name, title]): Row => [name, `\`${title.replaceAll('|', '\\|')}\``])
  const missing = Object.entries(leftOut).map(([name, reason]): Row => [name, `left out, ${reason}`])
  return `What was run:\n\n${formatTable(['', ''], [...run, ...missing], new Set([0, 1]))}`
}

function formatWork({ contenders }: WorkReport): string {
  return formatTable(header, contenders.map(contenderRow), leftColumns)
}

function contenderRow(contender: ContenderReport): Row {
  const { peer, seconds, runs, cpuSeconds, memory, ratio, goal, reached } = contender
  const memoryGoal =
    reached !== null && ratio === null ? `agent, server ≤ ${peakBytesMax / mebibyte} MiB` : ''
  return [
    peer,
    formatSeconds(seconds.median),
    formatSeconds(seconds.min),
    formatSeconds(seconds.max),
    String(runs.length),
    formatSeconds(cpuSeconds),
    formatMemory(memory),
    ratio === null ? '' : ratio.toFixed(2),
    goal === null ? memoryGoal : `≤ ${goal}`,
    reached === null ? '' : reached ? 'reached' : 'MISSED',
  ]
}

function formatSeconds(seconds: number): string {
  return seconds.toFixed(2)
}

function formatMemory({ totalBytes, programs }: MemoryReport): string {
  const named = Object.entries(programs)
    .filter(([, bytes]) => bytes >= namedFromBytes)
    .toSorted(([, a], [, b]) => b - a)
    .map(([name, bytes]) => `${name} ${inMebibytes(bytes)}`)
  return `${inMebibytes(totalBytes)}${named.length === 0 ? '' : ` (${named.join(', ')})`}`
}

function inThousands(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

function inMebibytes(bytes: number): string {
  return (bytes / mebibyte).toFixed(0)
}

/** A table of Markdown with columns of the same width everywhere. `left` are the columns of text. */
export function formatTable(head: Row, rows: readonly Row[], left: ReadonlySet<number>): string {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column]!.length)))
  const align = (cell: string, column: number) =>
    left.has(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
  const line = (cells: Row) => `| ${cells.map(align).join(' | ')} |`
  const rule = widths.map((width, column) =>
    left.has(column) ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  )
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n')
}
