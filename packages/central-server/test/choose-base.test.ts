import assert from 'node:assert/strict'
import { renameSync } from 'node:fs'
import { test } from 'node:test'
import type { Host } from '../src/config/hosts.ts'
import { chooseBase } from '../src/jobs/choose-base.ts'
import { day, PastRuns } from './past-run.ts'
import { remembering } from './told.ts'

const tree = { t: 'folder', 't/a': { content: 'a' } } as const
const dayMs = 24 * 3_600_000

/** The id of the run that the next one builds on, and what was logged. */
async function choose(
  past: PastRuns,
  { full = false, fullEveryMs = null }: { full?: boolean; fullEveryMs?: number | null } = {},
): Promise<{ base: number | null; told: string[] }> {
  const { log, told } = remembering()
  const host = { name: 'web1', fullEveryMs } as Host
  const base = await chooseBase({ ...past.prune, log }, host, full)
  return { base: base?.id ?? null, told }
}

test('the first run is full, and each after it builds on the newest, be it incomplete', async () => {
  using past = await PastRuns.create()
  assert.deepEqual(await choose(past), { base: null, told: [] })
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  assert.deepEqual(await choose(past), { base: 1, told: [] })
  await past.add({ startedAtMs: day(2), outcome: 'incomplete' })
  assert.deepEqual(await choose(past), { base: 2, told: [] })
  assert.deepEqual(await choose(past, { full: true }), { base: null, told: [] })
  await past.add({ startedAtMs: day(3), kind: 'full', tree })
  assert.deepEqual(await choose(past), { base: 3, told: [] })
})

test('everything is packed anew as often as the host says, counted from the last full run', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(10) })
  const fullEveryMs = 20 * dayMs
  past.nowMs = day(21) - 1
  assert.equal((await choose(past, { fullEveryMs })).base, 2)
  past.nowMs = day(21)
  assert.deepEqual(await choose(past, { fullEveryMs }), { base: null, told: [] })
  assert.equal((await choose(past)).base, 2)
})

test('an archive of the generation that is missing makes a full run, with a line in the log', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2) })
  const { name } = full.archive!
  renameSync(past.path(name), past.folder.at('away'))
  const { base, told } = await choose(past)
  assert.equal(base, null)
  assert.deepEqual(told, [`error: web1: a full run is made, as archives are missing: ${name}`])
  renameSync(past.folder.at('away'), past.path(name))
  assert.equal((await choose(past)).base, 2)
  // What is missing of an older generation does not matter.
  await past.add({ startedAtMs: day(3), kind: 'full', tree })
  renameSync(past.path(name), past.folder.at('away'))
  assert.deepEqual(await choose(past), { base: 3, told: [] })
})

test('an archive of a removed run that the generation needs is missed as well', async () => {
  using past = await PastRuns.create()
  const full = await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(2) })
  await past.remove(full.id)
  assert.equal((await choose(past)).base, 2)
  renameSync(past.path(full.archive!.name), past.folder.at('away'))
  assert.equal((await choose(past)).base, null)
})

test('where the clock was set back, the next run builds on the one that was made last', async () => {
  using past = await PastRuns.create()
  await past.add({ startedAtMs: day(1), kind: 'full', tree })
  await past.add({ startedAtMs: day(9) })
  const last = await past.add({ startedAtMs: day(2), tree: { 't/b': { content: 'b' } } })
  assert.equal((await choose(past)).base, last.id)
  // It goes with its archive, and what is left is what the next one builds on.
  await past.remove(last.id)
  assert.deepEqual(past.files('trash'), [last.archive!.name])
  assert.equal((await choose(past)).base, 2)
})
