/**
 * Writes an archive into the repository `process.argv[2]` and prints what came of it, as JSON: a program of its own,
 * so that tests can watch and break its system calls.
 */
import { createArchive } from '../src/storage/archive-writer.ts'
import { openRepository } from '../src/storage/repository.ts'

const startedAtMs = Date.parse('2026-11-21T03:00:00Z')
let outcome: object
try {
  const repository = await openRepository(process.argv[2]!)
  const writer = await createArchive(repository, 'web1', { startedAtMs, kind: 'full' })
  try {
    for (let block = 0; block < 16; block++) await writer.write(Buffer.alloc(65_536, block))
    outcome = { path: await writer.commit() }
  } catch (error) {
    await writer.abandon()
    throw error
  }
} catch (error) {
  const { name, message, code, hint } = error as Error & { code?: string; hint?: string }
  outcome = { name, message, code, hint }
}
process.stdout.write(JSON.stringify(outcome))
