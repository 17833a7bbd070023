/**
 * Fuzzes targets, one after the other, for `fuzzTargets`: `node worker.ts OPTIONS`, a JSON object. Prints a line of JSON for
 * each target that is done.
 */
import { readCorpus } from './corpus.ts'
import { fuzzOne } from './fuzz-one.ts'
import { JournalWriter } from './journal.ts'
import { selfTestTargets } from './self-test-targets.ts'
import { allTargets } from './targets.ts'

export interface WorkerOptions {
  journal: string
  /** Names. */
  targets: string[]
  runs: number
  seconds: number
  seed: number
}

const { journal: file, targets, ...limits } = JSON.parse(process.argv[2]!) as WorkerOptions
const journal = new JournalWriter(file)
for (const [number, name] of targets.entries()) {
  const target = [...allTargets, ...selfTestTargets].find((one) => one.name === name)!
  const onInput = (input: Buffer) => journal.write(number, input)
  // What its inputs are made with may break, too.
  onInput(Buffer.alloc(0))
  const { finding, ...result } = await fuzzOne(target, readCorpus(name), limits, onInput)
  const shown = finding === null ? null : { ...finding, input: finding.input.toString('base64') }
  // Once it is all written: the end of the process would cut it.
  await new Promise((resolve) =>
    process.stdout.write(`${JSON.stringify({ ...result, finding: shown })}\n`, resolve),
  )
  target.dispose?.()
}
process.exit()
