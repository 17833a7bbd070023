/**
 * Inputs that were found, and that are tried first ever after: test/corpus/TARGET/NAME. test/corpus/README.md tells
 * what they are.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const folder = join(import.meta.dirname, '..', 'corpus')

/** The inputs of a target, in the order of their names. */
export function readCorpus(target: string): Buffer[] {
  const path = join(folder, target)
  if (!statSync(path, { throwIfNoEntry: false })) return []
  return readdirSync(path)
    .sort()
    .map((name) => readFileSync(join(path, name)))
}

/** Folders of the corpus. */
export function corpusNames(): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? [one.name] : []))
}

/** Keeps an input, and returns the file. */
export function addToCorpus(target: string, kind: string, input: Buffer): string {
  const digest = createHash('sha256').update(input).digest('hex').slice(0, 8)
  const file = join(folder, target, `${kind}-${digest}`)
  mkdirSync(join(folder, target), { recursive: true })
  writeFileSync(file, input)
  return file
}
