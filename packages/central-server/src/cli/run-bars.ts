import cliProgress from 'cli-progress'
import { formatCount } from './format.ts'

/** Bars of hosts at work, with lines that scroll above them. */
export interface Bars {
  /** `expectedEntries`: as many as the last run met; without it the bar cannot tell how much is left. */
  begin(name: string, expectedEntries: number | null): void
  update(name: string, entries: number, fields: { phase: string; content: string; path: string }): void
  end(name: string): void
  print(line: string): void
  /** Prints what has not been shown yet, and gives the terminal back. */
  close(): void
}

const refreshPerSecond = 5

/** On standard error, which must be a terminal. Texts have gone through `printable`. */
export function openBars(): Bars {
  const multi = new cliProgress.MultiBar({
    format: formatBar,
    fps: refreshPerSecond,
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    // The program handles signals itself; close() shows the cursor again.
    gracefulExit: false,
  })
  const bars = new Map<string, cliProgress.SingleBar>()
  return {
    begin(name, expectedEntries) {
      const fields = { name, phase: 'connect', content: '', path: '', expectedEntries }
      bars.set(name, multi.create(expectedEntries ?? 0, 0, fields))
    },
    update: (name, entries, fields) => bars.get(name)?.update(entries, fields),
    end(name) {
      const bar = bars.get(name)
      if (bar !== undefined) multi.remove(bar)
      bars.delete(name)
    },
    print: (line) => multi.log(`${line}\n`),
    close() {
      // Lines are shown with the next refresh, which would not come any more. Missing in the types.
      ;(multi as unknown as { update(): void }).update()
      multi.stop()
    },
  }
}

const barWidth = 20

function formatBar(_options: unknown, params: { value: number }, payload: Record<string, unknown>): string {
  const { name, phase, content, path, expectedEntries } = payload as {
    name: string
    phase: string
    content: string
    path: string
    expectedEntries: number | null
  }
  const share =
    expectedEntries === null || expectedEntries === 0 ? null : Math.min(1, params.value / expectedEntries)
  const bar =
    share === null ? ''.padEnd(barWidth, '·') : '█'.repeat(Math.round(share * barWidth)).padEnd(barWidth, '░')
  const percent = share === null ? '    ' : `${Math.floor(share * 100)}%`.padStart(4)
  const line = `${name.padEnd(12)} ${bar}${percent} ${phase.padEnd(7)} ${formatCount(params.value).padStart(9)} ${content.padStart(9)}  ${path}`
  return line.slice(0, Math.max(20, (process.stderr.columns ?? 80) - 1))
}
