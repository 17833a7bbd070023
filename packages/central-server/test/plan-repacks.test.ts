/** Which archives are written anew, by what they hold and how large they are: no disk, no catalog. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Run } from '../src/catalog/catalog.ts'
import type { ChainLink } from '../src/catalog/needed.ts'
import { absorbedMax, planRepacks, smallArchiveBytesMax } from '../src/jobs/plan-repacks.ts'

const small = 500
const large = 10 * smallArchiveBytesMax

/** `full` and `living` stay as they are, a `stub` has only its index, `dead` has content that nobody needs. */
type What = 'full' | 'living' | 'stub' | 'dead' | 'mostly dead'

function link(id: number, what: What, bytes = small, fields: Partial<ChainLink> = {}): ChainLink {
  const run = { id, kind: what === 'full' ? 'full' : 'incremental', archive: { bytes } } as Run
  const [storedBytes, neededBytes] = { stub: [0, 0], dead: [bytes, 0], 'mostly dead': [9, 4] }[
    what as string
  ] ?? [9, 9]
  const removed = what !== 'full' && what !== 'living'
  const none = { inPieces: false, hasLinks: false, refused: false }
  return { run, removed, storedBytes: storedBytes!, neededBytes: neededBytes!, ...none, ...fields }
}

const chainOf = (...whats: (What | [What, number, Partial<ChainLink>?])[]): ChainLink[] =>
  whats.map((what, place) => (typeof what === 'string' ? link(place, what) : link(place, ...what)))

/** `3 < 1 2` is archive 3 that takes over 1 and 2, `3!` one of which only what is needed stays. */
const plan = (chain: readonly ChainLink[]): string[] =>
  planRepacks(chain).map(({ run, shrinks, absorbs }) =>
    [
      `${run.id}${shrinks ? '!' : ''}`,
      ...(absorbs.length > 0 ? ['<', ...absorbs.map(({ id }) => id)] : []),
    ].join(' '),
  )

test('a small archive takes over all stubs before it, with or without content that is dead', () => {
  assert.deepEqual(plan(chainOf('full', 'stub', 'dead', 'stub', 'living', 'living')), ['4 < 1 2 3'])
  assert.deepEqual(plan(chainOf('full', 'stub', 'living', 'stub', 'stub', 'living')), ['2 < 1', '5 < 3 4'])
})

test('the full archive, and the one that the next run builds on, stay', () => {
  assert.deepEqual(plan(chainOf('full', 'living')), [])
  assert.deepEqual(
    plan([link(0, 'full', small, { removed: true, neededBytes: 0, storedBytes: 0 }), link(1, 'stub')]),
    [],
  )
  assert.deepEqual(plan(chainOf('full', 'stub', 'stub')), ['2! < 1'])
})

test('an archive that was taken in without its base neither takes over another nor is taken over', () => {
  const bridged = link(2, 'stub')
  bridged.run.error = { code: 'base-missing', message: 'what it builds on is missing' }
  assert.deepEqual(plan([link(0, 'full'), link(1, 'stub'), bridged, link(3, 'living')]), [])
})

test('for small stubs no large archive is copied, unless it is packed anew: the last of them takes over the others', () => {
  assert.deepEqual(plan(chainOf('full', 'stub', 'stub', 'stub', ['living', large], 'living')), ['3! < 1 2'])
  assert.deepEqual(plan(chainOf('full', 'stub', ['living', large], 'living')), [], 'one stays')
  assert.deepEqual(plan(chainOf('full', 'stub', 'stub', ['mostly dead', large], 'living')), ['3! < 1 2'])
  assert.deepEqual(plan(chainOf('full', 'dead', ['living', large], 'living')), ['1!'])
})

test('a large archive takes over what is a quarter of it, and a large stub is copied for as much in return', () => {
  assert.deepEqual(plan(chainOf('full', ['stub', large / 4], ['living', large], 'living')), ['2 < 1'])
  assert.deepEqual(plan(chainOf('full', ['stub', large / 4 - 1], ['living', large], 'living')), [])
  assert.deepEqual(plan(chainOf('full', ['stub', large], 'stub', 'stub', 'living', 'living')), ['4 < 2 3'])
  assert.deepEqual(plan(chainOf('full', ['stub', large], ['stub', large / 4], 'living', 'living')), [
    '2! < 1',
  ])
})

test('however stubs come one by one, few of them are left, and each byte is copied a few times', () => {
  let chain = chainOf('full', ['living', large])
  let copied = 0
  const added = 3 * smallArchiveBytesMax
  const runs = 200
  for (let n = 0; n < runs; n++) {
    chain.splice(-1, 0, link(100 + n, 'stub', added))
    for (let tasks = planRepacks(chain); tasks.length > 0; tasks = planRepacks(chain)) {
      const bytesOf = (id: number) => chain.find((one) => one.run.id === id)!.run.archive!.bytes
      const { run, absorbs } = tasks[0]!
      const bytes = [run, ...absorbs].reduce((sum, { id }) => sum + bytesOf(id), 0)
      copied += bytes
      const gone = new Set(absorbs.map(({ id }) => id))
      chain = chain
        .filter((one) => !gone.has(one.run.id))
        .map((one) =>
          one.run.id === run.id ? { ...one, run: { ...run, archive: { ...run.archive!, bytes } } } : one,
        )
    }
  }
  assert.ok(chain.length < 12, `${chain.length} archives`)
  assert.ok(copied < 12 * runs * added, `each byte was copied ${copied / (runs * added)} times`)
})

test('what has pieces, several names or damage stays, and holds up only what is before it', () => {
  for (const flag of ['inPieces', 'hasLinks', 'refused'] as const) {
    const chain = chainOf('full', 'stub', ['stub', small, { [flag]: true }], 'stub', 'living', 'living')
    const taken = flag === 'refused' ? [] : ['2 < 1']
    assert.deepEqual(plan(chain), [...taken, '4 < 3'], flag)
  }
  assert.deepEqual(
    plan(chainOf('full', 'stub', 'stub', ['mostly dead', small, { refused: true }], 'living')),
    ['2! < 1'],
  )
})

test('very many go in several turns', () => {
  const stubs = Array.from({ length: 2 * absorbedMax + 50 }, (): What => 'stub')
  const sizes = planRepacks(chainOf('full', ...stubs, 'living', 'living')).map(
    ({ absorbs }) => absorbs.length,
  )
  assert.ok(sizes.every((size) => size <= absorbedMax))
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    stubs.length - sizes.length + 1,
  )
})
