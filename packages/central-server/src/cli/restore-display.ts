import {
  type BytePath,
  type RestoreObserver,
  type RestoreProblem,
  type RestoreReport,
  textFromBytes,
  type Unset,
} from '@central-backup/archive'
import { describeProgress, formatBytes, formatCount } from './format.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './printable.ts'
import { openBars } from './run-bars.ts'

/** How many of the things that were kept are named; with `--json` all are, as are those that are missing. */
const keptShownMax = 20

/** How many users and groups that have other numbers here are named; with `--json` all are. */
const mappedShownMax = 10

/** What is told of a restore while it goes on. */
export interface RestoreDisplay extends RestoreObserver, Disposable {
  /** More problems than are told one by one. */
  onMoreProblems(message: string): void
}

/** Follows a restore: a bar for a person at a terminal, and a line for each thing that does not come back. */
export function watchRestore(
  invocation: Invocation,
  host: string,
  expectedBytes: () => number,
): RestoreDisplay {
  const { json, quiet } = invocation.options
  if (json) return { ...jsonLines(invocation), [Symbol.dispose]() {} }
  if (!process.stderr.isTTY || quiet) {
    return {
      onProblem: problemLines((line) => invocation.warn(line)),
      onMoreProblems: (message) => invocation.warn(printable(message)),
      [Symbol.dispose]() {},
    }
  }
  const bars = openBars()
  let closed = false
  bars.begin(host, expectedBytes(), 'restore')
  return {
    onProgress: ({ phase, entries, contentBytes, path }) =>
      bars.update(host, contentBytes, {
        phase,
        facts: describeProgress(entries, contentBytes),
        path: shownPath(path),
      }),
    onProblem: problemLines((line) => bars.print(line)),
    onMoreProblems: (message) => bars.print(printable(message)),
    [Symbol.dispose]() {
      if (closed) return
      closed = true
      bars.end(host)
      bars.close()
    },
  }
}

function jsonLines(invocation: Invocation): Omit<RestoreDisplay, typeof Symbol.dispose> {
  return {
    onProgress({ path, ...progress }) {
      if (invocation.outputIsBehind) return
      invocation.report({ event: 'progress', ...progress, path: `/${textFromBytes(path)}` }, [])
    },
    onProblem: ({ kind, path, message }) =>
      invocation.report({ event: kind, path: `/${textFromBytes(path)}`, message }, []),
    onMoreProblems: (message) => invocation.report({ event: 'more-problems', message }, []),
  }
}

function problemLines(print: (line: string) => void): (problem: RestoreProblem) => void {
  let kept = 0
  return ({ kind, path, message }) => {
    if (kind === 'kept') kept++
    if (kind === 'kept' && kept > keptShownMax) return
    print(`${kind}: ${shownPath(path)}: ${printable(message)}`)
  }
}

function shownPath(path: BytePath): string {
  return printable(`/${textFromBytes(path)}`)
}

const unsetNames: Readonly<Record<Unset, { what: string; hint: string }>> = {
  owner: { what: 'the owner', hint: 'only root can give files to others' },
  mode: { what: 'the mode', hint: 'set-user-id and set-group-id are left out where the owner is' },
  times: { what: 'the times', hint: '' },
  acls: { what: 'access control lists', hint: 'not all file systems have them' },
  xattrs: { what: 'extended attributes', hint: 'some are for root, or not for this file system' },
  capabilities: { what: 'capabilities', hint: 'only root can give them to programs' },
  flags: { what: 'inode flags', hint: 'some are for root, or not for this file system' },
  project: { what: 'projects', hint: 'only root can set them, where the file system has quotas of projects' },
  special: { what: 'devices and other special files', hint: 'only root can make devices' },
}

/** What a person wants to know when a restore is done, the first line saying it all. */
export function describeReport(report: RestoreReport): string[] {
  const { restored, contentBytes, equal, damaged, failed, kept, notSet, mapped } = report
  const links = restored.symlinks + restored.hardlinks
  const parts = [
    `${formatCount(restored.files)} files with ${formatBytes(contentBytes)}`,
    `${formatCount(restored.directories)} folders`,
    `${formatCount(links)} links`,
    ...(restored.specials === 0 ? [] : [`${formatCount(restored.specials)} special files`]),
  ]
  const lines = [
    `restored ${parts.join(', ')}${equal === 0 ? '' : `; ${formatCount(equal)} were there already`}`,
  ]
  if (damaged.count > 0) lines.push(`DAMAGED in the backup, not restored: ${formatCount(damaged.count)}`)
  if (failed.count > 0) lines.push(`could not be written: ${formatCount(failed.count)}`)
  if (kept.count > 0)
    lines.push(`differ and were kept: ${formatCount(kept.count)} (--overwrite older or always replaces them)`)
  for (const { kind, name, from, to, count } of mapped.slice(0, mappedShownMax))
    lines.push(
      `${kind} ${printable(textFromBytes(name))} is ${to} here and was ${from}: ${formatCount(count)} objects (--numeric-ids takes the numbers that were)`,
    )
  if (mapped.length > mappedShownMax)
    lines.push(`and ${formatCount(mapped.length - mappedShownMax)} more users and groups with other numbers`)
  for (const [kind, unset] of Object.entries(notSet)) {
    // An agent of a later version may have kinds that are not known here.
    const { what, hint } = unsetNames[kind as Unset] ?? { what: kind, hint: '' }
    const examples = unset.examples.slice(0, 3).map(shownPath).join(', ')
    lines.push(
      `not set: ${what} of ${formatCount(unset.count)} (${unset.reason}), like ${examples}${hint === '' ? '' : `; ${hint}`}`,
    )
  }
  return lines
}

/** The report as `--json` gives it: the paths of problems were told one by one before. */
export function reportFields(report: RestoreReport): object {
  const { damaged, failed, kept, notSet, mapped, ...rest } = report
  const unset = Object.entries(notSet).map(([kind, { examples, ...noted }]) => [
    kind,
    { ...noted, examples: examples.map((path) => `/${textFromBytes(path)}`) },
  ])
  return {
    ...rest,
    damaged: damaged.count,
    failed: failed.count,
    kept: kept.count,
    notSet: Object.fromEntries(unset),
    mapped: mapped.map(({ name, ...owner }) => ({ ...owner, name: textFromBytes(name) })),
  }
}
