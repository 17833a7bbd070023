import Table from 'cli-table3'
import prettyBytes from 'pretty-bytes'
import prettyMs from 'pretty-ms'

/** Sizes, times and tables for people. */

export function formatBytes(bytes: number): string {
  return prettyBytes(bytes)
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}

/** How far something is: `12,345  1.2 GB`. */
export function describeProgress(entries: number, bytes: number): string {
  return `${formatCount(entries)} ${formatBytes(bytes).padStart(9)}`
}

/** At most two units, like `2h 5m`; tenths of a second below ten seconds. */
export function formatDuration(ms: number): string {
  return prettyMs(ms, { unitCount: 2, secondsDecimalDigits: ms < 10_000 ? 1 : 0 })
}

/** Local time to the minute: `2026-11-21 03:00`. */
export function formatTime(ms: number): string {
  const time = new Date(ms)
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}`
}

const noLines = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid'].flatMap((side) =>
    [side, `${side}-mid`, `${side}-left`, `${side}-right`].map((key) => [key, '']),
  ),
)

/** Rows under a head, in columns without lines; columns in `right` are flush right. Cells have gone through `printable`. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string[] {
  const table = new Table({
    head: [...head],
    colAligns: head.map((_, column) => (right.includes(column) ? 'right' : 'left')),
    chars: { ...noLines, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  })
  table.push(...rows.map((row) => [...row]))
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
}
