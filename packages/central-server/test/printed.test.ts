/** What commands say of the past of a host, and that those that read archives hold retention off for as long. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Catalog } from '../src/catalog/catalog.ts'
import { findReader, holdForReading } from '../src/catalog/read-lease.ts'
import { runProgram } from '../src/cli/program.ts'
import { HomeFolder } from './home-folder.ts'
import { day, PastRuns, trashDays } from './past-run.ts'

const hour = 3_600_000
process.env.TZ = 'UTC'

const text = (seed: number) => Array.from({ length: 3000 }, (_, i) => (i * seed * 7919) % 10007).join(' ')

/** A home whose repository has four runs of web1, of which two are to stay. */
async function makePast(): Promise<{ past: PastRuns; home: HomeFolder } & Disposable> {
  const past = await PastRuns.create()
  const repository = JSON.stringify(past.repository.folder)
  const home = new HomeFolder({
    'settings.ts': `export default { repository: ${repository}, trash: '${trashDays} days', log: { file: null } }`,
  })
  home.writeHost('web1', "{ address: '192.0.2.10', password: 'x', paths: ['/t'], retention: { last: 2 } }")
  const tree = {
    t: 'folder',
    't/a': { content: text(1) },
    't/b': { content: text(2) },
    't/keep': { content: 'keep' },
  }
  await past.add({ startedAtMs: day(1), kind: 'full', tree: tree as never })
  await past.add({ startedAtMs: day(2), gone: ['t/a'], unselected: ['t/b'] })
  await past.add({ startedAtMs: day(3), tree: { 't/new': { content: 'new' } } })
  await past.add({ startedAtMs: day(4), kind: 'full', tree: { t: 'folder', 't/keep': { content: 'keep' } } })
  past.nowMs = day(4) + hour
  return {
    past,
    home,
    [Symbol.dispose]() {
      past[Symbol.dispose]()
      home[Symbol.dispose]()
    },
  }
}

async function run(
  { past, home }: { past: PastRuns; home: HomeFolder },
  args: readonly string[],
  onWrite: () => void = () => {},
): Promise<{ status: number; stdout: string; stderr: string }> {
  const output = { stdout: '', stderr: '' }
  const write = (where: 'stdout' | 'stderr') => (text: string) => {
    output[where] += text
    onWrite()
    return true
  }
  const status = await runProgram(['--home', home.path, ...args], {
    ...{ environment: {}, workingDirectory: '/nonexistent', uid: process.geteuid!() },
    now: () => past.nowMs,
    stdout: { write: write('stdout') },
    stderr: { write: write('stderr') },
  })
  return { status, ...output }
}

test('find says since when a path is gone, and why, as far as that is known', async () => {
  using made = await makePast()
  const { status, stdout } = await run(made, ['find', '/t/?*'])
  assert.equal(status, 0)
  assert.deepEqual(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.replaceAll(/ +/g, ' ')),
    [
      'web1 2026-11-01 03:00 - 2026-11-01 03:00 (run 1) -rw-r--r-- root/root 14667 2023-11-14 22:13 /t/a gone since 2026-11-02 03:00 (run 2): deleted',
      'web1 2026-11-01 03:00 - 2026-11-01 03:00 (run 1) -rw-r--r-- root/root 14673 2023-11-14 22:13 /t/b gone since 2026-11-02 03:00 (run 2): no longer selected',
      'web1 2026-11-01 03:00 - 2026-11-03 03:00 (runs 1 to 3) -rw-r--r-- root/root 4 2023-11-14 22:13 /t/keep',
      'web1 2026-11-04 03:00 - 2026-11-04 03:00 (run 4) -rw-r--r-- root/root 4 2023-11-14 22:13 /t/keep',
      'web1 2026-11-03 03:00 - 2026-11-03 03:00 (run 3) -rw-r--r-- root/root 3 2023-11-14 22:13 /t/new gone since 2026-11-04 03:00 (run 4)',
    ],
  )
})

test('prune says what goes and why, what was packed anew, what was merged, and what it had to leave', async () => {
  using made = await makePast()
  const { past } = made
  const dry = await run(made, ['prune', '--dry-run'])
  assert.match(dry.stdout, /^HOST +RUN +STARTED +OUTCOME +DECISION +REASON\n/)
  assert.match(dry.stdout, /web1 +4 .* stays +last good run, last 2\n/)
  assert.match(dry.stdout, /web1 +1 .* would go +no rule keeps it\n/)
  {
    using _reading = holdForReading(past.catalog, ['web1'])
    const { status, stdout } = await run(made, ['prune'])
    assert.equal(status, 0)
    assert.match(
      stdout,
      /web1: put off until the next prune: nothing is removed: process \d+ reads its archives since /,
    )
    assert.match(stdout, /web1 +1 .* would go /)
  }
  assert.match((await run(made, ['prune'])).stdout, /web1 +1 .* removed +no rule keeps it\n/)
  past.nowMs += (trashDays + 0.5) * 24 * hour
  const [full, , third] = past.files('archives').map((name) => past.path(name)) as [string, string, string]
  const whole = readFileSync(full)
  writeFileSync(full, Buffer.concat([whole.subarray(0, -1), Buffer.from([0])]))
  const { stdout } = await run(made, ['prune'])
  const name = (path: string) => path.slice(path.lastIndexOf('/') + 1)
  assert.match(
    stdout,
    new RegExp(`web1: ${name(third)} was packed anew, and took over 2026-11-02\\S+: \\d+ B became \\d+ B\n`),
  )
  assert.match(stdout, new RegExp(`web1: ${name(full)} is not packed anew: ${full}: `))
  const again = await run(made, ['prune'])
  assert.match(
    again.stdout,
    new RegExp(`web1: ${name(full)} is not packed anew, as was found 2026-11-06 16:00: `),
  )
  assert.doesNotMatch(again.stdout, /was packed anew/)
  writeFileSync(full, whole)
  assert.match(
    (await run(made, ['prune'])).stdout,
    new RegExp(`web1: ${name(full)} was packed anew: [\\d.]+ [kKM]i?B became [\\d.]+ (K|k|)i?B\n`),
  )
})

test('verify finishes what a prune that was killed had begun, and finds no damage in it', async () => {
  using made = await makePast()
  const { past } = made
  await run(made, ['prune'])
  past.nowMs += (trashDays + 0.5) * 24 * hour
  assert.match((await run(made, ['prune'])).stdout, /was packed anew, and took over/)
  const { catalog } = past
  const one = catalog.archivedRuns('web1').find(({ id }) => id === 3)!
  // As it was when the new archive had just got its name.
  const row = {
    run: one.id,
    digest: Buffer.from(one.archive!.digest),
    archiveBytes: one.archive!.bytes,
    storedBytes: 3,
  }
  catalog.transaction(() => {
    catalog.statements.insertRepack.run({ ...row, absorbed: '[]' })
    catalog.database.prepare('UPDATE runs SET digest = zeroblob(32) WHERE id = ?').run(one.id)
  })
  const { status, stdout } = await run(made, ['verify'])
  assert.equal(status, 0)
  assert.match(stdout, /all is well/)
  assert.deepEqual(catalog.statements.repacks.all('web1'), [])
})

for (const [command, ...args] of [['verify'], ['export', 'web1'], ['restore', 'web1', '--target']]) {
  test(`${command} holds retention off while it reads, and not longer`, async () => {
    using made = await makePast()
    using own = new Catalog(made.past.repository.catalogFile, { now: () => made.past.nowMs })
    const seen: (string | null)[] = []
    const all = [command!, ...args, ...(command === 'restore' ? [made.past.folder.at('restored')] : [])]
    const { status, stderr } = await run(made, all, () => seen.push(findReader(own, 'web1')))
    assert.equal(status, 0, stderr)
    assert.match(seen[0] ?? 'nobody', /^process \d+ reads its archives since /)
    assert.equal(findReader(own, 'web1'), null)
  })
}
