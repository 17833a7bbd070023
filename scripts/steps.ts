import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

export interface Step {
  name: string
  command: string[]
}

/** Where Node keeps what it made of the tests and the sources that they import: each file of tests is a process. */
const compileCache = join(import.meta.dirname, '..', 'node_modules', '.cache', 'tests')

/** Runs the steps in order and stops at the first that fails. Returns the exit code for all. */
export function runSteps(steps: readonly Step[]): number {
  for (const { name, command } of steps) {
    const startedMs = performance.now()
    const [program, ...args] = command
    const { status } = spawnSync(program!, args, {
      stdio: 'inherit',
      env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
    })
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    process.stdout.write(`${name}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)\n`)
    if (status !== 0) return status ?? 1
  }
  return 0
}

/** One file of tests more at a time than there are cores, as some of them only wait, and four at most, for the memory. */
const testsAtOnce = Math.min(4, availableParallelism() + 1)

/** Runs these files of tests, so that one summary counts them all. */
export function testCommand(files: readonly string[]): string[] {
  return ['node', '--test', `--test-concurrency=${testsAtOnce}`, ...files]
}

export function unitTests(): string[] {
  return globSync('packages/*/test/**/*.test.ts').sort()
}

export function behaviourTests(): string[] {
  return globSync('test/**/*.test.ts').sort()
}
