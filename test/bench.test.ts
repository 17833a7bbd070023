/** The benchmark itself, on tiny trees: that it measures, what it writes, and that it leaves nothing behind. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { replaceFigures } from '../bench/document.ts'
import { drawGrowth, type GrowthStep } from '../bench/growth.ts'
import { formatGrowth } from '../bench/growth-table.ts'
import { type Report, reportWork } from '../bench/report.ts'
import { Tree } from '../bench/tree.ts'
import { planTree } from '../bench/tree-plan.ts'
import { Program, patienceMs } from './harness/program.ts'
import { readSnapshot } from './harness/snapshot.ts'

const main = join(import.meta.dirname, '..', 'bench', 'main.ts')

class TemporaryFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'central-backup-test-'))

  at(...parts: string[]): string {
    return join(this.path, ...parts)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true, maxRetries: 3 })
  }
}

function startBench(folder: string, ...args: string[]): Program {
  const small = ['--scale', '0.002', '--rounds', '1', '--dir', folder]
  return new Program([process.execPath, main, ...small, ...args])
}

/** Processes that were started with a path below `folder`. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder)
      } catch {
        return false
      }
    })
}

test('the bench measures ours beside tar, writes its figures as JSON and tables, and keeps only its trees', async () => {
  using folder = new TemporaryFolder()
  const [bench, json, page] = [folder.at('bench'), folder.at('figures.json'), folder.at('page.md')]
  writeFileSync(page, '# Figures\n\n<!-- figures: begin -->\nold\n<!-- figures: end -->\n\nEnd.\n')
  const args = [
    '--work',
    'full-small,unchanged,restore-one-small',
    '--peer',
    'tar',
    '--json',
    json,
    '--into',
    page,
  ]
  await using program = startBench(bench, ...args)
  const ended = await program.endWithin(patienceMs)
  assert.equal(ended.code, 0, ended.stderr)

  const report = JSON.parse(readFileSync(json, 'utf8')) as Report
  assert.equal(report.format, 1)
  assert.ok(Date.parse(report.date) <= Date.now())
  assert.deepEqual([report.rounds, report.scale, report.cold], [1, 0.002, false])
  assert.ok(report.machine.cores > 0 && report.machine.kernel !== '')
  for (const name of ['ours', 'node', 'tar', 'zstd']) assert.match(report.versions[name]!, /\d/)
  assert.deepEqual(Object.keys(report.peers), ['ours', 'tar'])
  assert.deepEqual(report.trees, [{ name: 'small', files: 131, bytes: report.trees[0]!.bytes }])
  assert.deepEqual(
    report.works.map(({ name, contenders }) => [name, ...contenders.map(({ peer }) => peer)]),
    [
      ['full-small', 'ours', 'tar'],
      ['unchanged-small', 'ours'],
      ['restore-one-small', 'ours', 'tar'],
    ],
  )
  const [ours, tar] = report.works[0]!.contenders
  assert.equal(ours!.runs.length, 1)
  assert.ok(ours!.cpuSeconds > 0.1, 'agent and server cannot have needed so little')
  assert.ok(ours!.memory.programs.agent! > 2 ** 20 && ours!.memory.programs.server! > 2 ** 20)
  assert.equal(tar!.ratio, ours!.seconds.median / tar!.seconds.median)
  assert.equal(tar!.goal, 1.25)

  assert.ok(ended.stdout.includes('### restore-one-small'))
  assert.equal(
    readFileSync(page, 'utf8').replace(ended.stdout, ''),
    '# Figures\n\n<!-- figures: begin -->\n\n\n<!-- figures: end -->\n\nEnd.\n',
  )
  assert.deepEqual(readdirSync(bench), ['trees'])
  assert.deepEqual(processesOf(folder.path), [])
})

test('a bench that is interrupted ends its agents and removes its work', async () => {
  using folder = new TemporaryFolder()
  await using program = startBench(
    folder.at('bench'),
    '--work',
    'full-small',
    '--peer',
    'tar',
    '--rounds',
    '100',
  )
  // How many there are depends on how slow the warm-up was.
  await program.until(() => /full-small 1\/\d+/.test(program.stderr) || undefined, 'the first round')
  assert.notDeepEqual(processesOf(folder.at('bench', 'work')), [])
  program.kill('SIGINT')
  const ended = await program.endWithin(patienceMs)
  assert.equal(ended.code, 130, ended.stderr)
  assert.deepEqual(readdirSync(folder.at('bench')), ['trees'])
  assert.deepEqual(processesOf(folder.path), [])
})

test('a mistake on the command line of the bench is told before anything is made', async () => {
  using folder = new TemporaryFolder()
  for (const mistake of [
    ['--work', 'fly'],
    ['--peer', 'cp'],
    ['--rounds', '0'],
    ['--scale', '2'],
    ['faster'],
    ['-x'],
  ]) {
    await using program = startBench(folder.at('bench'), ...mistake)
    const ended = await program.endWithin(patienceMs)
    assert.equal(ended.code, 2, mistake.join(' '))
    assert.match(ended.stderr, /^central-backup: /)
  }
  assert.ok(!existsSync(folder.at('bench')))
})

test('a tree is the same each time it is made, found again, and put back after it was changed', async () => {
  using folder = new TemporaryFolder()
  const { signal } = new AbortController()
  const plan = planTree('small', 0.002)
  const contents = (path: string) =>
    [...readSnapshot(path)].map(([name, { type, size, digest }]) => `${name} ${type} ${size} ${digest}`)
  const [first, second] = ['first', 'second'].map((name) => new Tree('small', folder.at(name), plan))
  for (const tree of [first!, second!]) await tree.make(signal)
  const made = contents(first!.folder)
  assert.deepEqual(made, contents(second!.folder))

  first!.change(0.3)
  const changed = contents(first!.folder)
  assert.ok(!first!.isMade(), 'a changed tree must not be taken for a whole one')
  const same = made.filter((line) => changed.includes(line)).length / made.length
  assert.ok(same > 0.4 && same < 0.9, `${same} of the files are as they were`)
  first!.putBack()
  assert.ok(first!.isMade())
  assert.deepEqual(contents(first!.folder), made)

  const { ino } = statSync(join(first!.folder, first!.singleFile))
  await first!.make(signal)
  assert.equal(statSync(join(first!.folder, first!.singleFile)).ino, ino)
})

test('medians, ratios and goals follow from the runs', () => {
  const run = (seconds: number, mebibytes: number) => ({
    seconds,
    cpuSeconds: seconds / 2,
    processes: [
      { name: 'server', peakBytes: 2 ** 20 },
      { name: 'agent', peakBytes: mebibytes * 2 ** 20 },
    ],
  })
  const measured = new Map([
    ['ours', [run(3, 100), run(1, 300), run(2, 200)]],
    ['tar', [run(4, 1), run(2, 1), run(1, 1), run(1, 1)]],
  ])
  const { contenders } = reportWork({ name: 'full-small', kind: 'full', tree: 'small' }, '', measured)
  const [ours, tar] = contenders
  assert.deepEqual(ours!.seconds, { median: 2, min: 1, max: 3 })
  assert.deepEqual(ours!.memory, {
    totalBytes: 301 * 2 ** 20,
    programs: { server: 2 ** 20, agent: 300 * 2 ** 20 },
  })
  assert.equal(ours!.reached, false)
  assert.deepEqual([tar!.seconds.median, tar!.ratio, tar!.goal, tar!.reached], [1.5, 2 / 1.5, 1.25, false])
})

test('growth becomes a table and a plot', () => {
  const point = { seconds: 1, cpuSeconds: 1, serverPeakBytes: 2 ** 27, agentPeakBytes: 2 ** 26 }
  const works = {
    full: point,
    unchanged: point,
    changed: point,
    'restore-one': point,
    find: point,
    ls: point,
  }
  const step = (files: number, runs: number): GrowthStep => ({ files, runs, catalogBytes: 1, works })
  const growth = {
    format: 1 as const,
    date: '2026-11-21T00:00:00.000Z',
    seconds: 1,
    rounds: 1,
    scale: 1,
    cold: false,
    machine: { cpu: '', cores: 1, memoryBytes: 1, kernel: '', system: '', fileSystem: '' },
    versions: {},
    trees: [],
    changedFiles: 100,
    byFiles: [step(1e4, 1), step(1e5, 1)],
    byRuns: [step(1e4, 1), step(1e4, 100)],
  }
  assert.match(formatGrowth(growth, 'growth.svg'), /!\[.+\]\(growth\.svg\)/)
  assert.match(formatGrowth(growth, null), /^\| +100,000 \|.*1\.00 \(64 \+ 128\)/m)
  const svg = drawGrowth(growth)
  assert.match(svg, /^<svg [^>]+>[\s\S]*<\/svg>\n$/)
  assert.equal(svg.match(/<g /g)?.length, 4)
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/)
})

test('figures go between the marks of a page, and a page without them is refused', () => {
  using folder = new TemporaryFolder()
  const page = folder.at('page.md')
  writeFileSync(page, 'a\n<!-- growth: begin, made by a command -->\n<!-- growth: end -->\nb\n')
  replaceFigures(page, 'growth', "costs $1 and $'\n")
  assert.equal(
    readFileSync(page, 'utf8'),
    "a\n<!-- growth: begin, made by a command -->\n\ncosts $1 and $'\n\n<!-- growth: end -->\nb\n",
  )
  assert.throws(() => replaceFigures(page, 'figures', 'x'), /has no marks/)
})
