/** Fuzzes targets in a process of their own, so that one that hangs or crashes is a finding, and the others go on. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { cpuSecondsOf } from '../../bench/process-usage.ts'
import type { FuzzLimits, FuzzResult } from './fuzz-one.ts'
import { type JournalEntry, readJournal } from './journal.ts'
import type { WorkerOptions } from './worker.ts'

/** One input that takes more CPU hangs, however busy the machine is. */
const hangCpuMsMax = 10_000
/** One that waits for something takes none, and hangs as well. */
const hangMsMax = 180_000
/** To load all targets, before the first of them begins. */
const startCpuMsMax = 60_000
const watchMs = 500

const heapMebibytesMax = 1024

/** Fuzzes targets in their order; results come in that order. An input that takes more CPU than `hangCpuMs` hangs. */
export async function fuzzTargets(
  names: readonly string[],
  limits: FuzzLimits,
  onResult: (result: FuzzResult) => void = () => {},
  hangCpuMs: number = hangCpuMsMax,
): Promise<FuzzResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'central-backup-fuzz-'))
  const results: FuzzResult[] = []
  const add = (result: FuzzResult) => {
    results.push(result)
    onResult(result)
  }
  try {
    while (results.length < names.length) {
      const left = names.slice(results.length)
      const before = results.length
      const options = { journal: join(folder, 'journal'), targets: [...left], ...limits }
      rmSync(options.journal, { force: true })
      const broken = await runWorker(options, hangCpuMs, add)
      if (results.length === names.length) break
      const target = names[results.length]!
      const { input = Buffer.alloc(0), number = 0 } = broken.entry ?? {}
      const isOfTarget = broken.entry?.target === results.length - before
      if (!isOfTarget) throw new Error(`the fuzzing of ${target} did not begin: ${broken.message}`)
      const { kind, message, seconds } = broken
      add({ target, tried: number, accepted: 0, seconds, finding: { kind, message, input } })
    }
    return results
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Broken {
  kind: 'hang' | 'crash'
  message: string
  seconds: number
  entry: JournalEntry | null
}

async function runWorker(
  options: WorkerOptions,
  hangCpuMs: number,
  onResult: (result: FuzzResult) => void,
): Promise<Broken> {
  const startedMs = performance.now()
  const nodeOptions = [`--max-old-space-size=${heapMebibytesMax}`]
  const worker = join(import.meta.dirname, 'worker.ts')
  const child = spawn(process.execPath, [...nodeOptions, worker, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  let errors = ''
  child.stderr.on('data', (piece: Buffer) => {
    errors = (errors + piece.toString()).slice(-4000)
  })
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { finding, ...result } = JSON.parse(line)
    const input = finding === null ? null : Buffer.from(finding.input, 'base64')
    onResult({ ...result, finding: finding === null ? null : { ...finding, input } })
  })
  let hangs = false
  let seen = { number: -1, atMs: performance.now(), cpuMs: 0 }
  const timer = setInterval(() => {
    const number = entryOf(options.journal)?.number ?? -1
    const cpuMs = cpuSecondsOf(child.pid!) * 1000
    if (number !== seen.number) seen = { number, atMs: performance.now(), cpuMs }
    const cpuMsMax = number < 0 ? startCpuMsMax : hangCpuMs
    hangs = cpuMs - seen.cpuMs > cpuMsMax || performance.now() - seen.atMs > hangMsMax
    if (hangs) kill()
  }, watchMs)
  const [code, signal] = await once(child, 'close')
  clearInterval(timer)
  process.off('exit', kill)
  const message = hangs
    ? `one input took more than ${hangCpuMs / 1000} s of CPU, or waited for ${hangMsMax / 1000} s`
    : `the process ended with ${signal ?? code}\n${errors}`
  const seconds = (performance.now() - startedMs) / 1000
  return { kind: hangs ? 'hang' : 'crash', message, seconds, entry: entryOf(options.journal) }
}

function entryOf(journal: string): JournalEntry | null {
  try {
    return readJournal(journal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
