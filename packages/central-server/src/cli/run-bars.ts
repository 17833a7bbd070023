import cliProgress from 'cli-progress'

/** Bars of hosts at work, with lines that scroll above them. */
export interface Bars {
  /** `expected`: how much is probably to come, in any unit; without it the bar cannot tell how much is left. */
  begin(name: string, expected: number | null, phase?: string): void
  /** `done`: in the unit of `expected`. `facts` are counts and sizes as text. */
  update(name: string, done: number, fields: { phase: string; facts: string; path: string }): void
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
    begin(name, expected, phase = 'connect') {
      const fields = { name, phase, facts: '', path: '', expected }
      bars.set(name, multi.create(expected ?? 0, 0, fields))
    },
    update: (name, done, fields) => bars.get(name)?.update(done, fields),
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
  const { name, phase, facts, path, expected } = payload as {
    name: string
    phase: string
    facts: string
    path: string
    expected: number | null
  }
  const share = expected === null || expected === 0 ? null : Math.min(1, params.value / expected)
  const bar =
    share === null ? ''.padEnd(barWidth, '·') : '█'.repeat(Math.round(share * barWidth)).padEnd(barWidth, '░')
  const percent = share === null ? '    ' : `${Math.floor(share * 100)}%`.padStart(4)
  const line = `${name.padEnd(12)} ${bar}${percent} ${phase.padEnd(10)} ${facts.padStart(20)}  ${path}`
  return line.slice(0, Math.max(20, (process.stderr.columns ?? 80) - 1))
}
