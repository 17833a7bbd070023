import { textFromBytes } from '@central-backup/archive'
import type { Host } from '../config/hosts.ts'
import type { BackUpObserver } from '../jobs/back-up.ts'
import type { HostObserver } from '../jobs/back-up-host.ts'
import type { HostResult } from '../jobs/run-report.ts'
import { describeProgress, formatBytes, formatCount, formatDuration } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { type Bars, openBars } from './run-bars.ts'

/** How many warnings of a host are printed; all are in the log and in the catalog. */
const warningsShownMax = 20

const plainProgressIntervalMs = 30_000

/** Follows a run for a person at a terminal: a bar for each host, and lines above them. */
export function watchOnTerminal(
  expectedEntries: (host: string) => number | null,
): BackUpObserver & Disposable {
  const bars = openBars()
  return {
    onBegin: (host) =>
      observeHost(host, (line) => bars.print(line), barObserver(bars, host.name, expectedEntries(host.name))),
    onEnd(result) {
      bars.end(result.host)
      for (const line of describeEnd(result)) bars.print(line)
    },
    [Symbol.dispose]: () => bars.close(),
  }
}

/** Follows a run where nobody watches: a line when something happens, and one in a while in between. */
export function watchInLines(invocation: Invocation): BackUpObserver & Disposable {
  const print = (line: string) => invocation.note(line)
  return {
    onBegin: (host) => observeHost(host, print, lineObserver(print, host.name)),
    onEnd(result) {
      const say =
        result.error === null && result.outcome !== 'incomplete'
          ? print
          : (line: string) => invocation.warn(line)
      for (const line of describeEnd(result)) say(line)
    },
    [Symbol.dispose]() {},
  }
}

type Progress = Parameters<NonNullable<HostObserver['onProgress']>>[0]

function observeHost(
  host: Host,
  print: (line: string) => void,
  onProgress: (progress: Progress) => void,
): HostObserver {
  let warnings = 0
  return {
    onRetry: (error, attempt) => print(`${host.name}: ${error.message}; attempt ${attempt} follows`),
    onConnected: (software) =>
      print(`${host.name}: connected to ${host.address}:${host.port} (${printable(software)})`),
    onProgress,
    onWarning({ path, message }) {
      warnings++
      if (warnings <= warningsShownMax)
        print(
          `${host.name}: warning: ${printable(path === null ? message : `${textFromBytes(path)}: ${message}`)}`,
        )
      if (warnings === warningsShownMax + 1) print(`${host.name}: more warnings are in the log`)
    },
  }
}

function barObserver(bars: Bars, name: string, expectedEntries: number | null): (progress: Progress) => void {
  bars.begin(name, expectedEntries)
  return ({ phase, entries, contentBytes, path }) => {
    bars.update(name, entries, {
      phase,
      facts: describeProgress(entries, contentBytes),
      path: path === null ? '' : printable(textFromBytes(path)),
    })
  }
}

function lineObserver(print: (line: string) => void, name: string): (progress: Progress) => void {
  let saidMs = performance.now()
  return ({ entries, contentBytes, path }) => {
    if (performance.now() - saidMs < plainProgressIntervalMs) return
    saidMs = performance.now()
    const at = path === null ? '' : `, at ${printable(textFromBytes(path))}`
    print(`${name}: ${formatCount(entries)} entries, ${formatBytes(contentBytes)}${at}`)
  }
}

type Mishap = keyof typeof mishapNames

const mishapNames = {
  changed: 'changed',
  vanished: 'vanished',
  unreadable: 'unreadable',
  attributes: 'without some attributes',
} as const

/** What a person wants to know of a host that is done, the first line saying it all. */
export function describeEnd(result: HostResult): string[] {
  const { host, outcome, error, counts, contentBytes, archive, localCopy } = result
  if (error !== null) {
    const hint = (error as { hint?: string }).hint
    return [`${host}: ${outcome}: ${error.message}`, ...(hint ? [`${host}: hint: ${hint}`] : [])]
  }
  const took = formatDuration(result.finishedAtMs - result.startedAtMs)
  const size = `${formatCount(counts.files ?? 0)} files, ${formatBytes(contentBytes)} in ${took}`
  const lines = [`${host}: ${outcome}: ${size}; archive ${archive!.name}, ${formatBytes(archive!.bytes)}`]
  if (result.kind === 'incremental')
    lines.push(
      `${host}: ${formatCount(counts.unchanged ?? 0)} unchanged, ${formatCount(counts.gone ?? 0)} gone`,
    )
  const mishaps = Object.entries(mishapNames).filter(([name]) => (counts[name as Mishap] ?? 0) > 0)
  if (mishaps.length > 0) {
    const told = mishaps.map(([name, shown]) => `${formatCount(counts[name as Mishap]!)} ${shown}`)
    lines.push(`${host}: ${told.join(', ')}`)
  }
  if (localCopy?.kept === false)
    lines.push(`${host}: no local copy: ${localCopy.error ?? 'the host does not say why'}`)
  return lines.map(printable)
}
