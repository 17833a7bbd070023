/**
 * A few of the faults that `npm run faults` strikes with, by a seed: CENTRAL_BACKUP_FAULT_SEED=2 takes others. And that
 * what looks for their consequences finds them.
 */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { describeCampaign, sample, type Tried, tryFault } from './faults/campaign.ts'
import { differencesOfCatalogs, faultsOfWord, findFaults, tornFiles } from './faults/invariants.ts'
import { kindNamed } from './faults/plan.ts'
import { Scene } from './faults/scene.ts'
import { failedCall, lacksStrace, readSteps, type Step } from './faults/steps.ts'
import { workNamed } from './faults/works.ts'
import type { Ended } from './harness/program.ts'
import { Random } from './harness/random.ts'

const seed = Number(process.env.CENTRAL_BACKUP_FAULT_SEED ?? 1)
const noStrace = await lacksStrace()

const chosen: { work: string; kind: string; count: number }[] = [
  { work: 'prune', kind: 'kill', count: 1 },
  { work: 'restore', kind: 'kill', count: 1 },
]

describe('whatever strikes', { concurrency: 1, skip: noStrace }, () => {
  let scene: Scene
  before(async () => {
    scene = await Scene.create()
  })
  after(() => scene?.[Symbol.asyncDispose]())

  for (const { work, kind, count } of chosen) {
    test(`a ${work} (${kind}), nothing is lost, locked, left behind or told wrongly, and it comes through again`, async () => {
      const [struck, by] = [workNamed(work), kindNamed(kind)]
      await scene.clear()
      await struck.prepare(scene)
      await scene.save()
      const faults = sample(await by.plan(scene, struck), count, new Random(seed))
      assert.equal(faults.length, count)
      for (const fault of faults) {
        const { hit, faults: found } = await tryFault(scene, struck, by, fault)
        assert.deepEqual(found, [], fault.name)
        assert.ok(hit, `${fault.name}: it never came to it`)
      }
    })
  }

  test('an archive that is cut off after it was reported good is found, as is what is left behind, and a lie', async () => {
    const work = workNamed('run')
    await scene.clear()
    await work.prepare(scene)
    const [archive] = scene.site.archives('web1')
    truncateSync(archive!, statSync(archive!).size - 1000)
    writeFileSync(scene.site.at('tmp', 'forgotten'), '')
    mkdirSync(join(scene.target, '.central-backup-restore-x'))
    const ended: Ended = { code: 0, signal: null, stdout: '', stderr: '', json: [], log: [] }
    const found = (await findFaults(scene, work, ended)).join('\n')
    assert.match(found, /it exited with 0 and told no end of its run/)
    assert.match(found, /at once: verify: 3 /)
    assert.match(found, /run 1 does not come back|run 1: lacks /)
    assert.match(found, /left behind in the folder of temporary files: forgotten/)
    assert.match(found, /left behind: target\/\.central-backup-restore-x/)
    assert.match(found, /rebuild: /)
  })
})

test('steps are numbered by thread and call, from where they count on, and only those that change something here', (t) => {
  const lines = [
    '10 openat(AT_FDCWD</>, "/data/before", O_WRONLY|O_CREAT, 0600) = 3</data/before>',
    '10 openat(AT_FDCWD</>, "/lib/elsewhere", O_WRONLY) = 3</lib/elsewhere>',
    '11 openat(AT_FDCWD</>, "/data/in another thread", O_RDWR) = 4</data/in another thread>',
    '10 openat(AT_FDCWD</>, "/data/only read", O_RDONLY) = 5</data/only read>',
    '10 openat(AT_FDCWD</>, "/data/changed", O_RDWR <unfinished ...>',
    '10 <... openat resumed>) = 6</data/changed>',
    '10 write(7<socket:[1]>, ""..., 5) = 5',
    '10 fsync(6</data/changed>) = -1 EIO (Input/output error) (INJECTED)',
  ]
  const folder = mkdtempSync(join(tmpdir(), 'central-backup-trace-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'trace')
  writeFileSync(file, lines.join('\n'))
  const short = (steps: readonly Step[]) => steps.map(({ call, nth }) => `${call} ${nth}`)
  assert.deepEqual(short(readSteps(file, '/data')), ['openat 1', 'openat 4', 'fsync 1'])
  const from = { sockets: true, fromByte: lines[0]!.length + 1 }
  assert.deepEqual(short(readSteps(file, '/data', from)), ['openat 1', 'openat 4', 'write 1', 'fsync 1'])
  const ofFiles = readSteps(file, '/data', { ...from, byPath: true })
  assert.deepEqual(
    ofFiles.map(({ call, path = null, nth }) => `${call} ${path} ${nth}`),
    ['openat null 1', 'openat null 4', 'write null 1', 'fsync /changed 1'],
  )
  assert.match(failedCall(file)!, /^fsync\(6<\/data\/changed>\)/)
})

test('a catalog that is made anew may bring back what retention removed, and differs in nothing else', () => {
  const catalog = (seen: Record<string, string[]>, ...removed: string[]) => ({
    seen: new Map(Object.entries(seen)),
    removed: new Set(removed),
  })
  const before = catalog({ a: ['1', '2'], b: ['3'] }, 'gone')
  assert.deepEqual(differencesOfCatalogs(before, catalog({ a: ['1', '2'], b: ['3'], gone: ['4'] })), [])
  const told = (seen: Record<string, string[]>) => differencesOfCatalogs(before, catalog(seen)).join()
  assert.match(told({ a: ['1'], b: ['3'] }), /catalog of a: lacks 2/)
  assert.match(told({ a: ['1', '2'] }), /catalog of b: lacks 3/)
  assert.match(told({ a: ['1', '2', 'more'], b: ['3'] }), /catalog of a: has more/)
  assert.match(told({ a: ['1', '2'], b: ['3'], other: ['5'] }), /has other, which was not there/)
})

test('who is killed need not say why, and who crashes, takes something for a bug or is silent is told', () => {
  const ended: Ended = { code: null, signal: null, stdout: '', stderr: '', json: [], log: [] }
  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const)
    assert.deepEqual(faultsOfWord({ ...ended, signal }), [])
  assert.deepEqual(faultsOfWord({ ...ended, signal: 'SIGABRT', stderr: 'JavaScript heap out of memory' }), [])
  assert.deepEqual(faultsOfWord({ ...ended, signal: 'SIGSEGV' }), ['it crashed: SIGSEGV'])
  assert.deepEqual(faultsOfWord({ ...ended, code: 1 }), ['exit code 1, and not a word of why'])
  assert.match(faultsOfWord({ ...ended, code: 77 }).join(), /exit code 77/)
  const internal = { error: { code: 'internal', message: 'x' } } as unknown as Ended['json'][number]
  assert.match(faultsOfWord({ ...ended, code: 1, json: [internal] }).join(), /takes it for a bug: x/)
  assert.match(faultsOfWord({ ...ended, code: 0, json: [internal] }).join(), /exit code 0 with an error/)
})

test('a file with neither its old nor its new content is torn', () => {
  const line = (path: string, size: number, digest: string) =>
    `"${path}" file 644 0:0 17 ${size} ${digest} null`
  const old = [line('a', 1, 'old'), line('b', 1, 'old')]
  const now = [line('a', 2, 'new'), line('b', 2, 'new')]
  assert.deepEqual(tornFiles([old[0]!, now[1]!], old, now), [])
  assert.deepEqual(tornFiles([old[0]!, line('b', 1, 'half')], old, now), [line('b', 1, 'half')])
})

test('a campaign counts what was felt, and names what is wrong', () => {
  const one = { fault: '', failed: null, exit: '0', ms: 1, hit: true, faults: [] }
  const tried: Tried[] = [
    { ...one, work: 'run', kind: 'kill' },
    { ...one, work: 'run', kind: 'kill', hit: false },
    { ...one, work: 'run', kind: 'cut', faults: ['something'] },
    { ...one, work: 'prune', kind: 'kill' },
  ]
  assert.deepEqual(describeCampaign(tried), [
    '| work | kill | cut | all |',
    '|---|---|---|---|',
    '| run | 1 | 1 (1 wrong) | 2 (1 wrong) |',
    '| prune | 1 |  | 1 |',
    '| all | 2 | 1 (1 wrong) | 3 (1 wrong) |',
  ])
  assert.deepEqual(sample([1, 2, 3], 5, new Random(1)), [1, 2, 3])
  assert.equal(sample([1, 2, 3, 4], 2, new Random(1)).length, 2)
})
