/** Fuzzes one target in this process. */
import fc from 'fast-check'
import { Random } from '../harness/random.ts'
import { mutateInput, rawInput } from './mutate-input.ts'
import { shrinkInput } from './shrink.ts'
import type { FuzzTarget } from './target.ts'

export interface Finding {
  /**
   * `error`: it threw what it must not; `slow`, `memory`: it took too much; `hang`, `crash`: the process had to be
   * ended, or ended.
   */
  kind: 'error' | 'slow' | 'memory' | 'hang' | 'crash'
  message: string
  input: Buffer
}

export interface FuzzResult {
  target: string
  tried: number
  accepted: number
  seconds: number
  finding: Finding | null
}

export interface FuzzLimits {
  /** Whichever comes first. */
  runs: number
  seconds: number
  seed: number
}

const cpuMsMaxDefault = 1000
/** Memory that one input may make the process grow by. */
const growthKibibytesMax = 256 * 1024

/** Valid inputs that are made at a time: making one costs more than mutating it. */
const poolSize = 100
const usesOfPool = 40

/**
 * Gives the target `corpus` first, and then inputs of its own, until a limit is reached or something is found. `onInput` is
 * told of each input before it is tried.
 */
export async function fuzzOne(
  target: FuzzTarget,
  corpus: readonly Buffer[],
  limits: FuzzLimits,
  onInput: (input: Buffer) => void,
): Promise<FuzzResult> {
  const startedMs = performance.now()
  const result: FuzzResult = { target: target.name, tried: 0, accepted: 0, seconds: 0, finding: null }
  const inputs = new Inputs(target, limits.seed)
  for (let number = 0; result.finding === null; number++) {
    const isOver = result.tried - corpus.length >= limits.runs
    if (number >= corpus.length && (isOver || performance.now() - startedMs > limits.seconds * 1000)) break
    const input = corpus[number] ?? inputs.next()
    onInput(input)
    const { accepted, finding } = await tryInput(target, input)
    result.tried++
    if (accepted) result.accepted++
    result.finding = finding
  }
  if (result.finding?.kind === 'error') {
    const fails = async (input: Buffer) => {
      onInput(input)
      return (await tryInput(target, input)).finding?.kind === 'error'
    }
    const input = await shrinkInput(result.finding.input, fails)
    result.finding = (await tryInput(target, input)).finding ?? result.finding
  }
  result.seconds = (performance.now() - startedMs) / 1000
  return result
}

async function tryInput(
  target: FuzzTarget,
  input: Buffer,
): Promise<{ accepted: boolean; finding: Finding | null }> {
  const before = process.resourceUsage()
  let accepted = false
  try {
    // What a check does to its input must not change what is told of it.
    const answer = target.check(Buffer.from(input))
    accepted = typeof answer === 'boolean' ? answer : await answer
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { accepted: false, finding: { kind: 'error', message, input } }
  }
  const after = process.resourceUsage()
  const cpuMs = (after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime) / 1000
  const grown = after.maxRSS - before.maxRSS
  const cpuMsMax = target.cpuMsMax ?? cpuMsMaxDefault
  let finding: Finding | null = null
  if (cpuMs > cpuMsMax)
    finding = { kind: 'slow', message: `it took ${Math.round(cpuMs)} ms of CPU, over ${cpuMsMax}`, input }
  else if (grown > growthKibibytesMax)
    finding = { kind: 'memory', message: `memory grew by ${Math.round(grown / 1024)} MiB`, input }
  return { accepted, finding }
}

/** Valid inputs as they are, mutated ones, and raw bytes. */
class Inputs {
  readonly #target: FuzzTarget
  readonly #random: Random
  readonly #tokens: Buffer[]
  #pool: Buffer[] = []
  #used = 0

  constructor(target: FuzzTarget, seed: number) {
    this.#target = target
    this.#random = new Random(seed)
    this.#tokens = (target.tokens ?? []).map((token) => Buffer.from(token))
  }

  next(): Buffer {
    const random = this.#random
    const { inputs, mutations } = this.#target
    const uses = mutations === 'none' ? 1 : usesOfPool
    if (this.#used++ % (poolSize * uses) === 0) {
      const seed = random.below(2 ** 31)
      this.#pool = fc.sample(inputs, { numRuns: poolSize, seed }).map((bytes) => Buffer.from(bytes))
    }
    if (mutations === 'none') return this.#pool[(this.#used - 1) % poolSize]!
    const dice = random.next()
    if (dice < 0.12) return rawInput(random, this.#tokens)
    const input = random.of(this.#pool)
    return dice < 0.25 ? input : mutateInput(input, random, this.#pool, this.#tokens)
  }
}
