import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createRepository } from '../src/storage/repository.ts'
import { HomeFolder } from './home-folder.ts'
import { packArchive } from './pack-archive.ts'
import { backupServerInProcess } from './run-in-process.ts'

const firstRun = Date.parse('2026-11-19T03:00:00Z')
const secondRun = Date.parse('2026-11-20T03:00:00Z')
const program = join(import.meta.dirname, '..', 'bin', 'backup-server.js')

/** A home with two runs of web1: in the first, `hosts` is `old`; in the second, `new`. */
async function siteWithRuns(home: HomeFolder) {
  await createRepository(home.at('repository'))
  const source = home.at('data')
  mkdirSync(join(source, 'etc/deep'), { recursive: true })
  chmodSync(join(source, 'etc'), 0o750)
  writeFileSync(join(source, 'etc/hosts'), 'old')
  await packArchive(home.at('repository'), 'web1', source, firstRun)
  writeFileSync(join(source, 'etc/hosts'), 'new\n'.repeat(1000))
  linkSync(join(source, 'etc/hosts'), join(source, 'etc/same'))
  linkSync(join(source, 'etc/hosts'), join(source, 'etc/deep/too'))
  symlinkSync('hosts', join(source, 'etc/link'))
  writeFileSync(join(source, 'etc/large'), Buffer.alloc(9_000_000, 'large '))
  const archive = await packArchive(home.at('repository'), 'web1', source, secondRun)
  const rebuilt = await backupServerInProcess(['--home', home.path, 'catalog', 'rebuild'])
  assert.equal(rebuilt.status, 0, rebuilt.stderr)
  const run = (...args: string[]) => backupServerInProcess(['--home', home.path, ...args], { cwd: home.path })
  return { source, archive, run, target: home.at('target'), restored: join(home.at('target'), source) }
}

function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

test('a restore brings back what stood at a time, below the target with its full path', async () => {
  using home = new HomeFolder()
  const { run, restored, source } = await siteWithRuns(home)
  const newest = await run('restore', 'web1', '--target', 'target')
  assert.equal(newest.status, 0, newest.stderr)
  assert.match(newest.stderr, /restored 2 files with 9 MB, \d+ folders, 3 links/)
  assert.equal(readFileSync(join(restored, 'etc/hosts'), 'utf8'), 'new\n'.repeat(1000))
  assert.equal(lstatSync(join(restored, 'etc/same')).ino, lstatSync(join(restored, 'etc/hosts')).ino)
  assert.equal(lstatSync(join(restored, 'etc')).mode & 0o7777, 0o750)

  const kept = await run(
    'restore',
    'web1',
    `${source}/etc/hosts`,
    '--target',
    'target',
    '--at',
    '2026-11-19T12:00:00Z',
  )
  assert.equal(kept.status, 0, kept.stderr)
  assert.match(kept.stderr, /differ and were kept: 1/)
  const older = await run(
    'restore',
    'web1',
    `${source}/etc/hosts`,
    '--target',
    'target',
    '--at',
    '1',
    '--overwrite',
    'always',
  )
  assert.equal(older.status, 0, older.stderr)
  assert.equal(readFileSync(join(restored, 'etc/hosts'), 'utf8'), 'old')
})

test('a dry run tells what would be done, and does nothing', async () => {
  using home = new HomeFolder()
  const { run, source, target } = await siteWithRuns(home)
  const { status, stdout, stderr } = await run(
    '--json',
    'restore',
    'web1',
    `${source}/etc`,
    '--target',
    'target',
    '--dry-run',
  )
  assert.equal(status, 0, stderr)
  assert.ok(!existsSync(target))
  const lines = jsonLines(stdout)
  assert.deepEqual(lines[0], {
    event: 'begin',
    host: 'web1',
    run: 2,
    startedAtMs: secondRun,
    outcome: 'complete',
    target,
  })
  const entries = lines.filter(({ event }) => event === 'entry')
  assert.ok(entries.every(({ action }) => action === 'create'))
  assert.ok(entries.some(({ path }) => path === `${source}/etc/deep/too`))
  assert.equal(lines.at(-1)!.contentBytes, 9_004_000)
})

test('damaged content is named, all else comes back, and the exit code says so', async () => {
  using home = new HomeFolder()
  const { run, archive, restored, source } = await siteWithRuns(home)
  const bytes = readFileSync(archive)
  bytes.fill(0x55, 10, 20)
  writeFileSync(archive, bytes)
  const { status, stdout } = await run('--json', 'restore', 'web1', '--target', 'target')
  assert.equal(status, 3)
  const damaged = jsonLines(stdout).filter(({ event }) => event === 'damaged')
  assert.deepEqual(
    damaged.map(({ path }) => path).sort(),
    ['deep/too', 'hosts', 'large', 'same'].map((name) => `${source}/etc/${name}`),
  )
  assert.deepEqual(readdirSync(join(restored, 'etc')), ['deep', 'link'])
})

test('what was never backed up, or at no such time, is a usage error that tells what to do', async () => {
  using home = new HomeFolder()
  const { run, source } = await siteWithRuns(home)
  for (const [args, message] of [
    [['restore', 'web1', '/nowhere', '--target', 'x'], /"\/nowhere" did not stand in run 2 of web1/],
    [['restore', 'web1', source, '--target', 'x', '--at', '2020-01-01'], /oldest backup of web1/],
    [['restore', 'web2', '--target', 'x'], /no backup of web2/],
    [['restore', 'web1'], /--target/],
    [['restore', 'web1', '--target', 'x', '--overwrite', 'maybe'], /never, older, always/],
  ] as const) {
    const { status, stderr } = await run(...args)
    assert.equal(status, 2, stderr)
    assert.match(stderr, message)
  }
  assert.ok(!existsSync(home.at('x')))
})

test('an export is a plain tar that tar unpacks, with links whose first name is not in it as files', async () => {
  using home = new HomeFolder()
  const { source, archive } = await siteWithRuns(home)
  const export_ = (...paths: string[]) =>
    spawnSync(process.execPath, [program, '--home', home.path, 'export', 'web1', ...paths], {
      maxBuffer: 1 << 26,
    })
  const whole = export_()
  assert.equal(whole.status, 0, whole.stderr.toString())
  mkdirSync(home.at('whole'))
  const unpacked = spawnSync('tar', ['-xpf', '-', '-C', home.at('whole')], { input: whole.stdout })
  assert.equal(unpacked.status, 0, unpacked.stderr.toString())
  assert.equal(spawnSync('diff', ['-r', source, join(home.at('whole'), source)]).stdout.toString(), '')

  const part = export_(`${source}/etc/same`, `${source}/etc/deep`)
  const listed = spawnSync('tar', ['-tvf', '-'], { input: part.stdout, encoding: 'utf8' }).stdout.split('\n')
  assert.match(listed.find((line) => line.includes('etc/deep/too'))!, /^-.* 4000 /)
  assert.match(listed.find((line) => line.includes('etc/same'))!, /^h.*link to .*etc\/deep\/too$/)

  const bytes = readFileSync(archive)
  bytes.fill(0x55, 10, 20)
  writeFileSync(archive, bytes)
  const damaged = export_()
  assert.equal(damaged.status, 3)
  assert.match(damaged.stderr.toString(), /damaged, left out: ".*\/etc\/hosts"/)
  const left = spawnSync('tar', ['-tf', '-'], { input: damaged.stdout, encoding: 'utf8' })
  assert.equal(left.status, 0, left.stderr)
  assert.ok(!left.stdout.includes('etc/hosts'))
  assert.ok(left.stdout.includes('etc/link'))
})

test('a restore of which nothing is usable has failed', async () => {
  using home = new HomeFolder()
  const { run, archive, source } = await siteWithRuns(home)
  rmSync(archive)
  const { status, stderr } = await run('restore', 'web1', `${source}/etc/large`, '--target', 'target')
  assert.equal(status, 1)
  assert.match(stderr, /damaged: .*etc\/large: ENOENT/)
})
